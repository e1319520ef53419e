//go:build linux

package main

import (
	"fmt"
	"testing"
)

// A keeper is what netlab takes for a test, for it serves the tests: a failure
// to build or to change the network ends what keep runs.
type keeper struct {
	testing.TB // not there: the methods that netlab calls are below
	cleanups   []func()
	errors     []string
}

type rigFailure struct{ reason string }

func (k *keeper) Helper()             {}
func (k *keeper) Failed() bool        { return false }
func (k *keeper) Logf(string, ...any) {}
func (k *keeper) Cleanup(f func())    { k.cleanups = append(k.cleanups, f) }
func (k *keeper) Errorf(format string, args ...any) {
	k.errors = append(k.errors, fmt.Sprintf(format, args...))
}
func (k *keeper) Skipf(format string, args ...any)  { k.Fatalf(format, args...) }
func (k *keeper) Fatal(args ...any)                 { panic(rigFailure{fmt.Sprint(args...)}) }
func (k *keeper) Fatalf(format string, args ...any) { panic(rigFailure{fmt.Sprintf(format, args...)}) }

// keep calls f, then what f asked to be called at the end, the last first. The
// error is the first trouble that any of that had.
func keep(f func(testing.TB) error) (err error) {
	k := &keeper{}
	err = k.guard(func() error { return f(k) })
	for i := len(k.cleanups) - 1; i >= 0; i-- {
		cleanup := k.cleanups[i]
		late := k.guard(func() error { cleanup(); return nil })
		if err == nil {
			err = late
		}
	}
	if err == nil && len(k.errors) > 0 {
		err = fmt.Errorf("the network: %s", k.errors[0])
	}
	return err
}

// guard turns a failure of the network inside f into an error.
func (k *keeper) guard(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case rigFailure:
			err = fmt.Errorf("the network: %s", r.reason)
		default:
			panic(r)
		}
	}()
	return f()
}
