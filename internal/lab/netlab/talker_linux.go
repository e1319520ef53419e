package netlab

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A Talker sends to groups as the devices in the field do: one plain socket on
// one address of one interface, one datagram after the other.
type Talker struct {
	t      T
	fd     int
	source netip.AddrPort
}

// Talker opens a talker on an address of a host's interface, until the end of the
// test.
func (h *Host) Talker(dev string, source netip.Addr) *Talker {
	h.t.Helper()
	index := h.Index(dev)
	k := &Talker{t: h.t, fd: -1}
	h.must(h.Do(func() error { return k.open(index, source) }), "talk on", dev)
	h.t.Cleanup(func() { unix.Close(k.fd) })
	return k
}

func (k *Talker) open(index int, source netip.Addr) (err error) {
	family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MULTICAST_IF
	if source.Is6() {
		family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF
	}
	if k.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(k.fd, sockaddr(netip.AddrPortFrom(source, 0), index)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if source.Is6() {
		err = unix.SetsockoptInt(k.fd, level, option, index)
	} else {
		err = unix.SetsockoptIPMreqn(k.fd, level, option, &unix.IPMreqn{Ifindex: int32(index)})
	}
	if err != nil {
		return os.NewSyscallError("setsockopt MULTICAST_IF", err)
	}
	own, err := unix.Getsockname(k.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	k.source = addrPort(own)
	return nil
}

// Source is where its datagrams come from.
func (k *Talker) Source() netip.AddrPort { return k.source }

// Say sends datagrams to a group. The kernel has them all when it returns, and
// over a cable of the lab so has the other end.
func (k *Talker) Say(group netip.AddrPort, payloads ...[]byte) {
	k.t.Helper()
	to := sockaddr(group, 0)
	for _, p := range payloads {
		if err := unix.Sendto(k.fd, p, 0, to); err != nil {
			k.t.Fatalf("netlab: %v says %d bytes to %v: %v", k.source, len(p), group, err)
		}
	}
}

// sockaddr is an address for the kernel; zone is used where an IPv6 address is of
// link scope.
func sockaddr(a netip.AddrPort, zone int) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	to := &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	if a.Addr().IsLinkLocalUnicast() {
		to.ZoneId = uint32(zone)
	}
	return to
}
