package multicast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// What the target of a datagram may be, what a socket needs for it, and what its owner is
// told.

// isGroup reports whether a datagram can go to it, and be received of it: a multicast
// address with a port.
func isGroup(g netip.AddrPort) bool {
	a := g.Addr()
	return a.IsMulticast() && !a.Is4In6() && a.Zone() == "" && g.Port() != 0
}

// isHostPort reports whether it stands for what comes to a host itself at a port.
func isHostPort(g netip.AddrPort) bool {
	return g.Addr().IsUnspecified() && g.Addr().Zone() == "" && g.Port() != 0
}

// socketOption is one to set, and what to call it.
type socketOption struct {
	name string
	set  func() error
}

// targetOptions say how groups are sent to. For other targets the kernel has other options,
// and goes by those alone (ip(7), ipv6(7)).
func (s *Sender) targetOptions() []socketOption {
	b := s.source.Binding
	return []socketOption{
		// By index: by address it would be ambiguous where two interfaces have the same.
		{"the interface", func() error {
			return s.ip.SetMulticastInterface(&net.Interface{Index: s.source.Index, Name: s.source.Interface})
		}},
		{"the ttl", func() error { return s.ip.setTTL(int(b.TTL)) }},
		{"loopback", func() error { return s.ip.SetMulticastLoopback(b.Loopback) }},
	}
}

// refuse returns why d cannot be sent, as far as can be told without asking the
// kernel. It does not allocate.
func (s *Sender) refuse(d *Datagram) error {
	switch {
	case len(d.Payload) > MaxPayload:
		return ErrTooLong
	case !isGroup(d.Group), d.Group.Addr().Is4() == s.source.Binding.IPv6:
		return ErrBadGroup
	}
	return nil
}

// aboutSource reports whether the error of a send is about the source or the interface, and
// not about d. Of a group's datagram "unreachable" always is: the kernel looks for no host,
// and what routers say of one is not believed (stray_linux.go).
func aboutSource(err error, d *Datagram) bool { return unreachable(err) && isGroup(d.Group) }

// explain returns the error for the owner of d.
func (s *Sender) explain(d *Datagram, err error) error {
	switch {
	case errors.Is(err, ErrBadGroup):
		return fmt.Errorf("send to %s from %s: %w of %s with a port", d.Group, s.source, err, family(s.source.Binding.IPv6))
	case errors.Is(err, ErrTooLong):
		return fmt.Errorf("send %d bytes to %s: %w: a datagram holds %d", len(d.Payload), d.Group, err, MaxPayload)
	case tooLong(err):
		return fmt.Errorf("send %d bytes to %s from %s: %w for its MTU of %d bytes: %w", len(d.Payload), d.Group, s.source, ErrTooLong, s.source.MTU, err)
	case filtered(err):
		return fmt.Errorf("send to %s from %s: a firewall on this host forbids it: %w", d.Group, s.source, err)
	}
	return fmt.Errorf("send %d bytes to %s from %s: %w", len(d.Payload), d.Group, s.source, err)
}
