//go:build linux

package main

import (
	"encoding/binary"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An outbox gathers datagrams and sends them by sendmmsg(2). With segments, a
// run of equal size to one group is one entry that the kernel cuts up again
// (udp(7), UDP_SEGMENT). Payloads stay where they are until it is flushed.
type outbox struct {
	fd       int
	segments bool
	msgs     []mmsghdr
	iovs     []unix.Iovec
	controls []byte
	n, used  int // entries, and parts of them

	// the entry that may grow
	to    *unix.RawSockaddrInet4
	size  int
	parts int
}

const (
	mostSegments = 64    // UDP_MAX_SEGMENTS before Linux 6.9
	mostBytes    = 65000 // of an entry; an IP packet has up to 65,535
)

var controlSize = unix.CmsgSpace(2)

func newOutbox(fd int, segments bool) *outbox {
	const most = 1024 // IOV_MAX, and UIO_MAXIOV of sendmmsg
	o := &outbox{fd: fd, segments: segments, msgs: make([]mmsghdr, most), iovs: make([]unix.Iovec, most)}
	o.controls = make([]byte, most*controlSize)
	for i := range most {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&o.controls[i*controlSize]))
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
	}
	return o
}

// add takes a datagram to a group; nil is what the socket is connected to.
func (o *outbox) add(payload []byte, to *unix.RawSockaddrInet4) error {
	if len(payload) == 0 {
		return nil // no peer's traffic has any
	}
	if o.used == len(o.iovs) {
		if err := o.flush(); err != nil {
			return err
		}
	}
	grows := o.segments && o.parts > 0 && o.to == to && o.size == len(payload) &&
		o.parts < mostSegments && (o.parts+1)*o.size <= mostBytes
	if !grows {
		o.close()
		o.msgs[o.n].hdr = unix.Msghdr{Iov: &o.iovs[o.used]}
		if to != nil {
			o.msgs[o.n].hdr.Name = (*byte)(unsafe.Pointer(to))
			o.msgs[o.n].hdr.Namelen = unix.SizeofSockaddrInet4
		}
		o.n++
		o.to, o.size, o.parts = to, len(payload), 0
	}
	o.iovs[o.used].Base = &payload[0]
	o.iovs[o.used].SetLen(len(payload))
	o.used++
	o.parts++
	return nil
}

// close ends the entry that could have grown.
func (o *outbox) close() {
	if o.parts == 0 {
		return
	}
	h := &o.msgs[o.n-1].hdr
	h.SetIovlen(o.parts)
	if o.parts > 1 {
		control := o.controls[(o.n-1)*controlSize:][:controlSize]
		binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], uint16(o.size))
		h.Control = &control[0]
		h.SetControllen(controlSize)
	}
	o.parts = 0
}

// flush sends all.
func (o *outbox) flush() error {
	o.close()
	for done := 0; done < o.n; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(o.fd), uintptr(unsafe.Pointer(&o.msgs[done])),
			uintptr(o.n-done), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return os.NewSyscallError("sendmmsg", errno)
		}
		if errno == 0 {
			done += int(n)
		}
	}
	o.n, o.used = 0, 0
	return nil
}

// rawAddr is an address as the kernel takes it.
func rawAddr(a netip.AddrPort) *unix.RawSockaddrInet4 {
	raw := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&raw.Port))[:], a.Port())
	return raw
}
