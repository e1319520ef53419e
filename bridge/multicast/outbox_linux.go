package multicast

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// writer returns how messages are given to the kernel: sendmmsg(2), never waiting.
func (s *Sender) writer() func([]ipv4.Message) (int, error) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return func([]ipv4.Message) (int, error) { return 0, err }
	}
	// Under the sender's mu. A function made per call would be an allocation per call.
	var out *outbox
	var n int
	var errno unix.Errno
	send := func(fd uintptr) (done bool) {
		n, errno = out.send(fd)
		return true
	}
	return func(ms []ipv4.Message) (int, error) {
		out = outboxes.Get().(*outbox)
		out.fill(ms)
		err := raw.Write(send)
		out.release()
		switch {
		case err != nil:
			return 0, err
		case errno != 0:
			return 0, os.NewSyscallError("sendmmsg", errno)
		}
		return n, nil
	}
}

// outbox is the memory of one sendmmsg(2): what WriteBatch of x/net has as well,
// which however tells Go's scheduler of the call.
type outbox struct {
	n       int // headers in use
	headers [maxEntries]unix.Mmsghdr
	groups  [maxEntries]unix.RawSockaddrInet6 // has room for IPv4's too
	vectors []unix.Iovec                      // of the payloads of all
}

var outboxes = sync.Pool{New: func() any {
	return &outbox{vectors: make([]unix.Iovec, 0, maxDatagrams+maxSegments)}
}}

// fill makes headers of messages, of which a chunk has no more than there is room for.
func (o *outbox) fill(ms []ipv4.Message) {
	o.n = len(ms)
	for i := range ms {
		m, h := &ms[i], &o.headers[i].Hdr
		first := len(o.vectors)
		for _, p := range m.Buffers {
			v := unix.Iovec{Base: unsafe.SliceData(p)}
			v.SetLen(len(p))
			o.vectors = append(o.vectors, v)
		}
		h.Iov = &o.vectors[first]
		h.SetIovlen(len(m.Buffers))
		h.Control = unsafe.SliceData(m.OOB)
		h.SetControllen(len(m.OOB))
		h.Name = (*byte)(unsafe.Pointer(&o.groups[i]))
		h.Namelen = setName(&o.groups[i], m.Addr.(*net.UDPAddr))
	}
}

// setName writes an address as the kernel has it, and returns its length.
func setName(name *unix.RawSockaddrInet6, a *net.UDPAddr) uint32 {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], uint16(a.Port)) // at the same place in both families
	if len(a.IP) == net.IPv4len {
		name.Family = unix.AF_INET
		copy((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr[:], a.IP)
		return unix.SizeofSockaddrInet4
	}
	name.Family, name.Flowinfo, name.Scope_id = unix.AF_INET6, 0, 0
	copy(name.Addr[:], a.IP)
	return unix.SizeofSockaddrInet6
}

// send makes the call. It is raw: it is all work and no waiting, on this processor
// or none. Told of it, the scheduler would take it for a wait after 20 µs, and
// give the processor to another thread in the middle of a batch, and back; with
// one processor that costs a quarter of it. maxDatagrams bounds how long others
// have to wait.
func (o *outbox) send(fd uintptr) (n int, errno unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&o.headers[0])), uintptr(o.n), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}

// release gives the outbox back, without the payloads, which belong to others.
func (o *outbox) release() {
	for i := range o.headers[:o.n] {
		o.headers[i].Hdr = unix.Msghdr{}
	}
	clear(o.vectors)
	o.n, o.vectors = 0, o.vectors[:0]
	outboxes.Put(o)
}
