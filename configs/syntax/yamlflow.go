package syntax

import "strings"

// This is the part of plainYAML for values in braces and brackets that end with
// their line: an entry a line is how most long lists are written.

// flow reads the value that s, the rest of the line, begins with.
func (p *plainYAML) flow(s string) (n Node, rest string) {
	if p.depth++; p.depth > 100 {
		return p.fail(), ""
	}
	defer func() { p.depth-- }()
	n = Node{Kind: List, At: p.placeOf(s)}
	closing := byte(']')
	if s[0] == '{' {
		n.Kind, closing = Table, '}'
	}
	rest = strings.TrimLeft(s[1:], " ")
	if len(rest) > 0 && rest[0] == closing {
		return n, rest[1:]
	}
	if n.Kind == Table {
		n.Entries = make([]Entry, 0, p.likely())
	}
	for len(rest) > 0 {
		if at := p.placeOf(rest); !p.countValue(at) || !p.countEntry(&n, at) {
			return p.fail(), ""
		}
		var e Entry
		e, rest = p.flowEntry(rest, n.Kind)
		n.Entries = append(n.Entries, e)
		switch rest = strings.TrimLeft(rest, " "); {
		case len(rest) > 0 && rest[0] == closing:
			p.had(n)
			return n, rest[1:]
		case len(rest) > 0 && rest[0] == ',':
			rest = strings.TrimLeft(rest[1:], " ")
		default:
			return p.fail(), ""
		}
	}
	return p.fail(), "" // it goes on in the next line
}

// flowEntry reads "key: value" of a table, or a value of a list.
func (p *plainYAML) flowEntry(s string, of Kind) (e Entry, rest string) {
	if of == Table {
		key, value, ok := cutKey(s)
		if !ok || len(value) == 0 {
			return Entry{Value: p.fail()}, ""
		}
		e, s = Entry{Key: key, At: p.placeOf(s)}, value
	}
	e.Value, rest = p.flowValue(s)
	return e, rest
}

func (p *plainYAML) flowValue(s string) (n Node, rest string) {
	switch s[0] {
	case '{', '[':
		return p.flow(s)
	case '"', '\'':
		return p.quoted(s)
	}
	end := strings.IndexAny(s, ",]}[{?")
	if end <= 0 || strings.IndexByte(",]}", s[end]) < 0 || strings.Contains(s[:end], " #") {
		return p.fail(), ""
	}
	return p.plain(s[:end], p.placeOf(s)), s[end:]
}
