package multicast

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A fixed source port may be one that another program of the host uses too, and lets
// others use: 5353, of multicast DNS. Linux has a socket that is bound to an address
// take all unicast for it from one that is bound to the wildcard, whoever was first,
// and our sender would drop it. So
//
//   - alone on its port, a sender is bound like others, and counts what comes there
//     (Unclaimed); it lets others join;
//   - beside another it is connected, to a group that nobody uses: then nothing matches
//     it but what that group would send, and all unicast is the other's. Datagrams to
//     other groups leave as before, since each names its own.
//
// That two senders of this program have one source and port would not show then. It
// is a mistake more likely than not, so each holds a name as well.

// fixedPort is what a sender with a fixed port has beside its socket. The zero value
// is that of a sender without one.
type fixedPort struct {
	shared bool     // others have the port: the socket is connected, or is to be
	name   *os.File // nil: none is to be had here
}

func (p fixedPort) release() {
	if p.name != nil {
		p.name.Close()
	}
}

// openFixed makes the socket of a source with a fixed port. It is not connected yet.
func openFixed(src Source, prepare func(fd int) error) (c *net.UDPConn, port fixedPort, err error) {
	if port.name, err = claim(src); err != nil {
		return nil, port, err
	}
	to := netip.AddrPortFrom(src.Addr, src.Binding.SourcePort)
	port.shared = othersOn(to, 0) // first, so that it can be connected as soon as it is bound
	c, err = newUDP(src.Binding.IPv6, func(fd int) error {
		if err := joinVRF(fd, src.Index, src.VRF != ""); err != nil {
			return err
		}
		if err := prepare(fd); err != nil {
			return err
		}
		return bindShared(fd, sockaddr(to, src.Index), false)
	})
	if err != nil {
		port.release()
	}
	return c, port, err
}

// claim takes the name of a source and its port, which one sender can have at a time:
// that of a socket in the abstract namespace, which is as wide as ports are, one
// network namespace, and ends with its process (unix(7)).
func claim(src Source) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil // not allowed here (RestrictAddressFamilies): go without
	}
	name := "@topicast/sender/" + netip.AddrPortFrom(src.Addr, src.Binding.SourcePort).String()
	if src.Addr.IsLinkLocalUnicast() || src.VRF != "" { // there is one on each interface
		name += "%" + strconv.Itoa(src.Index)
	}
	f := os.NewFile(uintptr(fd), name)
	switch err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); {
	case err == unix.EADDRINUSE:
		f.Close()
		return nil, errDuplicate
	case err != nil:
		f.Close()
		return nil, nil
	}
	return f, nil
}

// SharePort leaves the unicast that comes to the sender's fixed port to other programs
// that have the port too, if there are any now, from then on: Linux does not give an
// IPv6 socket back what connecting it took. For a port that the kernel chose it does
// nothing. Callers ask once in a while, in the network namespace of the sender: nothing
// tells of such a program.
func (s *Sender) SharePort() error {
	if s.source.Binding.SourcePort == 0 {
		return nil
	}
	own, err := s.inode()
	if err != nil {
		return err
	}
	others := othersOn(s.local, own)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !others || s.port.shared || s.answers != nil {
		return nil
	}
	return s.connect()
}

// othersOn reports whether others than the socket with that inode would be given what
// comes to an address.
func othersOn(addr netip.AddrPort, own uint64) bool {
	holders := boundSockets("/proc/thread-self/net/udp6", addr.Port()) // they may have both families
	if addr.Addr().Is4() {
		holders = append(holders, boundSockets("/proc/thread-self/net/udp", addr.Port())...)
	}
	for _, h := range holders {
		if a := h.local.Addr(); h.inode != own && (a.IsUnspecified() || a == addr.Addr()) {
			return true
		}
	}
	return false
}

func (s *Sender) inode() (uint64, error) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	return inodeOf(raw)
}

func inodeOf(raw syscall.RawConn) (uint64, error) {
	var stat unix.Stat_t
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &stat) })
	return stat.Ino, errors.Join(err, os.NewSyscallError("fstat", failed))
}

// connect has the socket take nothing that comes. Callers hold mu, or have s alone.
func (s *Sender) connect() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	const discard = 9 // RFC 863
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.Connect(int(fd), sockaddr(netip.AddrPortFrom(s.probeGroup(), discard), s.source.Index))
	})
	if err = errors.Join(err, os.NewSyscallError("connect", failed)); err == nil {
		s.port.shared = true
	}
	return err
}
