package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The library reports where it noticed that the text is not YAML, without a column.
// The usual slips are looked for here, in the row of the fault and in the one before
// it, and are reported with their place and with what to write.

// yamlRow is a row without its end, taken apart.
type yamlRow struct {
	line   int
	text   string // without the white space at its end
	indent string // the white space at its beginning
	inner  string // the rest of it, without the dashes of a list
	at     int    // where inner begins, in characters from 1
}

func newYAMLRow(rows [][]byte, line int) yamlRow {
	r := yamlRow{line: line, text: strings.TrimRightFunc(string(rows[line-1]), unicode.IsSpace)}
	r.inner = strings.TrimLeftFunc(r.text, unicode.IsSpace)
	r.indent = r.text[:len(r.text)-len(r.inner)]
	for strings.HasPrefix(r.inner, "- ") {
		r.inner = strings.TrimLeft(r.inner[1:], " ")
	}
	r.at = utf8.RuneCountInString(r.text[:len(r.text)-len(r.inner)]) + 1
	return r
}

// slip returns a syntax error at an offset into inner.
func (r yamlRow) slip(offset int, hint, format string, args ...any) *Error {
	column := r.at + utf8.RuneCountInString(r.inner[:offset])
	return &Error{At: Place{int32(r.line), int32(column)}, Err: fmt.Errorf(format, args...), Hint: hint}
}

// yamlSlip returns the slip in a line that the library found a fault in, or nil.
func yamlSlip(rows [][]byte, line int, keys Keys, message string) *Error {
	row := newYAMLRow(rows, line)
	if e := notText(rows[line-1], line); e != nil {
		return e
	}
	if e := row.indentation(); e != nil {
		return e
	}
	if e := row.keySlip(keys); e != nil {
		return e
	}
	before := line - 1
	for before > 0 && blankYAML(rows[before-1]) {
		before--
	}
	if before > 0 { // what has no colon is a value, which goes on in the next row
		if e := newYAMLRow(rows, before).keySlip(keys); e != nil {
			return e
		}
	}
	if e := row.valueSlip(message); e != nil {
		return e
	}
	if before > 0 { // with other white space it is a row at the margin
		if e := newYAMLRow(rows, before).indentation(); e != nil {
			return e
		}
	}
	return row.misaligned(rows[:before])
}

// notText finds what no text may contain.
func notText(row []byte, line int) *Error {
	column := int32(0)
	for at := 0; at < len(row); {
		c, size := utf8.DecodeRune(row[at:])
		column++
		at += size
		switch {
		case c == utf8.RuneError && size == 1:
			return &Error{At: Place{int32(line), column}, Err: fmt.Errorf("the byte %#x is not UTF-8", row[at-1]), Hint: "save the file as UTF-8"}
		case unicode.IsControl(c) && !unicode.IsSpace(c):
			return &Error{At: Place{int32(line), column}, Err: fmt.Errorf("the control character %U", c), Hint: "take it out"}
		}
	}
	return nil
}

// indentation refuses what looks like a space, and is none to YAML.
func (r yamlRow) indentation() *Error {
	column := 0
	for _, c := range r.indent {
		column++
		at := Place{int32(r.line), int32(column)}
		switch c {
		case ' ':
		case '\t':
			return &Error{At: at, Err: errors.New("a tab in the indentation"), Hint: "indent with spaces"}
		default:
			return &Error{At: at, Err: fmt.Errorf("the character %U in the indentation looks like a space, and is none", c), Hint: "indent with spaces"}
		}
	}
	return nil
}

var (
	yamlKeyValue = regexp.MustCompile(`^([A-Za-z_-]+)(:|\s*=\s*|\s+|)(.*)$`)
	yamlNoBlank  = regexp.MustCompile(`^-([A-Za-z_]+):`)
)

// keySlip finds a wrong separator between a key and its value.
func (r yamlRow) keySlip(keys Keys) *Error {
	if m := yamlNoBlank.FindStringSubmatch(r.inner); m != nil && keys.has(m[1]) {
		return r.slip(1, "write - "+m[1]+":", "no space after the dash")
	}
	if strings.HasPrefix(r.inner, "-\t") {
		return r.slip(1, "put a space in its place", "a tab after the dash")
	}
	m := yamlKeyValue.FindStringSubmatch(r.inner)
	if m == nil || !keys.has(m[1]) {
		return nil
	}
	key, by, value := m[1], m[2], m[3]
	value, _, _ = strings.Cut(value, " #")
	first, _ := utf8.DecodeRuneInString(value)
	shown := strings.TrimSpace(value)
	if keys.Secret != nil && keys.Secret(key) {
		shown = "…"
	}
	hint := strings.TrimSpace("write " + key + ": " + shown)
	switch {
	case by == ":" && first > '~' && unicode.IsSpace(first):
		return r.slip(len(key)+1, "put a space in its place", "the character %U after the colon looks like a space, and is none", first)
	case by == ":" && value != "" && first != ' ' && first != '\t':
		return r.slip(len(key)+1, hint, "no space after the colon")
	case strings.Contains(by, "=") && !strings.HasPrefix(value, "="):
		return r.slip(strings.IndexByte(r.inner, '='), hint, "= in the place of a colon")
	case by == "" && value == "":
		return r.slip(len(key), "write "+key+":", "no colon after the key")
	case strings.TrimSpace(by) == "" && by != "" && !strings.Contains(value, ": ") && !strings.HasPrefix(value, ":"):
		return r.slip(len(key), hint, "no colon after the key")
	}
	return nil
}

// block is a section or a list that the next row may go on with.
type block struct {
	column, line int // of its keys or dashes, and where the last of them is
	list         bool
}

// misaligned returns an error with the indentation that a row would have to have, the
// rows before it being right.
func (r yamlRow) misaligned(before [][]byte) *Error {
	blocks := openBlocks(before)
	column := utf8.RuneCountInString(r.indent) + 1
	dash := strings.HasPrefix(r.text[len(r.indent):], "-")
	if len(blocks) == 0 || !dash && yamlValue.FindString(r.inner+" ") == "" {
		return nil
	}
	var meant, at *block
	for i := range blocks {
		b := &blocks[i]
		if b.column == column {
			at = b
		}
		if far := func(b *block) int { return max(b.column-column, column-b.column) }; b.list == dash && (meant == nil || far(b) <= far(meant)) {
			meant = b
		}
	}
	if meant == nil || meant.column == column {
		return nil
	}
	e := &Error{
		At:   Place{int32(r.line), int32(column)},
		Err:  fmt.Errorf("indented by %d, which fits nothing above it", column-1),
		Hint: fmt.Sprintf("indent it by %d, as line %d is", meant.column-1, meant.line),
	}
	switch {
	case at != nil && at.list:
		e.Err = errors.New("a key where the dashes of a list stand")
	case at != nil:
		e.Err = errors.New("a dash where keys stand")
	}
	return e
}

// openBlocks returns the sections and lists that a text ends in, the outermost first.
func openBlocks(rows [][]byte) (blocks []block) {
	var document yaml.Node
	if yaml.Unmarshal(bytes.Join(rows, nil), &document) != nil || len(document.Content) == 0 {
		return nil
	}
	for n := document.Content[0]; n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0; n = n.Content[len(n.Content)-1] {
		b := block{column: n.Column, list: n.Kind == yaml.SequenceNode}
		switch {
		case b.list:
			b.line = n.Content[len(n.Content)-1].Line
		case n.Kind == yaml.MappingNode:
			b.line = n.Content[len(n.Content)-2].Line
		default:
			return blocks
		}
		blocks = append(blocks, b)
	}
	return blocks
}
