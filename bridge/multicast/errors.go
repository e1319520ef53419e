package multicast

import "errors"

// What a caller may want to tell apart, with errors.Is. Everything else is final
// for the datagram or the binding it was reported for.
var (
	// ErrPending: the interface or the address is not there, not usable yet or
	// not any more. It may come; resolve again when the host changes (Watch).
	ErrPending = errors.New("pending")

	// ErrMisplaced: the source is not on the interface named, though the
	// interface has addresses. It comes with ErrPending, since an address can
	// still arrive (DHCP), but before a start it is a mistake more likely than not.
	ErrMisplaced = errors.New("the source is not on the interface")

	// ErrNoInterface: no interface has the name. It comes with ErrPending, since one
	// may get it.
	ErrNoInterface = errors.New("there is no such interface")

	// ErrAmbiguous: several interfaces have the address that was to name one. Of an
	// interface it comes with ErrPending, since an address can still go; of a source
	// it does not.
	ErrAmbiguous = errors.New("several interfaces have the address")

	// ErrWouldBlock: the socket's send buffer is full. See Sender.Wait.
	ErrWouldBlock = errors.New("the send buffer is full")

	// ErrNoBuffer: the interface's queue is full, the datagram was not taken
	// (ENOBUFS). See Sender.Wait.
	ErrNoBuffer = errors.New("the interface's queue is full")

	// ErrNoNeighbour: the kernel has no room for one more neighbour, and refuses what goes
	// to a group that it has none for. It comes with ErrNoBuffer.
	ErrNoNeighbour = errors.New("the kernel's table of neighbours is full")

	// ErrTooLong: the payload is above MaxPayload or, where fragments are not
	// allowed, above what the interface's MTU leaves room for.
	ErrTooLong = errors.New("too long")

	// ErrNoFamily: the system is without that address family.
	ErrNoFamily = errors.New("no such address family")

	// ErrBadGroup: not a group of the sender's address family with a port.
	ErrBadGroup = errors.New("not a group")

	// ErrBadHost: not a host of the sender's address family with a port, or a broadcast
	// address where the datagram may not go to one.
	ErrBadHost = errors.New("not a host")

	// ErrUnreachable: nothing leads to the host by the interface. It is of one host.
	ErrUnreachable = errors.New("unreachable")
)

// stateError is a text for people together with the errors a program asks for.
type stateError struct {
	text string
	is   []error
}

func (e *stateError) Error() string   { return e.text }
func (e *stateError) Unwrap() []error { return e.is }

// pending returns an error that wraps ErrPending and causes, but says only text.
func pending(text string, causes ...error) error {
	return &stateError{text, append([]error{ErrPending}, causes...)}
}
