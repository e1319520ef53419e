package multicast

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// Anybody on the way, or who guesses a port, can send ICMP errors about datagrams that
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
// the receive buffer, in which nothing else ever waits.
func boundErrors(fd int) error {
	return option("SO_RCVBUF", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, errorBuffer))
}

// errorBuffer is the size of that, in bytes: of several drivers a frame takes up 4 KB,
// however short it is.
const errorBuffer = 16 << 10

// mostStrays is more ICMP errors than the kernel holds for a socket.
const mostStrays = 256

// foreign are the errors that an ICMP error may read like: icmp_err_convert and
// icmpv6_err_convert of Linux. The host itself says some of them too.
var foreign = []unix.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
	unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EPROTO, unix.EMSGSIZE, unix.EACCES}

// strayErrors returns a function that reports whether an error of a send reads like an ICMP
// error, and whether the kernel holds any: then it is nothing that the host says of the
// datagram. It takes those out.
func (s *Sender) strayErrors() func(error) (may, is bool) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return nil
	}
	return func(err error) (may, is bool) {
		if errno, ok := errors.AsType[unix.Errno](err); !ok || !slices.Contains(foreign, errno) {
			return false, false
		}
		_ = raw.Control(func(fd uintptr) {
			var oob [512]byte
			for range mostStrays {
				_, n, _, _, err := unix.Recvmsg(int(fd), nil, oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
				if err != nil {
					return
				}
				is = isStray(oob[:n]) || is
			}
		})
		return true, is
	}
}

// isStray reports whether control messages tell of an ICMP error. What the kernel itself
// refuses for its length is there too.
func isStray(oob []byte) bool {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for _, m := range messages {
		ours := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR ||
			m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		const origin = 4 // in struct sock_extended_err, behind a number of 32 bits
		if ours && len(m.Data) > origin && m.Data[origin] != unix.SO_EE_ORIGIN_LOCAL {
			return true
		}
	}
	return false
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
