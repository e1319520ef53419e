package session

import (
	"errors"
	"syscall"
	"time"
)

// Options of linux/tcp.h, which package syscall has for some architectures only.
const (
	tcpUserTimeout  = 18 // TCP_USER_TIMEOUT
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT
)

// setTCP sets how long sent bytes may stay without an acknowledgement, and how
// many bytes that are not sent yet the kernel keeps.
func setTCP(raw syscall.RawConn, d time.Duration, unsent int) (err error) {
	control := raw.Control(func(fd uintptr) {
		err = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds())),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent))
	})
	if control != nil {
		return control
	}
	return err
}
