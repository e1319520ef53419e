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

// isHost reports whether a datagram can go to it, as far as the address tells: one of a
// host, or a broadcast address.
func isHost(h netip.AddrPort) bool {
	a := h.Addr()
	return a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() && !a.Is4In6() && a.Zone() == "" && h.Port() != 0
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

// targetOptions say how the targets are sent to. For groups and for hosts the kernel has
// options of their own, and goes by those alone (ip(7), ipv6(7)). Those for groups are set
// either way: the self-test sends to one.
func (s *Sender) targetOptions() []socketOption {
	b := s.source.Binding
	options := []socketOption{
		// By index: by address it would be ambiguous where two interfaces have the same.
		{"the interface", func() error {
			return s.ip.SetMulticastInterface(&net.Interface{Index: s.source.Index, Name: s.source.Interface})
		}},
		{"the ttl", func() error { return s.ip.setTTL(int(b.TTL)) }},
		{"loopback", func() error { return s.ip.SetMulticastLoopback(b.Loopback) }},
	}
	if b.Host {
		options = append(options,
			socketOption{"the interface to hosts", s.pinHosts},
			socketOption{"the ttl to hosts", func() error { return s.ip.setHostTTL(int(b.TTL)) }},
			// Package net sets it on some systems.
			socketOption{"that nothing goes to a broadcast address", func() error { return s.setBroadcast(false) }},
		)
	}
	return options
}

// allowBroadcast lets what is sent next go to a broadcast address, or not. Callers hold mu.
func (s *Sender) allowBroadcast(on bool) error {
	if on == s.broadcasts || !s.source.Binding.Host || s.source.Binding.IPv6 {
		return nil
	}
	if err := s.setBroadcast(on); err != nil {
		return fmt.Errorf("send from %s: %w", s.source, err)
	}
	s.broadcasts = on
	return nil
}

// limitedBroadcast is for all of a link (RFC 919).
var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// refuse returns why d cannot be sent, as far as can be told without asking the
// kernel. It does not allocate.
func (s *Sender) refuse(d *Datagram) error {
	switch {
	case len(d.Payload) > MaxPayload:
		return ErrTooLong
	case s.source.Binding.Host:
		return s.refuseHost(d)
	case !isGroup(d.To), d.To.Addr().Is4() == s.source.Binding.IPv6:
		return ErrBadGroup
	}
	return nil
}

// refuseHost is refuse of what goes to a host.
func (s *Sender) refuseHost(d *Datagram) error {
	a := d.To.Addr()
	if !isHost(d.To) || a.Is4() == s.source.Binding.IPv6 {
		return ErrBadHost
	}
	switch {
	case d.Broadcast, !a.Is4():
	case a == limitedBroadcast, s.carrier.isBroadcast(a):
		return errBroadcast
	case a.IsLoopback() && !s.source.Addr.IsLoopback(), reserved.Contains(a):
		return errNowhere
	}
	return nil
}

// reserved are addresses that no host has (RFC 1112, 4).
var reserved = netip.MustParsePrefix("240.0.0.0/4")

// errNowhere is an ErrBadHost.
var errNowhere = fmt.Errorf("%w: no host of a network has this address", ErrBadHost)

// errBroadcast is an ErrBadHost, and says of which kind.
var errBroadcast = fmt.Errorf("%w: %s", ErrBadHost, BroadcastRefused)

// BroadcastRefused is why a Datagram that is not a Broadcast leaves for no broadcast address.
const BroadcastRefused = "a broadcast address goes to all hosts of the network, and is for a rule that names it as it is"

// aboutSource reports whether the error of a send is about the source or the interface, and
// not about d. Of a group's datagram "unreachable" always is: the kernel looks for no host,
// and what routers say of one is not believed (icmperrors_linux.go). Of a host's it is where the
// source or the interface is gone.
func (s *Sender) aboutSource(err error, d *Datagram) bool {
	return unreachable(err) && (!s.source.Binding.Host || sourceGone(err) || !s.isUp())
}

// isUp reports whether source and interface are there, as far as the system tells.
func (s *Sender) isUp() bool { return s.carrier.hasAddress() && s.carrier.up(s.source.Index) }

// explain returns the error for the owner of d.
func (s *Sender) explain(d *Datagram, err error) error {
	switch {
	case errors.Is(err, ErrBadGroup):
		return fmt.Errorf("send to %s from %s: %w of %s with a port", d.To, s.source, err, family(s.source.Binding.IPv6))
	case errors.Is(err, ErrBadHost):
		return fmt.Errorf("send to %s from %s: %w", d.To, s.source, err)
	case errors.Is(err, ErrTooLong):
		return fmt.Errorf("send %d bytes to %s: %w: a datagram holds %d", len(d.Payload), d.To, err, MaxPayload)
	case tooLong(err):
		return fmt.Errorf("send %d bytes to %s from %s: %w for its MTU of %d bytes: %w", len(d.Payload), d.To, s.source, ErrTooLong, s.source.MTU, err)
	case s.source.Binding.Host && unreachable(err):
		return fmt.Errorf("send to %s from %s: no route leads there by %s: %w: %w", d.To, s.source, s.source.Interface, ErrUnreachable, err)
	case s.source.Binding.Host && broadcastRefused(err) && !d.Broadcast:
		return fmt.Errorf("send to %s from %s: %w", d.To, s.source, errBroadcast)
	case filtered(err):
		return fmt.Errorf("send to %s from %s: a firewall on this host forbids it: %w", d.To, s.source, err)
	}
	return fmt.Errorf("send %d bytes to %s from %s: %w", len(d.Payload), d.To, s.source, err)
}
