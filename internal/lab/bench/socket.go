//go:build linux

package main

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// sendSocket opens a socket that sends from source, on the interface that has
// it. With a group it is connected to that.
func sendSocket(source netip.Addr, group netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()}); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	if err := unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, source.As4()); err != nil {
		return -1, os.NewSyscallError("setsockopt IP_MULTICAST_IF", err)
	}
	if group.IsValid() {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: group.Addr().As4(), Port: int(group.Port())})
	}
	return fd, os.NewSyscallError("connect", err)
}

// receiveSocket opens a socket that receives all groups on the interface that has
// addr, with a receive buffer of some bytes, if it may have that. A single group
// is what the socket is bound to.
func receiveSocket(t traffic, addr netip.Addr, buffer int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	local := &unix.SockaddrInet4{Port: groupPort}
	if t.Groups == 1 {
		local.Addr = t.group(0).Addr().As4()
	}
	if err := unix.Bind(fd, local); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, join(t, addr)
}

// join joins the groups with a socket that receives nothing, and stays open until the
// program ends. A socket receives what another has joined (ip(7), IP_MULTICAST_ALL).
// Had it joined a thousand groups itself, the kernel would walk through them for
// every datagram, and over a veth on the account of the one who sends it.
func join(t traffic, addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	for i := range t.Groups {
		if t.Host {
			break
		}
		m := &unix.IPMreq{Multiaddr: t.group(i).Addr().As4(), Interface: addr.As4()}
		if err := unix.SetsockoptIPMreq(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, m); err != nil {
			return os.NewSyscallError("setsockopt IP_ADD_MEMBERSHIP", err)
		}
	}
	return nil
}

// An inbox reads datagrams in batches, each of up to 2,048 bytes.
type inbox struct {
	fd    int
	msgs  []mmsghdr
	iovs  []unix.Iovec
	froms []unix.RawSockaddrInet4
	store []byte
}

const largest = 2048

func newInbox(fd, batch int) *inbox {
	b := &inbox{
		fd: fd, msgs: make([]mmsghdr, batch), iovs: make([]unix.Iovec, batch),
		froms: make([]unix.RawSockaddrInet4, batch), store: make([]byte, batch*largest),
	}
	for i := range b.msgs {
		b.iovs[i].Base = &b.store[i*largest]
		b.iovs[i].SetLen(largest)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
		b.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&b.froms[i]))
	}
	return b
}

// read waits for datagrams and returns how many it took: 0 after a signal, or
// when the socket's receive timeout is over.
func (b *inbox) read() (int, error) {
	for i := range b.msgs {
		b.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(b.fd), uintptr(unsafe.Pointer(&b.msgs[0])),
		uintptr(len(b.msgs)), unix.MSG_WAITFORONE, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	}
	return 0, os.NewSyscallError("recvmmsg", errno)
}

// echo sends the first n datagrams back to where they came from, as far as the kernel takes them.
func (b *inbox) echo(n int) error {
	for i := range n {
		b.iovs[i].SetLen(int(b.msgs[i].n))
	}
	_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.fd), uintptr(unsafe.Pointer(&b.msgs[0])), uintptr(n), 0, 0, 0)
	for i := range n {
		b.iovs[i].SetLen(largest)
	}
	switch errno {
	case 0, unix.EAGAIN, unix.EINTR, unix.ENOBUFS:
		return nil
	}
	return os.NewSyscallError("sendmmsg", errno)
}

func (b *inbox) payload(i int) []byte { return b.store[i*largest:][:b.msgs[i].n] }

func (b *inbox) from(i int) netip.Addr { return netip.AddrFrom4(b.froms[i].Addr) }
