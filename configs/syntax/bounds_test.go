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
	all, counted, items := syntax.MaxValues, syntax.MaxCounted, syntax.MaxItems
	values := fmt.Sprintf("the file has more than %d values", all)
	forLibrary := fmt.Sprintf("the file has more than %d values", counted)
	entries := fmt.Sprintf("the list has more than %d entries", items)
	for _, c := range []struct {
		name, file, text, want string
		line                   int32
	}{
		{"lines of plain YAML", "x.yaml", "send:\n" + strings.Repeat("- a\n", items+1), entries, int32(items) + 2},
		{"sections of plain YAML", "x.yaml", "send:\n" + strings.Repeat("- a: 1\n  b: 2\n  c: 3\n  d: 4\n  e: 5\n  f: 6\n", items), values, 0},
		{"brackets of plain YAML", "x.yaml", "send: [" + strings.Repeat("{},", items) + "{}]\n", entries, 1},
		{"braces of plain YAML", "x.yaml", "send:\n" + strings.Repeat("- {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6}\n", items), values, 0},
		{"YAML for the library", "x.yaml", library + "send: [" + strings.Repeat("1,\n", counted) + "1]\n", forLibrary, int32(counted)/2 + 1},
		{"brackets for the library", "x.yaml", library + "send: [" + strings.Repeat("[],", counted) + "1]\n", forLibrary, 2},
		{"dashes for the library", "x.yaml", library + strings.Repeat(strings.Repeat("- ", 1000)+"a\n", counted/1000+1), forLibrary, 0},
		{"a list for the library", "x.yaml", library + strings.Repeat("- a\n", items+1), entries, 2},
		{"merged sections", "x.yaml", library + "a: &a {" + keys(syntax.MaxKeys-1, ": 1, ") + "}\nb:\n" + strings.Repeat("- <<: *a\n", all/(syntax.MaxKeys-1)+1), values, 0},
		{"blank lines for the library", "x.yaml", library + strings.Repeat("\n", syntax.MaxLines) + "a: 1\n", fmt.Sprintf("the file has more than %d lines", syntax.MaxLines), int32(syntax.MaxLines) + 1},
		{"TOML", "x.toml", "a = [" + strings.Repeat("1,\n", counted) + "1]\n", forLibrary, int32(counted) / 2},
		{"a list of TOML", "x.toml", "a = [" + strings.Repeat("1,", items) + "1]\n", entries, 1},
		{"sections of TOML", "x.toml", strings.Repeat("[[send]]\na = 1\nb = 2\n", counted/4), forLibrary, 0},
		{"JSON", "x.json", `{"a": [` + strings.Repeat("1,\n", items) + "1]}", entries, int32(items) + 1},
		{"sections of JSON", "x.json", `{"a": [` + strings.Repeat(`{"b": 1,"c": 1,"d": 1,"e": 1,"f": 1,"g": 1},`, items-1) + "1]}", values, 1},
	} {
		_, err := syntax.Parse(c.file, []byte(c.text), syntax.Keys{})
		if err == nil || err.Error() != c.want || err.Hint == "" {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		} else if c.line != 0 && err.At.Line != c.line || err.At.Line == 0 {
			t.Errorf("%s: line %d, want %d", c.name, err.At.Line, c.line)
		}
	}
}

// library is a comment that has the library read the file.
const library = "#\t\n"

// As many as it may have are read, and comments count for nothing.
func TestAFileWithManyValuesIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"x.yaml":   "send:\n" + strings.Repeat("- a\n", syntax.MaxItems),
		"rich.yml": "send:\n" + strings.Repeat("- {a: 1, b: 2, c: 3, d: 4, e: 5}\n", 30_000),
		"x.yml":    strings.Repeat("# a, b, c, ü\n", syntax.MaxValues+1) + "a: 1\n",
		"lib.yaml": library + "send:\n" + strings.Repeat("- {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9, j: 10}\n", 10_000),
		"x.toml":   strings.Repeat("# a, b, c\n", syntax.MaxLines-1) + "a = 1\n",
		"x2.json":  `{"a": [` + strings.Repeat("1,", syntax.MaxItems-1) + "1]}",
	} {
		if _, err := syntax.Parse(name, []byte(text), syntax.Keys{}); err != nil {
			t.Errorf("%s: line %d: %v", name, err.At.Line, err)
		}
	}
}

// A value that is longer than any that a configuration has is refused, in each format.
func TestTheLengthOfAValueIsBounded(t *testing.T) {
	for name, text := range map[string]string{
		"plain.yaml":   "a: %s\n",
		"quoted.yaml":  "a: \"%s\"\n",
		"flow.yaml":    "a: [%s]\n",
		"library.yaml": library + "a: %s\n",
		"key.yaml":     library + "? %s\n: 1\n",
		"x.toml":       "a = \"%s\"\n",
		"key.toml":     "\"%s\" = 1\n",
		"x.json":       `{"a": "%s"}`,
		"key.json":     `{"%s": 1}`,
	} {
		for more := range 2 {
			value := strings.Repeat("x", syntax.MaxText+more)
			_, err := syntax.Parse(name, fmt.Appendf(nil, text, value), syntax.Keys{})
			if refused := err != nil; refused != (more > 0) || refused && err.Error() != fmt.Sprintf("the value is longer than %d bytes", syntax.MaxText) {
				t.Errorf("%s, %d bytes more than it may have: %v", name, more, err)
			}
		}
	}
}

func TestKeysOfASectionAreBounded(t *testing.T) {
	for name, text := range map[string]string{
		"block.yaml":   strings.ReplaceAll(keys(syntax.MaxKeys+1, ": 1\n"), "1", "x"),
		"flow.yaml":    "a: {" + keys(syntax.MaxKeys, ": 1, ") + "z: 1}\n",
		"library.yaml": library + keys(syntax.MaxKeys+1, ": 1\n"),
		"merged.yaml":  library + "a: &a {" + keys(syntax.MaxKeys, ": 1, ") + "}\nb: {<<: *a, z: 1}\n",
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
