package multicast

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// senderConn is the socket of a sender: a *net.UDPConn, or unpolled.
type senderConn interface {
	SyscallConn() (syscall.RawConn, error)
	SetWriteDeadline(time.Time) error
	Close() error
}

// unpolled is a socket that Go's poller does not know. Its errors are those of package net.
type unpolled struct{ *os.File }

func (u unpolled) SyscallConn() (syscall.RawConn, error) {
	raw, err := u.File.SyscallConn()
	return unpolledRaw{raw}, err
}

func (u unpolled) Close() error {
	if u.File.Close() != nil {
		return net.ErrClosed // what else close(2) may say is of files
	}
	return nil
}

// unpolledRaw says what is the only thing to say of a descriptor that is not polled: that it is closed.
type unpolledRaw struct{ syscall.RawConn }

func (r unpolledRaw) Control(f func(fd uintptr)) error    { return closedIf(r.RawConn.Control(f)) }
func (r unpolledRaw) Write(f func(fd uintptr) bool) error { return closedIf(r.RawConn.Write(f)) }

func closedIf(err error) error {
	if err != nil {
		return net.ErrClosed
	}
	return nil
}

// leavePoller takes the socket out of Go's poller, which asks of each that it can be written: the kernel
// wakes the poller then for each datagram that has left, to find that nobody waits. Where a processor
// is idle, so that a thread waits in epoll_wait(2), that took as long as the sending itself. A socket that
// answers are read from has to stay.
func (s *Sender) leavePoller() error {
	if s.answers != nil {
		return nil
	}
	f, err := duplicate(s.conn)
	if err != nil {
		return err
	}
	s.conn.Close()
	s.conn, s.ip = unpolled{f}, nil
	return nil
}

// pollable gives the socket as a connection that can be waited for, until release is called. The error
// is net.ErrClosed after Close.
func (s *Sender) pollable() (conn *net.UDPConn, release func(), err error) {
	if conn, ok := s.conn.(*net.UDPConn); ok {
		return conn, func() {}, nil
	}
	s.lent.RLock()
	f, err := duplicate(s.conn)
	if err != nil {
		s.lent.RUnlock()
		return nil, nil, err
	}
	defer f.Close()
	c, err := net.FilePacketConn(f) // a duplicate of its own, known to the poller
	if err != nil {
		s.lent.RUnlock()
		return nil, nil, err
	}
	return c.(*net.UDPConn), func() {
		c.Close()
		s.lent.RUnlock()
	}, nil
}

// duplicate gives another descriptor of a socket, of which the poller knows nothing: such is a file that
// would block. Nothing here does: each call to the kernel says so by itself (MSG_DONTWAIT).
func duplicate(of senderConn) (f *os.File, err error) {
	raw, err := of.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	err = raw.Control(func(from uintptr) {
		fd, e := unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0)
		if e != nil {
			failed = os.NewSyscallError("fcntl", e)
			return
		}
		if e := unix.SetNonblock(fd, false); e != nil {
			failed = os.NewSyscallError("fcntl", e)
			unix.Close(fd)
			return
		}
		f = os.NewFile(uintptr(fd), "")
	})
	return f, errors.Join(err, failed)
}
