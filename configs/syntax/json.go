package syntax

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// parseJSON has the standard library check the whole, then takes it apart. The
// YAML parser, which reads JSON too, is no help: it refuses \/ and surrogate
// pairs, and accepts comments and trailing commas.
func parseJSON(data []byte) (Node, *Error) {
	rows := newLines(data)
	if len(bytes.TrimSpace(data)) == 0 {
		return Node{}, nil
	}
	if !utf8.Valid(data) { // the decoder would put U+FFFD in its place and say nothing
		return Node{}, &Error{At: rows.place(invalidUTF8(data)), Err: errors.New("not UTF-8")}
	}
	if err := json.Unmarshal(data, new(anyJSON)); err != nil {
		e := &Error{Err: err}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			e.At = rows.place(int(syntax.Offset) - 1) // Offset counts the byte at fault in
		}
		return Node{}, e
	}
	p := jsonReader{rows: rows, data: data}
	p.space()
	root := p.value()
	if p.err != nil {
		return Node{}, p.err
	}
	return root, nil
}

// anyJSON takes any document, and keeps nothing of it.
type anyJSON struct{}

func (*anyJSON) UnmarshalJSON([]byte) error { return nil }

// jsonReader reads JSON that is known to be right. The library's tokens would
// do, but they take four times as long and do not report where they begin.
type jsonReader struct {
	rows *lines
	data []byte
	at   int
	last int // how many keys the last table had, at most twice as many as that before it
	bounds
}

// value reads the value that begins here, and the blanks, the comma or the
// colon behind it.
func (p *jsonReader) value() Node {
	n := Node{At: p.rows.place(p.at)}
	if !p.countValue(n.At) {
		return n
	}
	switch c := p.data[p.at]; c {
	case '{':
		n.Kind = Table
		if p.data[p.at+1] != '}' {
			n.Entries = make([]Entry, 0, min(max(p.last, 1), 16)) // tables of a list are much alike
		}
		for p.bracket(); p.data[p.at] != '}'; {
			at := p.rows.place(p.at)
			if !p.countKey(len(n.Entries), at) {
				return n
			}
			n.Entries = append(n.Entries, Entry{p.text(), at, p.value()})
			if p.err != nil {
				return n
			}
		}
		p.bracket()
		p.last = min(len(n.Entries), 2*max(p.last, 1))
	case '[':
		n.Kind = List
		for p.bracket(); p.data[p.at] != ']'; {
			if !p.countItem(len(n.Entries), p.rows.place(p.at)) {
				return n
			}
			n.Entries = append(n.Entries, Entry{Value: p.value()})
			if p.err != nil {
				return n
			}
		}
		p.bracket()
	case '"':
		n.Kind, n.Text = Text, p.text()
	default:
		n.Text = p.word()
		switch {
		case c == 't' || c == 'f':
			n.Kind = Boolean
		case c == 'n':
			n.Kind, n.Text = Null, ""
		case strings.ContainsAny(n.Text, ".eE"):
			n.Kind = Float
		default:
			n.Kind = Integer
		}
	}
	return n
}

// bracket steps over one.
func (p *jsonReader) bracket() {
	p.at++
	p.space()
}

func (p *jsonReader) space() {
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
	if !p.countText(len(quoted)-2, p.rows.place(start)) {
		return ""
	}
	p.space()
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
	p.space()
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
