//go:build unix

package session

import (
	"net"
	"syscall"
)

// useRaw lets writeNow write without waiting: sockets of package net are
// non-blocking, and wait by themselves only when Write asks them to.
func (l *lane) useRaw(tcp *net.TCPConn) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	l.raw = raw
	l.sendNow = func(fd uintptr) bool {
		l.nowSent, l.nowErr = 0, nil
		for {
			n, err := syscall.Write(int(fd), l.now)
			switch err {
			case syscall.EINTR:
				continue
			case syscall.EAGAIN:
			default:
				l.nowErr = err
			}
			l.nowSent = max(n, 0) // -1 with an error
			l.now = nil
			return true
		}
	}
}
