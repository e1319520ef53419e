package web

import (
	"net"

	"golang.org/x/sys/unix"
)

// endWhenGone has the kernel end a connection whose other side has acknowledged nothing for
// writePatience (tcp(7), TCP_USER_TIMEOUT): a page on a machine that is switched off would keep its
// place for a quarter of an hour, as long as the kernel has room for what it is told.
func endWhenGone(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(writePatience.Milliseconds()))
		})
	}
}
