package syntax

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
func parseTOML(data []byte) (Node, *Error) {
	if err := countedBefore(data); err != nil {
		return Node{}, err
	}
	t := tomlReader{rows: newLines(data)}
	t.parser.Reset(data)
	root := Node{Kind: Table, At: Place{1, 1}, header: true}
	current := &root
	for t.parser.NextExpression() {
		switch e := t.parser.Expression(); e.Kind {
		case unstable.KeyValue:
			t.keyValue(current, e)
		case unstable.Table, unstable.ArrayTable:
			current = t.header(&root, e)
		}
		if t.err != nil {
			return Node{}, t.err
		}
	}
	var fault *unstable.ParserError
	if err := t.parser.Error(); errors.As(err, &fault) {
		offset := int(t.parser.Range(fault.Highlight).Offset)
		return Node{}, &Error{At: t.rows.place(offset), Err: errors.New(fault.Message)}
	}
	return root, nil
}

type tomlReader struct {
	parser unstable.Parser
	rows   *lines
	bounds
}

// tomlKey is one part of a dotted key.
type tomlKey struct {
	name string
	at   Place
	end  int // the offset behind it
}

func (t *tomlReader) keys(it unstable.Iterator) []tomlKey {
	var keys []tomlKey
	for it.Next() {
		k := it.Node()
		start := int(k.Raw.Offset)
		t.countText(len(k.Data), t.rows.place(start)) // the callers look at err
		keys = append(keys, tomlKey{string(k.Data), t.rows.place(start), start + int(k.Raw.Length)})
	}
	return keys
}

// header makes the table of [a.b] or [[a.b]], and returns it.
func (t *tomlReader) header(root *Node, e *unstable.Node) *Node {
	keys := t.keys(e.Key())
	last := keys[len(keys)-1]
	parent := t.descend(root, keys[:len(keys)-1], false)
	if parent == nil {
		return root
	}
	if !t.countKey(len(parent.Entries), last.at) || !t.countValue(last.at) {
		return root
	}
	known := parent.Entry(last.name)
	fresh := Node{Kind: Table, At: last.at, header: true}
	if e.Kind == unstable.ArrayTable {
		switch {
		case known == nil:
			parent.Entries = append(parent.Entries, Entry{last.name, last.at, Node{Kind: List, At: last.at}})
			known = &parent.Entries[len(parent.Entries)-1]
		case known.Value.Kind != List || known.Value.header:
			t.fail(last.at, "[[%s]] adds to a list, but %s is something else already, see line %d", last.name, last.name, known.At.Line)
			return root
		}
		if !t.countItem(len(known.Value.Entries), last.at) {
			return root
		}
		if before := known.Value.Entries; len(before) > 0 { // tables of a list are much alike
			fresh.Entries = make([]Entry, 0, len(before[len(before)-1].Value.Entries))
		}
		known.Value.Entries = append(known.Value.Entries, Entry{Value: fresh})
		return &known.Value.Entries[len(known.Value.Entries)-1].Value
	}
	if known != nil && known.Value.Kind == Table && !known.Value.header {
		known.Value.header = true // [a.b] came before [a]
		return &known.Value
	}
	// A table named twice becomes two entries, and decoding reports it as any
	// other key that is given twice.
	parent.Entries = append(parent.Entries, Entry{last.name, last.at, fresh})
	return &parent.Entries[len(parent.Entries)-1].Value
}

// descend goes down the tables of a dotted key and makes those that are not
// there. Tables that a dotted key = value makes may not get a header later.
func (t *tomlReader) descend(n *Node, keys []tomlKey, header bool) *Node {
	for _, k := range keys {
		e := n.Entry(k.name)
		if e == nil {
			if !t.countKey(len(n.Entries), k.at) || !t.countValue(k.at) {
				return nil
			}
			n.Entries = append(n.Entries, Entry{k.name, k.at, Node{Kind: Table, At: k.at, header: header}})
			n = &n.Entries[len(n.Entries)-1].Value
			continue
		}
		n = &e.Value
		if n.Kind == List && !n.header && len(n.Entries) > 0 { // the latest [[…]]
			n = &n.Entries[len(n.Entries)-1].Value
		}
		if n.Kind != Table {
			t.fail(k.at, "%s is not a section, see line %d", k.name, e.At.Line)
			return nil
		}
	}
	return n
}

func (t *tomlReader) keyValue(n *Node, e *unstable.Node) {
	keys := t.keys(e.Key())
	last := keys[len(keys)-1]
	if n = t.descend(n, keys[:len(keys)-1], true); n == nil {
		return
	}
	if !t.countKey(len(n.Entries), last.at) {
		return
	}
	// Behind the key come blanks, the equals sign and blanks: arrays and inline
	// tables do not have their place.
	data := t.rows.data
	start := last.end + len(data[last.end:]) - len(bytes.TrimLeft(data[last.end:], " \t="))
	n.Entries = append(n.Entries, Entry{last.name, last.at, t.value(e.Value(), t.rows.place(start))})
}

func (t *tomlReader) value(v *unstable.Node, at Place) Node {
	n := Node{At: at}
	if !t.countValue(at) || !t.countText(len(v.Data), at) {
		return n
	}
	n.Text = string(v.Data)
	switch v.Kind {
	case unstable.String:
		n.Kind = Text
	case unstable.Bool:
		n.Kind = Boolean
	case unstable.Integer:
		n.Kind = Integer
	case unstable.Float:
		n.Kind = Float
	case unstable.Array:
		n.Kind, n.header = List, true
		for it := v.Children(); t.err == nil && it.Next(); {
			item := it.Node()
			if item.Raw.Length > 0 {
				at = t.rows.place(int(item.Raw.Offset))
			}
			if !t.countItem(len(n.Entries), at) {
				return n
			}
			n.Entries = append(n.Entries, Entry{Value: t.value(item, at)})
		}
	case unstable.InlineTable:
		n.Kind, n.header = Table, true
		for it := v.Children(); t.err == nil && it.Next(); {
			t.keyValue(&n, it.Node())
		}
	default:
		n.Kind = Other
	}
	return n
}

func (t *tomlReader) fail(at Place, format string, args ...any) {
	t.refuse(&Error{At: at, Err: fmt.Errorf(format, args...)})
}
