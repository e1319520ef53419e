package harness

import (
	"fmt"
	"slices"

	"topicast/internal/lab/netlab"
)

// WithT calls f with what stands in for a test, and then what f asked to be called at
// the end, the last first: a failure to build or to change the network ends f, and with
// it nothing else. The error is the first of all these.
func WithT(f func(netlab.T) error) (err error) {
	t := &fakeT{}
	err = guard(func() error { return f(t) })
	for _, cleanup := range slices.Backward(t.cleanups) {
		late := guard(func() error { cleanup(); return nil })
		if err == nil {
			err = late
		}
	}
	if err == nil && len(t.errors) > 0 {
		err = t.errors[0]
	}
	return err
}

type fakeT struct {
	cleanups []func()
	errors   []networkError
}

// A networkError is what Fatalf panics with.
type networkError string

func (e networkError) Error() string { return "the network: " + string(e) }

func newNetworkError(format string, args []any) networkError {
	return networkError(fmt.Sprintf(format, args...))
}

func (t *fakeT) Helper()             {}
func (t *fakeT) Failed() bool        { return false }
func (t *fakeT) Logf(string, ...any) {}
func (t *fakeT) Cleanup(f func())    { t.cleanups = append(t.cleanups, f) }
func (t *fakeT) Errorf(format string, args ...any) {
	t.errors = append(t.errors, newNetworkError(format, args))
}
func (t *fakeT) Skipf(format string, args ...any)  { panic(newNetworkError(format, args)) }
func (t *fakeT) Fatalf(format string, args ...any) { panic(newNetworkError(format, args)) }

// guard turns a failure of the network inside f into an error.
func guard(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case networkError:
			err = r
		default:
			panic(r)
		}
	}()
	return f()
}
