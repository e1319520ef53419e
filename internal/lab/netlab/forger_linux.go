package netlab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A Forger sends IP packets that claim to come from anybody, as any host on a network
// can. Its methods may be called from any goroutine.
type Forger struct {
	four, six int // raw sockets whose packets bring their header along (raw(7), IPPROTO_RAW)
	link      int // a packet socket, for packets in frames to a station that is given
	index     int
}

// Forger opens a forger on a host's interface, until the end of the test.
func (h *Host) Forger(dev string) *Forger {
	h.t.Helper()
	f := &Forger{four: -1, six: -1, link: -1, index: h.Index(dev)}
	h.must(h.Do(f.open), "forge on", dev)
	h.t.Cleanup(func() {
		unix.Close(f.four)
		unix.Close(f.six)
		unix.Close(f.link)
	})
	return f
}

func (f *Forger) open() (err error) {
	if f.four, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if f.six, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if f.link, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptIPMreqn(f.four, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(f.index)})
	if err == nil {
		err = unix.SetsockoptInt(f.six, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, f.index)
	}
	return os.NewSyscallError("setsockopt MULTICAST_IF", err)
}

// UDP sends a datagram.
func (f *Forger) UDP(source, to netip.AddrPort, payload []byte) error {
	return f.send(unix.IPPROTO_UDP, source.Addr(), to.Addr(), udp(source, to, payload))
}

// IGMP sends a message of IGMP (RFC 3376); its checksum is filled in.
func (f *Forger) IGMP(source, to netip.Addr, message []byte) error {
	message[2], message[3] = 0, 0
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return f.send(unix.IPPROTO_IGMP, source, to, message)
}

// FirstFragment sends the first part of a datagram over IPv4 whose other parts never come.
func (f *Forger) FirstFragment(source, to netip.AddrPort, id uint16, payload []byte) error {
	const more = 0x2000
	body := udp(source, to, payload)
	head := header4(unix.IPPROTO_UDP, source.Addr(), to.Addr(), len(body))
	binary.BigEndian.PutUint16(head[4:], id)
	binary.BigEndian.PutUint16(head[6:], more)
	return f.write(append(head, body...), to.Addr())
}

// MLD sends a message of MLD (RFC 3810), as they have to be: of one hop, and for routers to
// look at; its checksum is filled in.
func (f *Forger) MLD(source, to netip.Addr, message []byte) error {
	routerAlert := []byte{unix.IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0} // RFC 2711, in a header of RFC 8200, 4.3
	head := header6(v6HopByHop, source, to, len(routerAlert)+len(message))
	head[7] = 1
	return f.write(append(append(head, routerAlert...), icmp6(source, to, message)...), to)
}

// Neighbour sends a message of neighbour discovery (RFC 4861), which is believed only with the
// hop limit of one that no router has passed on; its checksum is filled in.
func (f *Forger) Neighbour(source, to netip.Addr, message []byte) error {
	head := header6(unix.IPPROTO_ICMPV6, source, to, len(message))
	head[7] = 255
	return f.write(append(head, icmp6(source, to, message)...), to)
}

// Solicit asks a station for the hardware address of an address of its own (RFC 4861, 4.3), in
// the name of a host that has the hardware address 02:00:… with the last four bytes of its
// address. The kernel of the forger need know no neighbour for that: the table is one for all
// namespaces.
func (f *Forger) Solicit(source, to netip.Addr, station net.HardwareAddr) error {
	message := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, to.AsSlice()...)
	from := source.As16()
	message = append(append(message, 1, 1, 2, 0), from[12:]...)
	packet := header6(unix.IPPROTO_ICMPV6, source, to, len(message))
	packet[7] = 255
	to6 := unix.SockaddrLinklayer{Ifindex: f.index, Halen: uint8(len(station))}
	to6.Protocol = binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6))
	copy(to6.Addr[:], station)
	return os.NewSyscallError("sendto", unix.Sendto(f.link, append(packet, icmp6(source, to, message)...), 0, &to6))
}

// An ICMPError is what a router or a host says of a datagram that it could not pass on.
type ICMPError int

// The errors: the numbers of RFC 792 and RFC 4443 are where they are sent.
const (
	TooBig ICMPError = iota // with an MTU
	HostUnreachable
	PortUnreachable
)

// ICMP sends an error about a datagram from one address to another, to the sender of the
// datagram. Of the datagram it quotes the header and 8 bytes more, as RFC 792 asks for.
func (f *Forger) ICMP(source netip.Addr, kind ICMPError, mtu int, from, to netip.AddrPort) error {
	quoted := udp(from, to, make([]byte, 1400))
	if from.Addr().Is4() {
		message := [][]byte{TooBig: {3, 4}, HostUnreachable: {3, 1}, PortUnreachable: {3, 3}}[kind]
		message = append(message, 0, 0, 0, 0, byte(mtu>>8), byte(mtu))
		message = append(append(message, header4(unix.IPPROTO_UDP, from.Addr(), to.Addr(), len(quoted))...), quoted[:8]...)
		binary.BigEndian.PutUint16(message[2:], checksum(message))
		return f.send(unix.IPPROTO_ICMP, source, from.Addr(), message)
	}
	message := [][]byte{TooBig: {2, 0}, HostUnreachable: {1, 3}, PortUnreachable: {1, 4}}[kind]
	message = binary.BigEndian.AppendUint32(append(message, 0, 0), uint32(mtu))
	message = append(append(message, header6(unix.IPPROTO_UDP, from.Addr(), to.Addr(), len(quoted))...), quoted[:8]...)
	return f.send(unix.IPPROTO_ICMPV6, source, from.Addr(), icmp6(source, from.Addr(), message))
}

// icmp6 fills in the checksum of an ICMPv6 message (RFC 4443, 2.3).
func icmp6(source, to netip.Addr, message []byte) []byte {
	message[2], message[3] = 0, 0
	binary.BigEndian.PutUint16(message[2:], checksum(pseudo6(unix.IPPROTO_ICMPV6, source, to, len(message)), message))
	return message
}

func (f *Forger) send(protocol byte, source, to netip.Addr, body []byte) error {
	if source.Is4() {
		return f.write(append(header4(protocol, source, to, len(body)), body...), to)
	}
	return f.write(append(header6(protocol, source, to, len(body)), body...), to)
}

// write sends a packet that has its header.
func (f *Forger) write(packet []byte, to netip.Addr) error {
	if to.Is4() {
		return os.NewSyscallError("sendto", unix.Sendto(f.four, packet, 0, &unix.SockaddrInet4{Addr: to.As4()}))
	}
	return os.NewSyscallError("sendto", unix.Sendto(f.six, packet, 0, &unix.SockaddrInet6{Addr: to.As16(), ZoneId: uint32(f.index)}))
}

// udp makes a UDP datagram. Over IPv4 it needs no checksum (RFC 768).
func udp(source, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, source.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	b = append(b, payload...)
	if source.Addr().Is6() {
		binary.BigEndian.PutUint16(b[6:], checksum(pseudo6(unix.IPPROTO_UDP, source.Addr(), to.Addr(), len(b)), b))
	}
	return b
}

// header4 makes an IPv4 header. The kernel fills in its checksum (raw(7)).
func header4(protocol byte, source, to netip.Addr, body int) []byte {
	b := make([]byte, 20, 20+body)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+body))
	copy(b[12:], source.AsSlice())
	copy(b[16:], to.AsSlice())
	return b
}

func header6(protocol byte, source, to netip.Addr, body int) []byte {
	b := make([]byte, 40, 40+body)
	b[0], b[6], b[7] = 0x60, protocol, 64
	binary.BigEndian.PutUint16(b[4:], uint16(body))
	copy(b[8:], source.AsSlice())
	copy(b[24:], to.AsSlice())
	return b
}

// pseudo6 is what else the checksum of IPv6's upper layers covers (RFC 8200, 8.1).
func pseudo6(protocol byte, source, to netip.Addr, body int) []byte {
	b := append(append(make([]byte, 0, 40), source.AsSlice()...), to.AsSlice()...)
	return append(binary.BigEndian.AppendUint32(b, uint32(body)), 0, 0, 0, protocol)
}

// checksum is that of the Internet protocols (RFC 1071) over parts of even length, but
// for the last.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for len(p) >= 2 {
			sum += uint32(binary.BigEndian.Uint16(p))
			p = p[2:]
		}
		if len(p) == 1 {
			sum += uint32(p[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
