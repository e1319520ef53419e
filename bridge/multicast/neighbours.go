package multicast

import "fmt"

// The kernel keeps a neighbour for each group that it sends to on an interface, in the tables
// of ARP and of neighbour discovery, which all interfaces share. Whoever speaks for so many
// hosts fills one (gc_thresh3 of arp(7), 1,024 as it comes), and none is forgotten for five
// seconds. Until then what goes to a group that has none is refused: over IPv4 with ENOBUFS,
// as by a full queue; over IPv6 with EINVAL, as what could never leave. What tells them from
// those is that the kernel counts how often a table had no room.

// neighbours is what a sender knows of the table of its family.
type neighbours struct {
	ipv6      bool
	overflows func(ipv6 bool) (n uint64, ok bool) // how often it had no room; nil: nobody tells
	last      uint64                              // what that said last
	known     bool                                // it has
}

// overflowed reports whether the table had no room since that was last asked, and whether it
// was asked before.
func (t *neighbours) overflowed() (is, asked bool) {
	if t.overflows == nil {
		return false, false
	}
	n, ok := t.overflows(t.ipv6)
	asked = ok && t.known
	is = asked && n != t.last
	t.last, t.known = n, ok
	return is, asked
}

// refused reports whether a datagram over IPv6 was refused for want of a neighbour. Where it
// is unsure, it is not at the next try.
func (t *neighbours) refused(err error) (is, unsure bool) {
	if err == nil || !t.ipv6 || !invalid(err) {
		return false, false
	}
	is, asked := t.overflowed()
	return is, !asked && t.known
}

// NeighboursFull reports whether the kernel had no room for one more neighbour of the sender's
// family since it was last asked. Where it does not tell, and at first, it is false.
func (s *Sender) NeighboursFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	is, _ := s.neighbours.overflowed()
	return is
}

// noNeighbour says that there was no room, which is waited for as for that of a queue.
func noNeighbour(from Source, err error) error {
	return &stateError{
		fmt.Sprintf("send from %s: %v, and has none for the group: somebody may be speaking for hosts without number; more fit with a higher net.ipv6.neigh.default.gc_thresh3: %v", from, ErrNoNeighbour, err),
		[]error{ErrNoNeighbour, ErrNoBuffer, err},
	}
}
