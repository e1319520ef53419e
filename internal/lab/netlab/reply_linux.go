package netlab

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Reply sends a datagram from the socket with which the device listens to a port, as what
// answers a request does. It may be called by what the device's listener calls.
func (d *Device) Reply(port uint16, to netip.AddrPort, payload []byte) error {
	for _, s := range d.sockets {
		if s.port != port {
			continue
		}
		raw, err := s.file.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		if err := raw.Control(func(fd uintptr) { failed = unix.Sendto(int(fd), payload, 0, sockaddr(to, 0)) }); err != nil {
			return err
		}
		return os.NewSyscallError("sendto", failed)
	}
	return fmt.Errorf("the device does not listen to port %d", port)
}
