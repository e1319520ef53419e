package syntax_test

import (
	"fmt"
	"strings"
	"testing"

	"topicast/configs/syntax"
)

// A file with more values than any configuration has is refused with the line, in each format
// and however it is written, before the memory is taken that they would need.
func TestValuesAreBounded(t *testing.T) {
	many := syntax.MaxValues
	for _, c := range []struct {
		name, file, text string
		line             int32
	}{
		{"lines of plain YAML", "x.yaml", "send:\n" + strings.Repeat("- a\n", many), int32(many) + 1},
		{"sections of plain YAML", "x.yaml", "send:\n" + strings.Repeat("- a: 1\n  b: 2\n", many/2), 0},
		{"brackets of plain YAML", "x.yaml", "send: [" + strings.Repeat("{},", many) + "{}]\n", 1},
		{"YAML for the library", "x.yaml", "# ü\nsend: [" + strings.Repeat("1,\n", many) + "1]\n", int32(many)/2 + 1},
		{"brackets for the library", "x.yaml", "# ü\nsend: [" + strings.Repeat("[],", many) + "1]\n", 2},
		{"dashes for the library", "x.yaml", "# ü\n" + strings.Repeat(strings.Repeat("- ", 1000)+"a\n", many/1000), 0},
		{"merged sections", "x.yaml", "# ü\na: &a {" + keys(syntax.MaxKeys-1, ": 1, ") + "}\nb:\n" + strings.Repeat("- <<: *a\n", many/(syntax.MaxKeys-1)+1), 0},
		{"TOML", "x.toml", "a = [" + strings.Repeat("1,\n", many) + "1]\n", int32(many) / 2},
		{"sections of TOML", "x.toml", strings.Repeat("[[send]]\na = 1\n", many/2), 0},
		{"JSON", "x.json", `{"a": [` + strings.Repeat("1,\n", many) + "1]}", int32(many) - 1},
		{"sections of JSON", "x.json", `{"a": [` + strings.Repeat(`{"b": 1},`, many/2) + "1]}", 1},
	} {
		_, err := syntax.Parse(c.file, []byte(c.text), syntax.Keys{})
		if err == nil || err.Error() != fmt.Sprintf("the file has more than %d values", many) || err.Hint == "" {
			t.Errorf("%s: %v", c.name, err)
		} else if c.line != 0 && err.At.Line != c.line || err.At.Line == 0 {
			t.Errorf("%s: line %d, want %d", c.name, err.At.Line, c.line)
		}
	}
}

// As many as it may have are read, and comments count for nothing.
func TestAFileWithManyValuesIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"x.yaml":  "send:\n" + strings.Repeat("- a\n", syntax.MaxValues-1),
		"x.yml":   strings.Repeat("# a, b, c, ü\n", syntax.MaxValues) + "a: 1\n",
		"x.toml":  strings.Repeat("# a, b, c\n", syntax.MaxValues) + "a = 1\n",
		"x2.json": `{"a": [` + strings.Repeat("1,", syntax.MaxValues-3) + "1]}",
	} {
		if _, err := syntax.Parse(name, []byte(text), syntax.Keys{}); err != nil {
			t.Errorf("%s: line %d: %v", name, err.At.Line, err)
		}
	}
}

func TestKeysOfASectionAreBounded(t *testing.T) {
	for name, text := range map[string]string{
		"block.yaml":   strings.ReplaceAll(keys(syntax.MaxKeys+1, ": 1\n"), "1", "x"),
		"flow.yaml":    "a: {" + keys(syntax.MaxKeys, ": 1, ") + "z: 1}\n",
		"library.yaml": "# ü\n" + keys(syntax.MaxKeys+1, ": 1\n"),
		"merged.yaml":  "# ü\na: &a {" + keys(syntax.MaxKeys, ": 1, ") + "}\nb: {<<: *a, z: 1}\n",
		"keys.toml":    keys(syntax.MaxKeys+1, " = 1\n"),
		"dotted.toml":  keys(syntax.MaxKeys+1, ".b = 1\n"),
		"tables.toml":  "[" + keys(syntax.MaxKeys, "]\n[") + "z]\n",
		"keys.json":    `{"` + keys(syntax.MaxKeys, `": 1, "`) + `z": 1}`,
	} {
		_, err := syntax.Parse(name, []byte(text), syntax.Keys{})
		if err == nil || err.Error() != fmt.Sprintf("the section has more than %d keys", syntax.MaxKeys) || err.At.Line == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// keys are so many, which letters tell apart, each with what follows it.
func keys(n int, with string) string {
	var b strings.Builder
	for i := range n {
		for _, digit := range fmt.Sprintf("%04d", i) {
			b.WriteByte(byte('a' + digit - '0'))
		}
		b.WriteString(with)
	}
	return b.String()
}
