package session

import (
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h, which package syscall has
// for some architectures only.
const tcpUserTimeout = 18

func setUserTimeout(raw syscall.RawConn, d time.Duration) (err error) {
	control := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	})
	if control != nil {
		return control
	}
	return err
}
