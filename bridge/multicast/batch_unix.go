//go:build unix

package multicast

import (
	"net"

	"golang.org/x/sys/unix"
)

// writable waits until the send buffer has room.
func writable(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Write(ready(unix.POLLOUT))
}

// ready returns a condition for syscall.RawConn to wait for. What else poll(2)
// may say, the next call for data will say better.
func ready(event int16) func(fd uintptr) bool {
	return func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: event}}
		n, err := unix.Poll(p, 0)
		return n < 0 && err != unix.EINTR || p[0].Revents&event != 0
	}
}

const canMark = true // datagrams can carry where they arrived
