package configs

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2/unstable"
)

// parseTOML builds the tree from the parser's expressions. The library's
// decoder would keep neither the lines of values nor equal keys; what it checks
// beyond the syntax (tables named twice, keys that are no tables) is checked
// here and, for equal keys, by decoding.
func parseTOML(data []byte) (node, *syntaxError) {
	t := tomlReader{rows: newLines(data)}
	t.parser.Reset(data)
	root := node{kind: table, at: place{1, 1}, header: true}
	current := &root
	for t.parser.NextExpression() {
		switch e := t.parser.Expression(); e.Kind {
		case unstable.KeyValue:
			t.keyValue(current, e)
		case unstable.Table, unstable.ArrayTable:
			current = t.header(&root, e)
		}
		if t.err != nil {
			return node{}, t.err
		}
	}
	var fault *unstable.ParserError
	if err := t.parser.Error(); errors.As(err, &fault) {
		offset := int(t.parser.Range(fault.Highlight).Offset)
		return node{}, &syntaxError{at: t.rows.place(offset), err: errors.New(fault.Message)}
	}
	return root, nil
}

type tomlReader struct {
	parser unstable.Parser
	rows   *lines
	err    *syntaxError
}

// tomlKey is one part of a dotted key.
type tomlKey struct {
	name string
	at   place
	end  int // the offset behind it
}

func (t *tomlReader) keys(it unstable.Iterator) []tomlKey {
	var keys []tomlKey
	for it.Next() {
		k := it.Node()
		start := int(k.Raw.Offset)
		keys = append(keys, tomlKey{string(k.Data), t.rows.place(start), start + int(k.Raw.Length)})
	}
	return keys
}

// header makes the table of [a.b] or [[a.b]], and returns it.
func (t *tomlReader) header(root *node, e *unstable.Node) *node {
	keys := t.keys(e.Key())
	last := keys[len(keys)-1]
	parent := t.descend(root, keys[:len(keys)-1], false)
	if parent == nil {
		return root
	}
	known := parent.entry(last.name)
	fresh := node{kind: table, at: last.at, header: true}
	if e.Kind == unstable.ArrayTable {
		switch {
		case known == nil:
			parent.entries = append(parent.entries, entry{last.name, last.at, node{kind: list, at: last.at}})
			known = &parent.entries[len(parent.entries)-1]
		case known.value.kind != list || known.value.header:
			t.fail(last.at, "[[%s]] adds to a list, but %s is something else already, see line %d", last.name, last.name, known.at.line)
			return root
		}
		if before := known.value.entries; len(before) > 0 { // rules are much alike
			fresh.entries = make([]entry, 0, len(before[len(before)-1].value.entries))
		}
		known.value.entries = append(known.value.entries, entry{value: fresh})
		return &known.value.entries[len(known.value.entries)-1].value
	}
	if known != nil && known.value.kind == table && !known.value.header {
		known.value.header = true // [a.b] came before [a]
		return &known.value
	}
	// A table named twice becomes two entries, and decoding reports it as any
	// other key that is given twice.
	parent.entries = append(parent.entries, entry{last.name, last.at, fresh})
	return &parent.entries[len(parent.entries)-1].value
}

// descend goes down the tables of a dotted key and makes those that are not
// there. Tables that a dotted key = value makes may not get a header later.
func (t *tomlReader) descend(n *node, keys []tomlKey, header bool) *node {
	for _, k := range keys {
		e := n.entry(k.name)
		if e == nil {
			n.entries = append(n.entries, entry{k.name, k.at, node{kind: table, at: k.at, header: header}})
			n = &n.entries[len(n.entries)-1].value
			continue
		}
		n = &e.value
		if n.kind == list && !n.header && len(n.entries) > 0 { // the latest [[…]]
			n = &n.entries[len(n.entries)-1].value
		}
		if n.kind != table {
			t.fail(k.at, "%s is not a section, see line %d", k.name, e.at.line)
			return nil
		}
	}
	return n
}

func (t *tomlReader) keyValue(n *node, e *unstable.Node) {
	keys := t.keys(e.Key())
	last := keys[len(keys)-1]
	if n = t.descend(n, keys[:len(keys)-1], true); n == nil {
		return
	}
	// Behind the key come blanks, the equals sign and blanks: arrays and inline
	// tables do not tell their own place.
	data := t.rows.data
	start := last.end + len(data[last.end:]) - len(bytes.TrimLeft(data[last.end:], " \t="))
	n.entries = append(n.entries, entry{last.name, last.at, t.value(e.Value(), t.rows.place(start))})
}

func (t *tomlReader) value(v *unstable.Node, at place) node {
	n := node{at: at, text: string(v.Data)}
	switch v.Kind {
	case unstable.String:
		n.kind = text
	case unstable.Bool:
		n.kind = boolean
	case unstable.Integer:
		n.kind = integer
	case unstable.Float:
		n.kind = float
	case unstable.Array:
		n.kind, n.header = list, true
		for it := v.Children(); it.Next(); {
			item := it.Node()
			if item.Raw.Length > 0 {
				at = t.rows.place(int(item.Raw.Offset))
			}
			n.entries = append(n.entries, entry{value: t.value(item, at)})
		}
	case unstable.InlineTable:
		n.kind, n.header = table, true
		for it := v.Children(); it.Next(); {
			t.keyValue(&n, it.Node())
		}
	default:
		n.kind = other
	}
	return n
}

func (t *tomlReader) fail(at place, format string, args ...any) {
	if t.err == nil {
		t.err = &syntaxError{at: at, err: fmt.Errorf(format, args...)}
	}
}
