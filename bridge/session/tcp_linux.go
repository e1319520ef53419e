package session

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setTCP sets how long sent bytes may stay without an acknowledgement, and how
// many bytes that are not sent yet the kernel keeps.
func setTCP(raw syscall.RawConn, d time.Duration, unsent int) (err error) {
	control := raw.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent))
	})
	if control != nil {
		return control
	}
	return err
}

// fitUnsent asks how fast the line is, and sets how many bytes that are not sent
// yet the kernel keeps.
func fitUnsent(raw syscall.RawConn) (err error) {
	control := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentAt(info.Delivery_rate))
		}
	})
	if control != nil {
		return control
	}
	return err
}

// maxUnsent is the most that the kernel is to keep and has not sent: what it
// takes by itself (tcp_wmem).
const maxUnsent = 4 << 20

// unsentAt is the bound for a line of so many bytes a second.
func unsentAt(rate uint64) int {
	return int(min(max(rate/uint64(time.Second/unsentTime), minUnsent), maxUnsent))
}
