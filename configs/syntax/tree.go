package syntax

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Node is a value of the file. The zero Node is empty, as is a file without values.
type Node struct {
	At      Place
	Text    string  // a scalar, as written but for quotes and escapes
	Entries []Entry // of a table, in the order of the file, equal keys included; of a list, without keys
	Kind    Kind
	header  bool // TOML: the table has a [header] of its own, or may not have one
}

// An Entry is a key of a table and its value, or an item of a list.
type Entry struct {
	Key   string // "" in a list
	At    Place  // of the key
	Value Node
}

// A Place is a line and a column, both counted from 1, columns in characters. A
// Column of 0 stands for the whole line, a Line of 0 for the whole file.
type Place struct {
	Line, Column int32
}

// A Kind is the type of a value.
type Kind uint8

const (
	Null    Kind = iota
	Untyped      // any scalar that the text can be read as; Parse makes none, but a caller may
	Text
	Integer
	Float
	Boolean
	Other // a date or a binary
	List
	Table
)

// String returns what an error calls the kind, as in "is a list".
func (k Kind) String() string {
	switch k {
	case Null:
		return "empty"
	case Integer, Float:
		return "a number"
	case Boolean:
		return "a boolean"
	case List:
		return "a list"
	case Table:
		return "a section"
	case Other:
		return "a date or the like"
	default:
		return "a text"
	}
}

// Entry returns the first entry with a key, or nil.
func (n *Node) Entry(key string) *Entry {
	for i := range n.Entries {
		if n.Entries[i].Key == key {
			return &n.Entries[i]
		}
	}
	return nil
}

// Locate returns the place of the value of a path such as send[3].group, or of as
// much of the path as there is.
func (n *Node) Locate(path string) Place {
	at := n.At
	for step := range strings.SplitSeq(path, ".") {
		key, index, indexed := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		e := n.Entry(key)
		if e == nil {
			break
		}
		n = &e.Value
		at = n.At
		if indexed {
			i, err := strconv.Atoi(index)
			if err != nil || i < 0 || i >= len(n.Entries) {
				break
			}
			n = &n.Entries[i].Value
			at = n.At
		}
	}
	return at
}

// lines returns the place of an offset into a text. Offsets that grow from call to
// call, as they do while a text is read, cost the way between them.
type lines struct {
	data   []byte
	line   int32 // that start is the start of
	start  int
	at     int // behind column characters of the line
	column int
}

func newLines(data []byte) *lines { return &lines{data: data, line: 1} }

func (l *lines) place(offset int) Place {
	offset = min(max(offset, 0), len(l.data))
	if offset < l.start {
		l.line, l.start, l.at, l.column = 1, 0, 0, 0
	} else if offset < l.at {
		l.at, l.column = l.start, 0
	}
	for {
		i := bytes.IndexByte(l.data[l.at:offset], '\n')
		if i < 0 {
			l.column += utf8.RuneCount(l.data[l.at:offset])
			l.at = offset
			return Place{l.line, int32(l.column + 1)}
		}
		l.line++
		l.at += i + 1
		l.start, l.column = l.at, 0
	}
}
