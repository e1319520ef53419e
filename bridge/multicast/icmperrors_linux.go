package multicast

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Anybody on the way, or anybody who guesses a port, can send ICMP errors about datagrams that
// never left. A group's datagrams have none: nobody may answer them with one (RFC 1122,
// 3.2.2; RFC 4443, 2.4 e), but for the two of IPv6 that ask a sender to change what it
// sends, which for a group would be one member's word for all. So none is believed.
//
// Without IP_RECVERR none would come. But that is also what has the kernel report a full
// queue of the interface, and without it losses there would be silent (ip(7)). So they
// come, in place of the result of a send that they have nothing to do with, which the
// kernel then has not tried. What tells them from it is that they are also held in the
// socket's error queue.

// boundErrors bounds the memory in which the kernel holds ICMP errors for a socket. It is
// the receive buffer, in which nothing else ever waits but answers, where those are read.
func boundErrors(fd int, answers bool) error {
	if answers {
		_, err := grow(fd, unix.SO_RCVBUF, answerBuffer)
		return err
	}
	return option("SO_RCVBUF", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, errorBuffer))
}

// errorBuffer is the size of that, in bytes: of several drivers a frame takes up 4 KB,
// however short it is.
const errorBuffer = 16 << 10

// answerBuffer is it where answers are read, as all devices of a group may answer at once.
const answerBuffer = 1 << 20

// mostICMPErrors is more ICMP errors than the kernel holds for a socket.
const mostICMPErrors = 256

// foreign are the errors that an ICMP error may read like: icmp_err_convert and
// icmpv6_err_convert of Linux. The host itself says some of them too.
var foreign = []unix.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
	unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EPROTO, unix.EMSGSIZE, unix.EACCES}

// icmpErrors returns a function that reports whether an error of a send reads like an ICMP
// error, and whether the kernel holds any: then it is nothing that the host says of the
// datagram. It takes those out.
func (s *Sender) icmpErrors() func(error) (may, is bool) {
	if s.takeErrors == nil {
		return nil
	}
	return func(err error) (may, is bool) {
		if errno, ok := errors.AsType[unix.Errno](err); !ok || !slices.Contains(foreign, errno) {
			return false, false
		}
		return true, s.takeErrors()
	}
}

// errorTaker returns a function that takes the ICMP errors out of the socket's error queue, and
// reports whether there were any. What they say of hosts is kept for HostErrors.
func (s *Sender) errorTaker() func() bool {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return nil
	}
	return func() (any bool) {
		_ = raw.Control(func(fd uintptr) {
			var oob [512]byte
			for range mostICMPErrors {
				_, n, _, to, err := unix.Recvmsg(int(fd), nil, oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
				if err != nil {
					return
				}
				if e, ok := icmpErrorIn(oob[:n]); ok {
					any = true
					if e.To = addrPortOf(to); s.source.Binding.Host && e.To.IsValid() {
						s.hostErrors.add(e)
					}
				}
			}
		})
		return any
	}
}

// icmpErrorIn returns the ICMP error that control messages tell of, but for where the datagram was
// to go, and whether they tell of any. What the kernel itself refuses for its length is there too.
func icmpErrorIn(oob []byte) (e HostError, ok bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return e, false
	}
	for _, m := range messages {
		ours := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR ||
			m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		// struct sock_extended_err: a number of 32 bits, origin, type, code and three more
		// numbers; behind it stands who said it (ip(7), SO_EE_OFFENDER).
		const origin, kind, code, offender = 4, 5, 6, 16
		if !ours || len(m.Data) <= origin || m.Data[origin] == unix.SO_EE_ORIGIN_LOCAL {
			continue
		}
		if len(m.Data) >= offender {
			e.Text = icmpText(m.Data[origin] == unix.SO_EE_ORIGIN_ICMP6, m.Data[kind], m.Data[code])
			e.From = offenderOf(m.Data[offender:])
		}
		return e, true
	}
	return e, false
}

// offenderOf reads the address in a struct sockaddr_in or sockaddr_in6; the zero one where there is none.
func offenderOf(sockaddr []byte) (a netip.Addr) {
	switch {
	case len(sockaddr) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(sockaddr) == unix.AF_INET:
		a, _ = netip.AddrFromSlice(sockaddr[4:8])
	case len(sockaddr) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(sockaddr) == unix.AF_INET6:
		a, _ = netip.AddrFromSlice(sockaddr[8:24])
	}
	return a.Unmap()
}

// addrPortOf is a socket address as a netip.AddrPort, without a zone; the zero one for other kinds.
func addrPortOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// The codes of "destination unreachable", in the words of RFC 792, RFC 1122 and RFC 1812, and of RFC 4443.
var (
	unreachable4 = []string{"network unreachable", "host unreachable", "protocol unreachable", "port unreachable", "fragmentation needed", "source route failed",
		"network unknown", "host unknown", "source host isolated", "network administratively prohibited", "host administratively prohibited",
		"network unreachable for this type of service", "host unreachable for this type of service", "communication administratively prohibited"}
	unreachable6 = []string{"no route to destination", "communication administratively prohibited", "beyond scope of source address", "address unreachable",
		"port unreachable", "source address failed ingress policy", "reject route to destination"}
)

// icmpText says what an ICMP error says.
func icmpText(v6 bool, kind, code byte) string {
	var text string
	codes, unreachable := unreachable4, byte(ipv4.ICMPTypeDestinationUnreachable)
	if text = ipv4.ICMPType(kind).String(); v6 {
		codes, unreachable = unreachable6, byte(ipv6.ICMPTypeDestinationUnreachable)
		text = ipv6.ICMPType(kind).String()
	}
	if kind == unreachable && int(code) < len(codes) {
		return codes[code]
	}
	return text
}

// setFragment has the datagrams that follow leave in fragments if they are longer than the
// interface's MTU, or be refused. Callers hold mu.
func (s *Sender) setFragment(on bool) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = fragment(int(fd), s.source.Binding.IPv6, on) }); err != nil {
		return err
	}
	return failed
}

// fragment is setFragment for a socket. What is longer than the interface's MTU is a matter
// of that alone. A path MTU is what ICMP errors say, and a single one, about a group to
// which there is a route, would have all of its datagrams refused, or fragmented, for ten
// minutes. For IPv4 it is PROBE, which sets DF, and not INTERFACE: routers are not to
// fragment either, and without DF each datagram would take a number of its own.
func fragment(fd int, ipv6, on bool) error {
	level, which, how := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	switch {
	case ipv6 && on:
		level, which, how = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT
	case ipv6:
		level, which, how = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_INTERFACE
	case on:
		how = unix.IP_PMTUDISC_OMIT
	}
	return option("how to treat what is longer than the MTU", unix.SetsockoptInt(fd, level, which, how))
}
