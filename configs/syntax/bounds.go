package syntax

import (
	"bytes"
	"fmt"
)

const (
	// maxValues bounds the values of a file, lists and sections included: as many as 30,000
	// rules of five keys have, or 10,000 of eighteen. A value takes up to 80 bytes in the tree,
	// and as few as two in the file: what was put in a configuration's place by mistake would
	// take forty times its size.
	maxValues = 3 << 16

	// maxCounted bounds what countedBefore counts for the libraries, where a value takes up to
	// 400 bytes, all of them at a time: 10,000 rules of ten keys have as many in YAML, and take
	// 45 MB with the garbage; maxLines the lines, of which a text that is no YAML is made a list.
	maxCounted = 7 << 14
	maxLines   = 1 << 18

	// maxItems bounds the entries of one list, and so the rules of a direction. While a file
	// is loaded each takes 1.3 KB, beside those in force.
	maxItems = 1 << 15

	// maxText bounds one value in bytes: no filter, payload or expression is as long. It goes
	// through many hands, into errors too.
	maxText = 1 << 18

	// maxKeys bounds the keys of one section: no section has as many, and to find one takes
	// the longer the more there are.
	maxKeys = 1000
)

// bounds counts what a reader makes, and has the error once it is too much.
type bounds struct {
	values int
	err    *Error
}

// countValue counts a value, and reports whether the file may have it.
func (b *bounds) countValue(at Place) (ok bool) {
	if b.values++; b.values > maxValues {
		b.refuse(tooMany("values", maxValues, at))
	}
	return b.err == nil
}

// countKey reports whether a section that has so many keys may have one more.
func (b *bounds) countKey(before int, at Place) (ok bool) {
	if before >= maxKeys {
		b.refuse(&Error{At: at, Err: fmt.Errorf("the section has more than %d keys", maxKeys), Hint: isThisIt})
	}
	return b.err == nil
}

// countItem reports whether a list that has so many entries may have one more.
func (b *bounds) countItem(before int, at Place) (ok bool) {
	if before >= maxItems {
		b.refuse(&Error{At: at, Err: fmt.Errorf("the list has more than %d entries", maxItems), Hint: isThisIt})
	}
	return b.err == nil
}

// countEntry is countKey for a table, countItem for a list.
func (b *bounds) countEntry(n *Node, at Place) (ok bool) {
	if n.Kind == Table {
		return b.countKey(len(n.Entries), at)
	}
	return b.countItem(len(n.Entries), at)
}

// countText reports whether a value may be so many bytes long.
func (b *bounds) countText(bytes int, at Place) (ok bool) {
	if bytes > maxText {
		b.refuse(&Error{At: at, Err: fmt.Errorf("the value is longer than %d bytes", maxText), Hint: isThisIt})
	}
	return b.err == nil
}

func (b *bounds) refuse(err *Error) {
	if b.err == nil {
		b.err = err
	}
}

const isThisIt = "is this the configuration?"

func tooMany(what string, most int, at Place) *Error {
	return &Error{At: at, Err: fmt.Errorf("the file has more than %d %s", most, what), Hint: isThisIt}
}

// countedBefore returns an error where a text has more values than a file may have, before a
// library makes nodes of them: as many as it has lines, commas, brackets and dashes, those
// lines aside that are blank or begin with # or a dash. A text in quotes that has as many is refused too.
func countedBefore(data []byte) *Error {
	if len(data) <= maxCounted {
		return nil
	}
	n, at, line := 0, 0, int32(0)
	for row := range bytes.Lines(data) {
		if line++; line > maxLines {
			return tooMany("lines", maxLines, Place{Line: line, Column: 1})
		}
		trimmed := bytes.TrimLeft(row, " \t\r\n")
		if len(trimmed) > 0 && trimmed[0] != '#' {
			if trimmed[0] != '-' { // which is counted below
				n++
			}
			for i, c := range row {
				if c == ',' || c == '[' || c == '{' || (c == '-' || c == '?') && i+1 < len(row) && row[i+1] == ' ' {
					n++
				}
				if n > maxCounted {
					return tooMany("values", maxCounted, newLines(data).place(at+i))
				}
			}
		}
		at += len(row)
	}
	return nil
}
