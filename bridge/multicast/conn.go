package multicast

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// packetConn is what ipv4.PacketConn and ipv6.PacketConn have in common, and
// under one name what they name differently.
type packetConn interface {
	SetMulticastInterface(*net.Interface) error
	SetMulticastLoopback(bool) error
	MulticastLoopback() (bool, error)
	SetBPF([]bpf.RawInstruction) error
	JoinGroup(*net.Interface, net.Addr) error
	JoinSourceSpecificGroup(on *net.Interface, group, source net.Addr) error
	LeaveGroup(*net.Interface, net.Addr) error
	WriteBatch([]ipv4.Message, int) (int, error)
	ReadBatch([]ipv4.Message, int) (int, error)

	setTTL(int) error
	setHostTTL(int) error
	setTrafficClass(int) error
	markArrivals() error // have received datagrams carry the interface they arrived on, and the group
}

func newPacketConn(c *net.UDPConn, v6 bool) packetConn {
	if v6 {
		return conn6{ipv6.NewPacketConn(c)}
	}
	return conn4{ipv4.NewPacketConn(c)}
}

type conn4 struct{ *ipv4.PacketConn }

func (c conn4) setTTL(n int) error          { return c.SetMulticastTTL(n) }
func (c conn4) setHostTTL(n int) error      { return c.SetTTL(n) }
func (c conn4) setTrafficClass(n int) error { return c.SetTOS(n) }
func (c conn4) markArrivals() error {
	return c.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
}

type conn6 struct{ *ipv6.PacketConn }

func (c conn6) setTTL(n int) error          { return c.SetMulticastHopLimit(n) }
func (c conn6) setHostTTL(n int) error      { return c.SetHopLimit(n) }
func (c conn6) setTrafficClass(n int) error { return c.SetTrafficClass(n) }
func (c conn6) markArrivals() error {
	return c.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
}

// option says which option could not be set.
func option(name string, err error) error {
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// addrPort returns an address of package net the way this package gives
// addresses out: 4 bytes if it is IPv4, and without a zone.
func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ip, _ := netip.AddrFromSlice(u.IP)
	return netip.AddrPortFrom(ip.Unmap(), uint16(u.Port))
}
