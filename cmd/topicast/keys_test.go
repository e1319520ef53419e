package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"topicast/mapping"
)

// A key that nothing looks at changes nothing, whatever the reference says of it.
func TestEveryKeyOfARuleHasSomethingThatGoesByIt(t *testing.T) {
	used := make(map[string]bool)
	for file := range sources(t) {
		if !strings.HasPrefix(file, "mapping/") && !strings.HasPrefix(file, "bridge/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		called := make(map[ast.Expr]bool) // methods, which are visited after their call
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				called[n.Fun] = true
			case *ast.SelectorExpr:
				used[n.Sel.Name] = used[n.Sel.Name] || !called[n]
			}
			return true
		})
	}
	for _, of := range []reflect.Type{reflect.TypeFor[mapping.SendRule](), reflect.TypeFor[mapping.Binding](), reflect.TypeFor[mapping.ReceiveRule]()} {
		for i := range of.NumField() {
			if name := of.Field(i).Name; !used[name] {
				t.Errorf("nothing in mapping or bridge looks at %v.%s", of, name)
			}
		}
	}
}
