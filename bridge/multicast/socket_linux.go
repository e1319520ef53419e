package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// openUDP makes a socket, lets prepare set options on it, and binds it to addr,
// a group as well as an address of this host: given a group, package net would
// bind the wildcard instead (golang/go#73484). index is the interface, for the
// addresses that mean nothing without one (RFC 4007).
func openUDP(addr netip.AddrPort, index int, vrf bool, prepare func(fd int) error) (*net.UDPConn, error) {
	return newUDP(addr.Addr().Is6(), func(fd int) error {
		if err := joinVRF(fd, index, vrf); err != nil {
			return err
		}
		if err := prepare(fd); err != nil {
			return err
		}
		return os.NewSyscallError("bind", unix.Bind(fd, sockaddr(addr, index)))
	})
}

// joinVRF lets a socket have part in the VRF of its interface, if there is one:
// addresses and ports are then those of its own table, which the socket shares only
// if it is bound to the interface before it is bound to an address
// (Documentation/networking/vrf.rst). It needs CAP_NET_RAW before Linux 5.7.
func joinVRF(fd, index int, vrf bool) error {
	if !vrf {
		return nil
	}
	return option("SO_BINDTOIFINDEX, which a member of a VRF needs", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index))
}

// newUDP makes a socket that prepare may bind; unbound it has no port, and hears
// nothing. It leaves the last KeptDescriptors to others.
func newUDP(ipv6 bool, prepare func(fd int) error) (*net.UDPConn, error) {
	fd := 0
	c, err := newKeptUDP(ipv6, prepare)
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(is uintptr) { fd = int(is) })
	}
	// The kernel gives out the lowest number that is free: all below are in use.
	if limit := DescriptorLimit(); err == nil && limit > 0 && fd >= limit-KeptDescriptors() {
		err = errNoDescriptors()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// newKeptUDP is newUDP for a socket that is soon closed, and may have one of
// KeptDescriptors.
func newKeptUDP(ipv6 bool, prepare func(fd int) error) (*net.UDPConn, error) {
	domain := unix.AF_INET
	if ipv6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close() // FilePacketConn makes a duplicate
	if err := prepare(fd); err != nil {
		return nil, err
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func sockaddr(addr netip.AddrPort, index int) unix.Sockaddr {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}
	}
	sa := &unix.SockaddrInet6{Addr: addr.Addr().As16(), Port: int(addr.Port())}
	if a := addr.Addr(); a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast() {
		sa.ZoneId = uint32(index)
	}
	return sa
}

// openSender makes the socket of a source and sets what is Linux's own.
func openSender(src Source) (c *net.UDPConn, port fixedPort, buffer int, err error) {
	prepare := func(fd int) error {
		if src.Binding.IPv6 {
			// Losses in the interface's queue come back as ENOBUFS instead of vanishing (ip(7)).
			err = option("IPV6_RECVERR", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1))
		} else {
			err = option("IP_RECVERR", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1))
		}
		if err := errors.Join(err, fragment(fd, src.Binding.IPv6, false), stayOnLink(fd, src.Binding.Host), boundErrors(fd, src.Binding.Answers != "")); err != nil {
			return err
		}
		buffer, err = grow(fd, unix.SO_SNDBUF, sendBuffer)
		return err
	}
	if src.Binding.SourcePort != 0 {
		c, port, err = openFixed(src, prepare)
	} else {
		c, err = openUDP(netip.AddrPortFrom(src.Addr, 0), src.Index, src.VRF != "", prepare)
	}
	return c, port, buffer, err
}

// stayOnLink keeps the routes from handing a group's datagrams to a gateway. Where
// one covers the group and names a gateway on the interface, Linux resolves the
// gateway's hardware address even for a socket whose interface is set: the datagram
// leaves in a unicast frame that no other station hears. SO_DONTROUTE restricts the
// lookup to what is on the link (socket(7)); where there is no such route Linux
// takes the group to be on the link, which is what a multicast address means. The
// TTL is not restricted by it.
//
// A host may be behind a gateway: there the routes of the interface are asked.
func stayOnLink(fd int, host bool) error {
	if host {
		return nil
	}
	return option("SO_DONTROUTE", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DONTROUTE, 1))
}

// pinHosts has datagrams to hosts leave by the interface alone, whatever the routes say. The
// kernel then asks only those of the interface. Where none leads to an IPv4 host it takes
// that to be on the link; an IPv6 one is unreachable.
//
// For IPv4 it is IP_UNICAST_IF. With SO_BINDTODEVICE, which does the same, the host's own
// word that a neighbour does not answer would not reach the socket, since it comes by the
// loopback interface. For IPv6 IPV6_UNICAST_IF is a wish that a route by another interface
// passes over; only SO_BINDTODEVICE holds (ip6_route_output_flags), and what the kernel
// says of neighbours it says on the interface there. It needs CAP_NET_RAW before Linux 5.7.
func (s *Sender) pinHosts() error {
	if s.source.VRF != "" {
		return nil // bound to the interface already
	}
	index := s.source.Index
	return s.control(func(fd int) error {
		if s.source.Binding.IPv6 {
			return option("SO_BINDTOIFINDEX", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index))
		}
		var network [4]byte // the index, in the network's order
		binary.BigEndian.PutUint32(network[:], uint32(index))
		return option("IP_UNICAST_IF", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_UNICAST_IF, int(int32(binary.NativeEndian.Uint32(network[:])))))
	})
}

// setBroadcast sets SO_BROADCAST (socket(7)).
func (s *Sender) setBroadcast(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return s.control(func(fd int) error {
		return option("SO_BROADCAST", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, value))
	})
}

func (s *Sender) control(set func(fd int) error) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = set(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// dropInbound attaches a filter that drops all that comes in, before it takes up memory.
func (s *Sender) dropInbound() error {
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return err
	}
	return s.ip.SetBPF(nothing)
}

// grow asks for a socket buffer and returns what was granted: the kernel cuts
// the wish to net.core.wmem_max or rmem_max without a word, and doubles the
// rest for its own needs (socket(7)); both figures here are without that.
func grow(fd, which, bytes int) (granted int, err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, which, bytes); err != nil {
		return 0, option("the buffer size", err)
	}
	granted, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, which)
	return granted / 2, os.NewSyscallError("getsockopt", err)
}

// canSegment asks the kernel whether it knows UDP_SEGMENT (Linux 4.18), and returns
// why not. One that does not would ignore the control message and send a run as one
// datagram.
func canSegment(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Control(func(fd uintptr) {
		_, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	})
	if err != nil {
		return fmt.Errorf("this kernel does not know segmented sends (UDP_SEGMENT, Linux 4.18): %w", err)
	}
	return nil
}
