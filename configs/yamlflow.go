package configs

import "strings"

// This is the part of plainYAML for values in braces and brackets that end with
// their line: a rule a line is how most long lists are written.

// flow reads the value that s, the rest of the line, begins with.
func (p *plainYAML) flow(s string) (n node, rest string) {
	if p.depth++; p.depth > 100 {
		return p.fail(), ""
	}
	defer func() { p.depth-- }()
	n = node{kind: list, at: p.placeOf(s)}
	closing := byte(']')
	if s[0] == '{' {
		n.kind, closing = table, '}'
		n.entries = make([]entry, 0, 6) // as many as a rule often has
	}
	rest = strings.TrimLeft(s[1:], " ")
	if len(rest) > 0 && rest[0] == closing {
		return n, rest[1:]
	}
	for len(rest) > 0 {
		var e entry
		e, rest = p.flowEntry(rest, n.kind)
		n.entries = append(n.entries, e)
		switch rest = strings.TrimLeft(rest, " "); {
		case len(rest) > 0 && rest[0] == closing:
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
func (p *plainYAML) flowEntry(s string, of kind) (e entry, rest string) {
	if of == table {
		key, value, ok := cutKey(s)
		if !ok || len(value) == 0 {
			return entry{value: p.fail()}, ""
		}
		e, s = entry{key: key, at: p.placeOf(s)}, value
	}
	e.value, rest = p.flowValue(s)
	return e, rest
}

func (p *plainYAML) flowValue(s string) (n node, rest string) {
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
