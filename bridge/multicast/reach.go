package multicast

import "net/netip"

// What the kernel knows of the way to a host: whom it hands a datagram on the link, and
// whether that answers. It says so of its own, from what it has asked on the link by ARP or
// neighbour discovery. ICMP errors, which anybody can send, have no part in it.

// Reach is what the kernel knows of a neighbour.
type Reach uint8

const (
	// ReachUnknown: nobody is asked before a datagram leaves, or the system does not tell.
	ReachUnknown Reach = iota
	// ReachNone: it has not asked. What is sent next has it ask.
	ReachNone
	// ReachIncomplete: it has asked, and keeps what is sent meanwhile, for 3 seconds as it comes.
	// That takes up the send buffer.
	ReachIncomplete
	// ReachFailed: nobody has answered, and what it kept is lost.
	ReachFailed
	// ReachKnown: what is sent leaves.
	ReachKnown
)

// NextHop is whom the kernel hands a datagram for a host: the host itself, or a gateway. It is
// the zero Addr where it asks for nobody: of this host itself, of a broadcast address, on an
// interface without ARP, or where the system does not tell.
func (s *Sender) NextHop(host netip.Addr) netip.Addr {
	if !s.source.Binding.Host {
		return netip.Addr{}
	}
	return s.carrier.nextHop(s.source, host)
}

// Reach is what the kernel knows of a neighbour on the interface, which NextHop has named.
func (s *Sender) Reach(hop netip.Addr) Reach {
	if !hop.IsValid() {
		return ReachUnknown
	}
	return s.carrier.reach(s.source.Index, hop)
}

// Buffered is about how much a datagram takes of the send buffer while the kernel keeps it, in
// bytes: the room for the payload and the headers is a power of two, and there is what describes
// it. Buffer has them not.
func Buffered(payload int) int {
	const headers, least, described = 400, 512, 384
	n := least
	for n < payload+headers {
		n *= 2
	}
	return n + described
}
