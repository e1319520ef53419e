package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Device listens to groups as the devices in the field do: plain sockets,
// joined on one interface, one datagram read after the other.
type Device struct {
	t       T
	name    string
	sockets []deviceSocket
	note    func(Received) // takes the datagrams instead of got; nil: got does

	mu      sync.Mutex
	changed *sync.Cond
	got     []Received
}

// Received is a datagram that a device received.
type Received struct {
	Source  netip.AddrPort // of a link-local IPv6 source without the zone
	Group   netip.AddrPort
	Payload []byte
}

func (r Received) String() string {
	return fmt.Sprintf("%v > %v: %d bytes % x", r.Source, r.Group, len(r.Payload), r.Payload[:min(len(r.Payload), 32)])
}

// Device starts a device on an interface that receives from groups until the
// end of the test. There can be thousands of groups.
func (h *Host) Device(dev string, groups ...netip.AddrPort) *Device {
	h.t.Helper()
	return h.device(dev, nil, groups)
}

// Listener is a [Host.Device] that keeps nothing and calls note with each datagram
// instead, from a goroutine for each family and port; the payload is note's only
// until it returns. It is for streams without end.
func (h *Host) Listener(dev string, note func(Received), groups ...netip.AddrPort) *Device {
	h.t.Helper()
	return h.device(dev, note, groups)
}

func (h *Host) device(dev string, note func(Received), groups []netip.AddrPort) *Device {
	h.t.Helper()
	d := &Device{t: h.t, name: h.name + ":" + dev, note: note}
	d.changed = sync.NewCond(&d.mu)
	h.ManyMemberships() // one socket takes all groups of a port
	type kind struct {
		six  bool
		port uint16
	}
	byKind := map[kind][]netip.Addr{}
	for _, g := range groups {
		k := kind{g.Addr().Is6(), g.Port()}
		byKind[k] = append(byKind[k], g.Addr())
	}
	index := h.Index(dev)
	err := h.Do(func() error {
		for k, addrs := range byKind {
			file, err := openDevice(k.six, k.port, index, addrs)
			if err != nil {
				return err
			}
			d.sockets = append(d.sockets, deviceSocket{file, k.port})
		}
		return nil
	})
	h.must(err, "listen on", dev)
	var readers sync.WaitGroup
	for _, s := range d.sockets {
		readers.Go(func() { d.read(s) })
	}
	h.t.Cleanup(func() {
		if n := d.Lost(); n > 0 {
			h.t.Errorf("netlab: the device %s itself lost %d datagrams and proves nothing", d.name, n)
		}
		for _, s := range d.sockets {
			s.file.Close()
		}
		readers.Wait()
	})
	return d
}

type deviceSocket struct {
	file *os.File
	port uint16
}

// openDevice opens a socket on the wildcard address and joins the groups. It
// asks for the destination of each datagram (ip(7) IP_PKTINFO, ipv6(7)).
func openDevice(six bool, port uint16, index int, groups []netip.Addr) (*os.File, error) {
	family, level, info := unix.AF_INET, unix.IPPROTO_IP, unix.IP_PKTINFO
	var wildcard unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
	if six {
		family, level, info = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		wildcard = &unix.SockaddrInet6{Port: int(port)}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), "device")
	// As nearly all programs do, so that others can listen to the port as well.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && six {
		err = unix.SetsockoptInt(fd, level, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, level, info, 1)
	}
	if err == nil {
		bigBuffer(fd)
		err = unix.Bind(fd, wildcard)
	}
	for _, g := range groups {
		if err != nil {
			break
		}
		if err = join(fd, index, g); err != nil {
			err = fmt.Errorf("join %v: %w", g, err)
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func join(fd, index int, group netip.Addr) error {
	if group.Is6() {
		return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
	}
	return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
		&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
}

func (d *Device) read(s deviceSocket) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return
	}
	buf, oob := make([]byte, 1<<16), make([]byte, 128)
	for {
		var n, oobn int
		var from unix.Sockaddr
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, from, recvErr = unix.Recvmsg(int(fd), buf, oob, 0)
			return recvErr != unix.EAGAIN
		})
		if err != nil {
			return // closed
		}
		if recvErr != nil {
			continue
		}
		r := Received{
			Source:  addrPort(from),
			Group:   netip.AddrPortFrom(destination(oob[:oobn]), s.port),
			Payload: buf[:n],
		}
		if d.note != nil {
			d.note(r)
			continue
		}
		r.Payload = slices.Clone(r.Payload)
		d.mu.Lock()
		d.got = append(d.got, r)
		d.changed.Broadcast()
		d.mu.Unlock()
	}
}

func addrPort(from unix.Sockaddr) netip.AddrPort {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// destination finds the address a datagram was sent to in what came with it:
// struct in_pktinfo {int ifindex; in_addr spec_dst, addr} or struct
// in6_pktinfo {in6_addr addr; unsigned ifindex}.
func destination(oob []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			return netip.AddrFrom4([4]byte(m.Data[8:]))
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16:
			return netip.AddrFrom16([16]byte(m.Data))
		}
	}
	return netip.Addr{}
}

// Received returns what has been received so far, in order.
func (d *Device) Received() []Received {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.got[:len(d.got):len(d.got)]
}

// WaitFor waits until n datagrams have been received, and returns all that
// have been.
func (d *Device) WaitFor(n int) []Received {
	d.t.Helper()
	if !waitOn(d.changed, func() bool { return len(d.got) >= n }) {
		d.t.Fatalf("%s: %d datagrams received, %d wanted", d.name, len(d.Received()), n)
	}
	return d.Received()
}

// Watch calls note with every datagram received, from the first one on and in
// order, until note returns true. It fails the test if for some seconds nothing
// comes.
func (d *Device) Watch(note func(Received) (done bool)) {
	d.t.Helper()
	for i := 0; ; i++ {
		if !waitOn(d.changed, func() bool { return len(d.got) > i }) {
			d.t.Fatalf("%s: nothing came for %v after %d datagrams", d.name, patience, i)
		}
		d.mu.Lock()
		r := d.got[i]
		d.mu.Unlock()
		if note(r) {
			return
		}
	}
}

// Lost returns the number of datagrams that found no room in the sockets.
func (d *Device) Lost() (n uint32) {
	for _, s := range d.sockets {
		raw, err := s.file.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) { n += SocketDrops(int(fd)) })
	}
	return n
}

// SocketDrops is how many datagrams found no room in a socket: SK_MEMINFO_DROPS, the
// last word of SO_MEMINFO (linux/sock_diag.h).
func SocketDrops(fd int) uint32 {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return info[8]
}
