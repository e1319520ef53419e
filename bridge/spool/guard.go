package spool

import (
	"fmt"
	"runtime/debug"
)

// brokenError says that the file cannot be used any more.
type brokenError struct{ why error }

func (e *brokenError) Error() string { return "the file is damaged: " + e.why.Error() }
func (e *brokenError) Unwrap() error { return e.why }

// guard runs f, which uses the file through its mapping. A page that cannot be
// read, because the disk is bad or somebody cut the file, is a fault that would
// end the process, and bbolt panics about what it finds in others: both become
// an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &brokenError{fmt.Errorf("%v", p)}
		}
	}()
	return f()
}
