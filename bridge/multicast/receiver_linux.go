package multicast

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// arrivalSpace has room for the control message that says on which interface a
// datagram arrived.
var arrivalSpace = max(unix.CmsgSpace(unix.SizeofInet4Pktinfo), unix.CmsgSpace(unix.SizeofInet6Pktinfo))

// openReceiver makes a socket that is bound to the group and hears nothing but
// what it will join itself.
func openReceiver(group netip.AddrPort, index, wish int) (c *net.UDPConn, buffer int, err error) {
	c, err = openUDP(group, index, func(fd int) error {
		// Nearly all programs share the port of a group like this; each gets a copy.
		if err := option("SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)); err != nil {
			return err
		}
		if err := option("MULTICAST_ALL", ownMemberships(fd, group.Addr().Is6())); err != nil {
			return err
		}
		buffer, err = grow(fd, unix.SO_RCVBUF, wish)
		return err
	})
	return c, buffer, err
}

// ownMemberships turns off Linux's default of delivering what any program on
// the host has joined, on any interface (ip(7), IP_MULTICAST_ALL).
func ownMemberships(fd int, ipv6 bool) error {
	if !ipv6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil // before Linux 4.20; the bound group and meant do its work
	}
	return err
}

// meant tells whether a datagram arrived on the receiver's interface. IPv6 needs
// this: a socket bound to a group of more than link-local scope gets it from
// every interface that anybody joined it on.
func (r *Receiver) meant(m *ipv4.Message, _ netip.Addr) bool {
	for oob := m.OOB[:m.NN]; len(oob) > 0; {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		switch {
		case err != nil:
			return false
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return int(binary.NativeEndian.Uint32(data)) == r.index // in_pktinfo.ipi_ifindex
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return int(binary.NativeEndian.Uint32(data[16:])) == r.index // in6_pktinfo.ipi6_ifindex
		}
		oob = rest
	}
	return false
}

// KernelDrops returns how many datagrams the kernel has dropped because the
// receive buffer was full, since Listen. It counts up to 2³² and starts again.
func (r *Receiver) KernelDrops() (uint64, error) {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	// SO_MEMINFO is an array of which SK_MEMINFO_DROPS, 8, is the last
	// (linux/sock_diag.h). x/sys has no call that reads it.
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("getsockopt", errno)
	}
	return uint64(info[8]), err
}
