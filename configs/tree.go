package configs

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The three formats are read into one tree whose every key and value knows its
// line and column. viper has parsers for them too, but what they return is
// maps: without lines, with all keys in lower case (so that Group would pass
// for group), and of two equal keys only one. So viper is given scalars one by
// one, see overrides, and the tree is what strictness rests on.

// node is a value of the file.
type node struct {
	at      place
	text    string  // a scalar, as written but for quotes and escapes
	entries []entry // of a table, in the order of the file, equal keys included; of a list, without keys
	kind    kind
	header  bool // TOML: the table has a [header] of its own, or may not have one
}

// entry is a key of a table and its value.
type entry struct {
	key   string
	at    place // of the key
	value node
}

// place is a line and a column, both counted from 1.
type place struct {
	line, column int32
}

// kind is the type of a value.
type kind uint8

const (
	null    kind = iota
	untyped      // a scalar from a flag, a variable or a default: any type that it can be read as
	text
	integer
	float
	boolean
	other // a date, a binary, a tag of the user's
	list
	table
)

// String is what the kind is called in an error, as in "is a list".
func (k kind) String() string {
	switch k {
	case null:
		return "empty"
	case integer, float:
		return "a number"
	case boolean:
		return "a boolean"
	case list:
		return "a list"
	case table:
		return "a section"
	case other:
		return "a date or the like"
	default:
		return "a text"
	}
}

// entry is the first entry of that key, or nil.
func (n *node) entry(key string) *entry {
	for i := range n.entries {
		if n.entries[i].key == key {
			return &n.entries[i]
		}
	}
	return nil
}

// locate finds the place of a path such as send[3].group, or of as much of it
// as there is.
func (n *node) locate(path string) place {
	at := n.at
	for step := range strings.SplitSeq(path, ".") {
		key, index, indexed := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		e := n.entry(key)
		if e == nil {
			break
		}
		n = &e.value
		at = n.at
		if indexed {
			i, err := strconv.Atoi(index)
			if err != nil || i < 0 || i >= len(n.entries) {
				break
			}
			n = &n.entries[i].value
			at = n.at
		}
	}
	return at
}

// lines finds the place of an offset into a text. Offsets that grow from call to
// call, as they do while a text is read, cost the way between them.
type lines struct {
	data  []byte
	line  int32 // that start is the start of
	start int
}

func newLines(data []byte) *lines { return &lines{data: data, line: 1} }

func (l *lines) place(offset int) place {
	offset = min(max(offset, 0), len(l.data))
	if offset < l.start {
		l.line, l.start = 1, 0
	}
	for {
		i := bytes.IndexByte(l.data[l.start:offset], '\n')
		if i < 0 {
			return place{l.line, int32(utf8.RuneCount(l.data[l.start:offset]) + 1)}
		}
		l.line++
		l.start += i + 1
	}
}
