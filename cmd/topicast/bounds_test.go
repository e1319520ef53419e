package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"topicast/configs"
)

// Each row of docs/bounds.md names a key with its default, or constants of the code with
// their values, and tests that there are.
func TestEveryBoundIsInTheCodeAsDocumentedAndHeldByATest(t *testing.T) {
	code, tests := constants(t), testNames(t)
	keys := make(map[string]string)
	for _, v := range configs.Variables() {
		keys[v.Key] = v.Default
	}
	for _, list := range [][]configs.Key{configs.SendKeys(), configs.ReceiveKeys()} {
		for _, k := range list {
			keys[k.Name] = k.Default()
		}
	}
	rows := 0
	for line := range strings.Lines(document(t, "docs/bounds.md")) {
		row := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.TrimSpace(row[0]) == "what" {
			continue
		}
		rows++
		if len(row) != 5 {
			t.Errorf("%d columns, want 5: %s", len(row), line)
			continue
		}
		places, sizes, held := quoted(row[1]), strings.Split(row[2], ";"), quoted(row[4])
		if len(places) == 0 || len(places) != len(sizes) {
			t.Errorf("%q are %d places, and %q are %d sizes", row[1], len(places), row[2], len(sizes))
			continue
		}
		for i, place := range places {
			size := strings.TrimSpace(sizes[i])
			if value, ok := code.value(place); ok {
				if want, err := sizeOf(size); err != nil || !constant.Compare(value, token.EQL, want) {
					t.Errorf("%s is %v, and docs/bounds.md says %s (%v)", place, value, size, err)
				}
			} else if value, ok := keys[place]; !ok {
				t.Errorf("there is no key and no constant %s", place)
			} else if value = strings.TrimSpace("`" + value + "`"); size != value {
				t.Errorf("%s is %s where nothing is given, and docs/bounds.md says %s", place, value, size)
			}
		}
		for _, name := range held {
			if !slices.Contains(tests, name) {
				t.Errorf("there is no test %s", name)
			}
		}
		if len(held) == 0 {
			t.Errorf("no test holds %s", strings.TrimSpace(row[0]))
		}
	}
	if rows < 20 {
		t.Errorf("found only %d rows", rows)
	}
}

func quoted(cell string) (names []string) {
	for _, m := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	return names
}

// sizeOf is a size of the table as the code has it: 4096, 64 KiB, 30 s (in nanoseconds),
// 16 bytes.
func sizeOf(text string) (constant.Value, error) {
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
	if err != nil {
		return nil, err
	}
	units := map[string]int64{"": 1, "%": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "bytes": 1,
		"ms": int64(time.Millisecond), "s": int64(time.Second), "min": int64(time.Minute), "h": int64(time.Hour)}
	if units[unit] == 0 {
		return nil, fmt.Errorf("%q is no unit", unit)
	}
	return constant.MakeInt64(n * units[unit]), nil
}

// testNames are those of all tests.
func testNames(t *testing.T) (names []string) {
	t.Helper()
	walk(t, func(name string) bool { return strings.HasSuffix(name, "_test.go") }, func(_, text string) {
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
	})
	return names
}

// walk reads the files whose path, from the root, is taken.
func walk(t *testing.T, take func(name string) bool, read func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !take(name) {
			return err
		}
		text, err := os.ReadFile(filepath.Join("../..", name))
		read(name, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// constantsOf are the constants of the packages of ours, outside of functions.
type constantsOf map[string]ast.Expr // by bridge/session.maxBatch

func constants(t *testing.T) constantsOf {
	t.Helper()
	found := make(constantsOf)
	ours := func(name string) bool {
		return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "internal/lab/")
	}
	walk(t, ours, func(name, text string) {
		f, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, s := range g.Specs {
					for i, n := range s.(*ast.ValueSpec).Names {
						if values := s.(*ast.ValueSpec).Values; i < len(values) {
							found[path.Dir(name)+"."+n.Name] = values[i]
						}
					}
				}
			}
		}
	})
	return found
}

// value is that of a constant, whole number or duration, by its package and name.
func (c constantsOf) value(place string) (constant.Value, bool) {
	pkg, _, ok := strings.Cut(place, ".")
	if e := c[place]; ok && e != nil {
		v := c.evaluate(pkg, e)
		return v, v.Kind() == constant.Int
	}
	return nil, false
}

var ofStandardLibrary = map[string]int64{
	"time.Nanosecond": 1, "time.Microsecond": 1e3, "time.Millisecond": 1e6, "time.Second": 1e9, "time.Minute": 60e9, "time.Hour": 3600e9,
	"math.MaxInt32": 1<<31 - 1, "math.MaxUint16": 1<<16 - 1,
}

func (c constantsOf) evaluate(pkg string, e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.ParenExpr:
		return c.evaluate(pkg, e.X)
	case *ast.Ident:
		if is := c[pkg+"."+e.Name]; is != nil {
			return c.evaluate(pkg, is)
		}
	case *ast.SelectorExpr:
		short := fmt.Sprint(e.X) + "." + e.Sel.Name
		if n, ok := ofStandardLibrary[short]; ok {
			return constant.MakeInt64(n)
		}
		for place, is := range c {
			if path.Base(place) == short {
				return c.evaluate(strings.TrimSuffix(place, "."+e.Sel.Name), is)
			}
		}
	case *ast.CallExpr: // a conversion: time.Duration(x), int64(x)
		if len(e.Args) == 1 {
			return c.evaluate(pkg, e.Args[0])
		}
	case *ast.BinaryExpr:
		x, y := constant.ToInt(c.evaluate(pkg, e.X)), constant.ToInt(c.evaluate(pkg, e.Y))
		n, exact := constant.Uint64Val(y)
		switch {
		case x.Kind() != constant.Int || y.Kind() != constant.Int:
		case e.Op == token.SHL && exact:
			return constant.Shift(x, token.SHL, uint(n))
		case e.Op == token.QUO && n != 0:
			return constant.BinaryOp(x, token.QUO_ASSIGN, y) // of whole numbers
		case e.Op == token.ADD || e.Op == token.SUB || e.Op == token.MUL:
			return constant.BinaryOp(x, e.Op, y)
		}
	}
	return constant.MakeUnknown()
}
