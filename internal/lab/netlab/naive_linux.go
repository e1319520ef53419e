package netlab

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Naive sends one datagram the way that looks right and is not: connect first,
// choose the interface with IP_MULTICAST_IF after, and never bind. connect
// looks up a route and settles the source address there and then; the option
// comes too late for it and changes only where the datagram leaves. It shows
// that a test would see the fault that topicast exists to avoid.
func (h *Host) Naive(dev string, group netip.AddrPort, payload []byte) {
	h.t.Helper()
	index := h.Index(dev)
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: group.Addr().As4(), Port: int(group.Port())}); err != nil {
			return os.NewSyscallError("connect", err)
		}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}); err != nil {
			return os.NewSyscallError("setsockopt IP_MULTICAST_IF", err)
		}
		_, err = unix.Write(fd, payload)
		return os.NewSyscallError("write", err)
	})
	h.must(err, "send naively to", fmt.Sprint(group))
}
