package configs

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// parseJSON has the standard library check the whole, then takes it apart. The
// YAML parser, which reads JSON too, is no help: it refuses \/ and surrogate
// pairs, and lets comments and trailing commas pass.
func parseJSON(data []byte) (node, *syntaxError) {
	rows := newLines(data)
	if len(bytes.TrimSpace(data)) == 0 {
		return node{}, nil
	}
	if !utf8.Valid(data) { // the decoder would put U+FFFD in its place and say nothing
		return node{}, &syntaxError{at: rows.place(invalidUTF8(data)), err: errors.New("not UTF-8")}
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		e := &syntaxError{err: err}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			e.at = rows.place(int(syntax.Offset) - 1) // Offset counts the byte at fault in
		}
		return node{}, e
	}
	p := jsonReader{rows: rows, data: data}
	p.blanks()
	return p.value(), nil
}

// jsonReader reads JSON that is known to be right. The library's tokens would
// do, but they take four times as long and do not tell where they begin.
type jsonReader struct {
	rows *lines
	data []byte
	at   int
}

// value reads the value that begins here, and the blanks, the comma or the
// colon behind it.
func (p *jsonReader) value() node {
	n := node{at: p.rows.place(p.at)}
	switch c := p.data[p.at]; c {
	case '{':
		n.kind = table
		for p.bracket(); p.data[p.at] != '}'; {
			at := p.rows.place(p.at)
			n.entries = append(n.entries, entry{p.text(), at, p.value()})
		}
		p.bracket()
	case '[':
		n.kind = list
		for p.bracket(); p.data[p.at] != ']'; {
			n.entries = append(n.entries, entry{value: p.value()})
		}
		p.bracket()
	case '"':
		n.kind, n.text = text, p.text()
	default:
		n.text = p.word()
		switch {
		case c == 't' || c == 'f':
			n.kind = boolean
		case c == 'n':
			n.kind, n.text = null, ""
		case strings.ContainsAny(n.text, ".eE"):
			n.kind = float
		default:
			n.kind = integer
		}
	}
	return n
}

// bracket steps over one.
func (p *jsonReader) bracket() {
	p.at++
	p.blanks()
}

func (p *jsonReader) blanks() {
	for p.at < len(p.data) && strings.IndexByte(" \t\r\n,:", p.data[p.at]) >= 0 {
		p.at++
	}
}

func (p *jsonReader) text() string {
	start, escaped := p.at, false
	for p.at++; p.data[p.at] != '"'; p.at++ {
		if p.data[p.at] == '\\' {
			escaped = true
			p.at++
		}
	}
	p.at++
	quoted := p.data[start:p.at]
	p.blanks()
	if !escaped {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // it has been through it before
	return s
}

// word reads a number, true, false or null.
func (p *jsonReader) word() string {
	start := p.at
	for p.at < len(p.data) && strings.IndexByte(" \t\r\n,:]}", p.data[p.at]) < 0 {
		p.at++
	}
	word := string(p.data[start:p.at])
	p.blanks()
	return word
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(data)
}
