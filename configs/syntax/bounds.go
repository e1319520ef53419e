package syntax

import (
	"bytes"
	"fmt"
)

const (
	// maxValues bounds the values of a file, lists and sections included: as many as 75,000
	// rules of seven keys have. A value takes up to 80 bytes in the tree and 300 in the
	// libraries, and as few as two in the file: what was put in a configuration's place by
	// mistake would take a hundred times its size.
	maxValues = 1 << 19

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
		b.refuse(tooManyValues(at))
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

func (b *bounds) refuse(err *Error) {
	if b.err == nil {
		b.err = err
	}
}

const isThisIt = "is this the configuration?"

func tooManyValues(at Place) *Error {
	return &Error{At: at, Err: fmt.Errorf("the file has more than %d values", maxValues), Hint: isThisIt}
}

// countedBefore returns an error where a text has more values than a file may have, before a
// library makes nodes of them: as many as it has lines, commas, brackets and dashes, those
// lines aside that are blank or begin with #. A text in quotes that has as many is refused too.
func countedBefore(data []byte) *Error {
	if len(data) <= maxValues {
		return nil
	}
	n, at := 0, 0
	for row := range bytes.Lines(data) {
		trimmed := bytes.TrimLeft(row, " \t\r\n")
		if len(trimmed) > 0 && trimmed[0] != '#' {
			n++
			for i, c := range row {
				if c == ',' || c == '[' || c == '{' || (c == '-' || c == '?') && i+1 < len(row) && row[i+1] == ' ' {
					n++
				}
				if n > maxValues {
					return tooManyValues(newLines(data).place(at + i))
				}
			}
		}
		at += len(row)
	}
	return nil
}
