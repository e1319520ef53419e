package configs

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// parsePlainYAML reads the YAML that configurations are nearly always written
// in: sections and lists by indentation, one key a line, values plain or in
// quotes, ASCII. Of anything else, right or wrong, it says that it cannot read
// it, and the library does.
//
// It is here for long lists of rules: of 100 ms that loading 10,000 of them
// takes, 64 are the library's, and 33 MB; here it is 11 ms and 13 MB, at every
// start and every reload. What it reads, it reads as the library does:
// FuzzPlainYAML holds the two together.
func parsePlainYAML(data []byte) (root node, ok bool) {
	p := plainYAML{rest: data, ok: true}
	p.next()
	if p.ok && !p.end {
		root = p.block()
	}
	return root, p.ok && p.end && root.kind != null
}

// plainYAML stands at a line that is not blank.
type plainYAML struct {
	rest   []byte // behind the line
	line   []byte // without indentation
	number int32
	indent int32
	depth  int
	end    bool // there is no line any more
	ok     bool // nothing has been seen that is for the library
}

func (p *plainYAML) fail() node {
	p.ok, p.end = false, true
	return node{}
}

// next goes to the next line that is neither blank nor a comment.
func (p *plainYAML) next() {
	for {
		if len(p.rest) == 0 {
			p.end = true
			return
		}
		p.number++
		var row []byte
		row, p.rest, _ = bytes.Cut(p.rest, []byte("\n"))
		for _, c := range row {
			if c < ' ' || c > '~' { // tabs, returns, other alphabets
				p.fail()
				return
			}
		}
		p.line = bytes.TrimLeft(row, " ")
		if p.indent = int32(len(row) - len(p.line)); len(p.line) > 0 && p.line[0] != '#' {
			return
		}
	}
}

func (p *plainYAML) place() place { return place{p.number, p.indent + 1} }

// block reads the table or the list whose lines have the indentation of this.
func (p *plainYAML) block() node {
	if p.depth++; p.depth > 100 {
		return p.fail()
	}
	defer func() { p.depth-- }()
	indent := p.indent
	n := node{kind: table, at: p.place()}
	each := p.entry
	if p.dash() {
		n.kind, each = list, p.item
	}
	for !p.end && p.indent == indent && p.dash() == (n.kind == list) {
		if cap(n.entries) == 0 && n.kind == table {
			n.entries = make([]entry, 0, 6) // as many as a rule often has
		}
		n.entries = append(n.entries, each())
	}
	return n // a line with an indentation that is no block's is left over, and the whole is not read
}

func (p *plainYAML) dash() bool { return len(p.line) > 1 && p.line[0] == '-' && p.line[1] == ' ' }

// item reads "- value" or "- key: value" with the lines that belong to it.
func (p *plainYAML) item() entry {
	inner := bytes.TrimLeft(p.line[1:], " ")
	p.indent += int32(len(p.line) - len(inner))
	p.line = inner
	if len(inner) == 0 || p.dash() {
		return entry{value: p.fail()}
	}
	if _, _, ok := p.key(); ok {
		return entry{value: p.block()}
	}
	value := p.scalar(p.line, p.place())
	p.next()
	return entry{value: value}
}

// entry reads "key: value", or "key:" and the block below it.
func (p *plainYAML) entry() entry {
	key, value, ok := p.key()
	if !ok {
		return entry{value: p.fail()}
	}
	e := entry{key: key, at: p.place()}
	indent := p.indent
	if len(value) > 0 && value[0] != '#' {
		e.value = p.scalar(value, place{p.number, indent + int32(len(p.line)-len(value)) + 1})
		p.next()
		return e
	}
	p.next()
	if p.end || p.indent < indent || p.indent == indent && !p.dash() { // a list may be no deeper than its key
		return entry{value: p.fail()} // empty
	}
	e.value = p.block()
	return e
}

// key takes the line apart if it is "key:" or "key: value".
func (p *plainYAML) key() (key string, value []byte, ok bool) {
	n := 0
	for n < len(p.line) && n < 64 && (p.line[n] == '_' || 'a' <= p.line[n] && p.line[n] <= 'z') {
		n++
	}
	if n == 0 || n == len(p.line) || p.line[n] != ':' || n+1 < len(p.line) && p.line[n+1] != ' ' {
		return "", nil, false
	}
	return string(p.line[:n]), bytes.TrimLeft(p.line[n+1:], " "), true
}

// scalar reads a value that ends with its line.
func (p *plainYAML) scalar(s []byte, at place) node {
	if quote := s[0]; quote == '"' || quote == '\'' {
		inner, behind, closed := bytes.Cut(s[1:], s[:1])
		behind, comment := bytes.CutPrefix(behind, []byte(" "))
		behind = bytes.TrimLeft(behind, " ")
		if !closed || bytes.IndexByte(inner, '\\') >= 0 || len(behind) > 0 && !(comment && behind[0] == '#') {
			return p.fail()
		}
		return node{kind: text, at: at, text: string(inner)}
	}
	if c := s[0]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '/' || c == '$' || c == '+') {
		return p.fail() // perhaps an indicator
	}
	if i := bytes.Index(s, []byte(" #")); i >= 0 {
		s = s[:i]
	}
	s = bytes.TrimRight(s, " ")
	if bytes.Contains(s, []byte(": ")) || s[len(s)-1] == ':' {
		return p.fail()
	}
	plain := string(s)
	return node{kind: yamlPlainKind(plain), at: at, text: plain}
}

// yamlPlainKind is what YAML takes a text for that is not in quotes.
func yamlPlainKind(s string) kind {
	plain := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	return yamlKind(plain.ShortTag())
}
