package configs

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"topicast/configs/syntax"
)

// Error is one fault of a configuration, or one warning.
type Error struct {
	// Origin is the file, or the variable (TOPICAST_QUEUE_SIZE) or the flag
	// (--queue-size) that the value came from.
	Origin string
	// Line and Column count from 1, columns in characters. A Line of 0 means
	// the whole of Origin; a Column of 0 means the whole line.
	Line, Column int
	// Path is the key, such as send[3].group, or "" for the whole file.
	Path string
	Err  error
	// Hint says what to do, or is "".
	Hint string
	// Variable reports whether Origin is a variable of the environment.
	Variable bool
}

// Error returns "origin:line:column: path: text" without the parts that are not
// known. It leaves out the hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Origin)
	for _, n := range [...]int{e.Line, e.Column} {
		if n > 0 {
			b.WriteString(":" + strconv.Itoa(n))
		}
	}
	for _, part := range [...]string{e.Path, e.Err.Error()} {
		if part != "" && b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Errors are all faults of a configuration: those of the file first, by line,
// then those of variables and flags.
type Errors []*Error

// Error has one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes every fault visible to errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// maxFaults bounds the faults that are named: a word that is replaced by a wrong one is one
// in each rule of a list, and nobody reads more of them. They are logged one by one.
const maxFaults = 100

// mostFaults bounds those that are counted: rules after that many are not looked at, as to
// find out what is meant by each takes longer than all else.
const mostFaults = 5000

// first is the first n of them, and how many more there are; all: that many and no more.
func (e Errors) first(n int, all bool) Errors {
	more := len(e) - n
	if more <= 1 { // it takes no less room to count one than to name it
		return e
	}
	least := ""
	if !all {
		least = "at least "
	}
	return append(e[:n:n], &Error{Origin: e[0].Origin, Err: fmt.Errorf("%s%d more faults; the first are named", least, more)})
}

// sort puts faults of one file in the order of the file; those without a line
// come last.
func (e Errors) sort() {
	line := func(e *Error) int {
		if e.Line == 0 {
			return math.MaxInt
		}
		return e.Line
	}
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(line(a), line(b)), cmp.Compare(a.Column, b.Column))
	})
}

// detailed is an error that knows what to do about it, or a place within the
// value that it is about.
type detailed struct {
	err  error
	hint string
	at   syntax.Place
}

func (d *detailed) Error() string { return d.err.Error() }
func (d *detailed) Unwrap() error { return d.err }

func withHint(hint string, err error) error { return &detailed{err: err, hint: hint} }

func withPlace(at syntax.Place, err error) error {
	return &detailed{err: err, hint: detailsOf(err).hint, at: at}
}

func detailsOf(err error) detailed {
	var d *detailed
	if errors.As(err, &d) {
		return *d
	}
	return detailed{}
}
