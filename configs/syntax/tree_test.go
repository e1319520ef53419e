package syntax_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"topicast/configs/syntax"
)

// Every value and every key stands where its line and column say.
func TestPlacesAreThoseOfTheText(t *testing.T) {
	seen := make(map[string]int)
	for file, data := range everyConfiguration(t) {
		root, err := syntax.Parse(file, data, syntax.Keys{})
		if err != nil {
			continue
		}
		rows := strings.Split(string(data), "\n")
		at := func(p syntax.Place) string { return string([]rune(rows[p.Line-1])[p.Column-1:]) }
		var check func(n *syntax.Node)
		check = func(n *syntax.Node) {
			switch n.Kind {
			case syntax.Table, syntax.List:
			case syntax.Null:
				return
			default:
				seen[filepath.Ext(file)]++
				if got := strings.TrimLeft(at(n.At), `"\'`); !strings.HasPrefix(got, n.Text) {
					t.Errorf("%s:%d:%d: %q is not %q", file, n.At.Line, n.At.Column, got, n.Text)
				}
			}
			for i := range n.Entries {
				e := &n.Entries[i]
				if e.Key != "" && !strings.HasPrefix(strings.TrimLeft(at(e.At), `"`), e.Key) {
					t.Errorf("%s:%d:%d: %q is not the key %s", file, e.At.Line, e.At.Column, at(e.At), e.Key)
				}
				check(&e.Value)
			}
		}
		check(&root)
	}
	for _, ext := range []string{".yaml", ".toml", ".json"} {
		if seen[ext] < 20 {
			t.Errorf("only %d values seen in %s", seen[ext], ext)
		}
	}
}

func TestPlacesOfOffsets(t *testing.T) {
	l := syntax.NewLines([]byte("äb\n\nc"))
	for _, test := range []struct {
		offset int
		want   syntax.Place
	}{{5, syntax.Place{3, 1}}, {2, syntax.Place{1, 2}}, {0, syntax.Place{1, 1}}, {3, syntax.Place{1, 3}}, {4, syntax.Place{2, 1}}, {6, syntax.Place{3, 2}}, {99, syntax.Place{3, 2}}, {-1, syntax.Place{1, 1}}} {
		if got := l.PlaceOf(test.offset); got != test.want {
			t.Errorf("%d: %v, want %v", test.offset, got, test.want)
		}
	}
}

// Faults of a list are told where its value stands, in whatever way it is written.
func TestPathsAreLocatedInLists(t *testing.T) {
	root, err := syntax.Parse("x.yaml", []byte("receive:\n  - group:\n      - a\n      - b\n    source: c\n"), words)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]syntax.Place{
		"receive":              {2, 3},
		"receive[0]":           {2, 5},
		"receive[0].group":     {3, 7},
		"receive[0].group[1]":  {4, 9},
		"receive[0].group[2]":  {3, 7},
		"receive[0].source":    {5, 13},
		"receive[0].source[0]": {5, 13},
		"receive[0].topic":     {2, 5},
		"receive[7].topic":     {2, 3},
		"send":                 {1, 1},
	} {
		if got := root.Locate(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
}

func TestTheNameTellsTheFormat(t *testing.T) {
	for name, text := range map[string]string{
		"a.yaml": "a: {b: 1}", "a.YML": "a:\n  b: 1", "a.toml": "[a]\nb = 1", "a.json": `{"a": {"b": 1}}`,
		"windows.yaml": "\xef\xbb\xbfa: {b: 1}\r\n",
	} {
		root, err := syntax.Parse(name, []byte(text), syntax.Keys{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a := root.Entry("a"); a == nil || a.Value.Entry("b") == nil || a.Value.Entry("b").Value.Text != "1" {
			t.Errorf("%s: %+v", name, root)
		}
	}
	for name, want := range map[string]string{
		"a":     "has no extension, which tells the format",
		"a.ini": `the extension ".ini" is of no format that is known here`,
	} {
		if _, err := syntax.Parse(name, []byte("a: 1"), syntax.Keys{}); err == nil || err.Error() != want || err.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"a.yaml", "a.json"} {
		if root, err := syntax.Parse(name, []byte(" \n"), syntax.Keys{}); err != nil || root.Kind != syntax.Null {
			t.Errorf("%s: %v, %v", name, root.Kind, err)
		}
	}
}

func TestATagIsAnErrorOfItsOwn(t *testing.T) {
	_, err := syntax.Parse("x.yaml", []byte("a:\n  b: !env HOME\n"), syntax.Keys{})
	if err == nil || !errors.Is(err, syntax.ErrTag) || err.Error() != "!env is a tag that means nothing here" || err.At != (syntax.Place{Line: 2, Column: 6}) {
		t.Errorf("%+v", err)
	}
}

// A ! that stands alone is a tag too, and not a part of the value, nor nothing.
func TestAnExclamationMarkAloneIsATag(t *testing.T) {
	for text, column := range map[string]int32{
		"a: ! abc": 4, "a: ! 12": 4, "a: !": 4, "b: !\r\na: 1": 4, "ü: [x, ! 'abc']": 8, "a: ! |\n  x": 4, "a: !\tx": 4,
	} {
		_, err := syntax.Parse("x.yaml", []byte(text), syntax.Keys{})
		if err == nil || !errors.Is(err, syntax.ErrTag) || err.At != (syntax.Place{Line: 1, Column: column}) || !strings.Contains(err.Hint, "quotes") {
			t.Errorf("%q: %+v", text, err)
		}
	}
	for _, text := range []string{"a: '! abc'", "a: b! c", "a: b !", "a: !!str 12", "# ! ü\na: 1", "a: |\n  ! x", "a: b\n  ! c", "! a: b"} {
		if root, err := syntax.Parse("x.yaml", []byte(text), syntax.Keys{}); err != nil || len(root.Entries) != 1 {
			t.Errorf("%q: %v, %v", text, root, err)
		}
	}
	secret := syntax.Keys{Secret: func(key string) bool { return key == "password" }}
	if _, err := syntax.Parse("x.yaml", []byte("password: !!str abc"), secret); err == nil || !errors.Is(err, syntax.ErrTag) {
		t.Errorf("a tag in front of a password: %v", err)
	}
}

// everyConfiguration is every file of package configs in one of the formats, by name.
func everyConfiguration(t testing.TB) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".toml", ".json"}, filepath.Ext(path)) {
			return err
		}
		files[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
