package multicast

import "net/netip"

// HostError is an ICMP error about a datagram that a Sender sent to a host.
type HostError struct {
	To   netip.AddrPort // where the datagram was to go
	From netip.Addr     // who says that it could not: the host, or a router; invalid: that is not known
	Text string         // what it says, such as "port unreachable"
}

// HostErrors returns the ICMP errors that have come about datagrams to hosts since it was called
// last. That one of them is true cannot be told: who is on the way can say anything, and who is not
// can guess the port. Other systems than Linux report none.
func (s *Sender) HostErrors() []HostError {
	if !s.source.Binding.Host {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeErrors != nil && s.takeErrors() {
		s.straysTaken.Store(true)
	}
	return s.hostErrors.take()
}
