package syntax

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	"go.yaml.in/yaml/v3"
)

// parsePlainYAML reads the YAML that configurations are nearly always written
// in: sections and lists by indentation, one key a line, values plain or in
// quotes, or in braces and brackets that end with their line. Of anything else, right or wrong, it reports that it cannot read it, and the library does.
//
// It is here for long lists: of 100 ms that it takes to load a configuration of
// 10,000 rules, 64 are the library's, and 33 MB; here it is 11 ms and 13 MB. What it
// reads, it reads as the library does: FuzzPlainYAML holds the two together. The error is
// that the file has too much.
func parsePlainYAML(data []byte) (root Node, ok bool, err *Error) {
	// One string, which all keys and values are parts of: none is copied, and nobody changes data.
	p := plainYAML{rest: unsafe.String(unsafe.SliceData(data), len(data)), ok: true}
	p.next()
	if p.ok && !p.end {
		root = p.block()
	}
	return root, p.ok && p.end && root.Kind != Null, p.err
}

// plainYAML stands at a line that is not blank.
type plainYAML struct {
	rest   string // behind the line
	line   string // without indentation
	number int32
	indent int32
	depth  int
	wide   bool   // the line has characters of more than one byte
	last   [2]int // how many entries the last tables had
	end    bool   // there is no line any more
	ok     bool   // nothing has been seen that is for the library
	bounds
}

func (p *plainYAML) fail() Node {
	p.ok, p.end = false, true
	return Node{}
}

// next goes to the next line that is neither blank nor a comment.
func (p *plainYAML) next() {
	for {
		if len(p.rest) == 0 {
			p.end = true
			return
		}
		p.number++
		var row string
		row, p.rest, _ = strings.Cut(p.rest, "\n")
		row = strings.TrimSuffix(row, "\r")
		p.wide = false
		for i := range len(row) {
			if c := row[i]; c < ' ' || c == 0x7f { // tabs, returns
				p.fail()
				return
			} else if c > '~' {
				p.wide = true
			}
		}
		if p.wide && strings.ContainsFunc(row, notPlain) {
			p.fail()
			return
		}
		p.line = strings.TrimLeft(row, " ")
		if p.indent = int32(len(row) - len(p.line)); len(p.line) > 0 && p.line[0] != '#' {
			return
		}
	}
}

// notPlain reports whether a character is for the library: bytes that are not UTF-8, line ends of
// other alphabets, what cannot be printed (yaml.org/spec/1.2.2, 5.1), and all that is rare.
func notPlain(c rune) bool { return c > '~' && (c < 0xa1 || c > 0x1fff) && (c < 0x3000 || c > 0xd7ff) }

func (p *plainYAML) place() Place { return p.placeOf(p.line) }

// placeOf returns the place of s, which is the end of the line.
func (p *plainYAML) placeOf(s string) Place {
	before := len(p.line) - len(s)
	if p.wide {
		before = utf8.RuneCountInString(p.line[:before])
	}
	return Place{p.number, p.indent + int32(before) + 1}
}

// block reads the table or the list whose lines have the indentation of this.
func (p *plainYAML) block() Node {
	if p.depth++; p.depth > 100 {
		return p.fail()
	}
	defer func() { p.depth-- }()
	indent := p.indent
	n := Node{Kind: Table, At: p.place()}
	if p.dash() {
		n.Kind = List
		if p.depth == 2 { // perhaps long; a list that grows as it is read takes five times the memory
			n.Entries = make([]Entry, 0, min(maxItems, 1+strings.Count(p.rest, "\n"+strings.Repeat(" ", int(indent))+"- ")))
		}
	} else {
		n.Entries = make([]Entry, 0, p.likely())
	}
	for !p.end && p.indent == indent && p.dash() == (n.Kind == List) {
		if n.Kind == List {
			if !p.countItem(len(n.Entries), p.place()) {
				return p.fail()
			}
			n.Entries = append(n.Entries, p.item())
		} else {
			if !p.countKey(len(n.Entries), p.place()) {
				return p.fail()
			}
			n.Entries = append(n.Entries, p.entry())
		}
	}
	p.had(n)
	return n // a line with an indentation that is no block's is left over, and the whole is not read
}

// likely is how many keys a table will have: as many as the last two, for those of a list are
// much alike. With room for more, many of a single key would take several times the memory.
func (p *plainYAML) likely() int {
	const most = 16
	return min(max(min(p.last[0], p.last[1]), 1), most)
}

// had notes how many keys a table has.
func (p *plainYAML) had(n Node) {
	if n.Kind == Table {
		p.last[0], p.last[1] = p.last[1], len(n.Entries)
	}
}

func (p *plainYAML) dash() bool { return len(p.line) > 1 && p.line[0] == '-' && p.line[1] == ' ' }

// item reads "- value" or "- key: value" with the lines that belong to it.
func (p *plainYAML) item() Entry {
	if !p.countValue(p.place()) {
		return Entry{Value: p.fail()}
	}
	inner := strings.TrimLeft(p.line[1:], " ")
	p.indent += int32(len(p.line) - len(inner))
	p.line = inner
	if len(inner) == 0 || p.dash() {
		return Entry{Value: p.fail()}
	}
	if _, _, ok := cutKey(p.line); ok {
		return Entry{Value: p.block()}
	}
	value := p.value(p.line)
	p.next()
	return Entry{Value: value}
}

// entry reads "key: value", or "key:" and the block below it.
func (p *plainYAML) entry() Entry {
	key, value, ok := cutKey(p.line)
	if !ok || !p.countValue(p.place()) {
		return Entry{Value: p.fail()}
	}
	e := Entry{Key: key, At: p.place()}
	indent := p.indent
	if len(value) > 0 && value[0] != '#' {
		e.Value = p.value(value)
		p.next()
		return e
	}
	p.next()
	if p.end || p.indent < indent || p.indent == indent && !p.dash() { // a list may be no deeper than its key
		return Entry{Value: p.fail()} // empty
	}
	e.Value = p.block()
	return e
}

// cutKey takes a line apart if it is "key:" or "key: value".
func cutKey(s string) (key, value string, ok bool) {
	n := 0
	for n < len(s) && n < 64 && (s[n] == '_' || 'a' <= s[n] && s[n] <= 'z') {
		n++
	}
	if n == 0 || n == len(s) || s[n] != ':' || n+1 < len(s) && s[n+1] != ' ' {
		return "", "", false
	}
	return s[:n], strings.TrimLeft(s[n+1:], " "), true
}

// value reads a value that ends with its line.
func (p *plainYAML) value(s string) Node {
	var n Node
	var rest string
	switch s[0] {
	case '"', '\'':
		n, rest = p.quoted(s)
	case '{', '[':
		n, rest = p.flow(s)
	default:
		if i := strings.Index(s, " #"); i >= 0 {
			return p.plain(s[:i], p.placeOf(s))
		}
		return p.plain(s, p.placeOf(s))
	}
	rest, comment := strings.CutPrefix(rest, " ")
	rest = strings.TrimLeft(rest, " ")
	if len(rest) > 0 && !(comment && rest[0] == '#') {
		return p.fail()
	}
	return n
}

// quoted reads the value in quotes that s begins with.
func (p *plainYAML) quoted(s string) (n Node, rest string) {
	inner, rest, closed := strings.Cut(s[1:], s[:1])
	if !p.countText(len(inner), p.placeOf(s)) {
		return p.fail(), ""
	}
	if !closed || strings.Contains(inner, `\`) || strings.HasPrefix(rest, "'") { // '' is a quote in quotes
		return p.fail(), ""
	}
	return Node{Kind: Text, At: p.placeOf(s), Text: inner}, rest
}

// plain reads a value without quotes, which is all of s.
func (p *plainYAML) plain(s string, at Place) Node {
	if c := s[0]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '$' || c == '+') {
		return p.fail() // perhaps an indicator
	}
	s = strings.TrimRight(s, " ")
	if !p.countText(len(s), at) {
		return p.fail()
	}
	if strings.Contains(s, ": ") || s[len(s)-1] == ':' {
		return p.fail()
	}
	return Node{Kind: plainKind(s), At: at, Text: s}
}

// plainKind is PlainKind for a value that is not empty. Addresses, topics and names
// are recognised here: the library would try many of them as a number first,
// which takes longer than all the rest of the reading.
func plainKind(s string) Kind {
	letter := 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z'
	switch {
	case strings.Count(s, ".") > 1, strings.Contains(s, "/"):
		return Text // no number and no date has two points or a slash
	case letter && (len(s) > len("false") || strings.IndexByte("tTfFnN", s[0]) < 0):
		return Text // of words, only true, false and null are anything else
	}
	return PlainKind(s)
}

// PlainKind returns what YAML takes a text for that is not in quotes.
func PlainKind(s string) Kind {
	plain := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	return yamlKind(plain.ShortTag())
}
