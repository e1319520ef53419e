//go:build unix && !linux

package multicast

import (
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// reader returns how a message is taken from the kernel, never waiting.
func (r *Receiver) reader(ip packetConn) func([]ipv4.Message) (int, error) {
	return func(ms []ipv4.Message) (int, error) { return ip.ReadBatch(ms, unix.MSG_DONTWAIT) }
}

// readable waits until a datagram is there.
func readable(raw syscall.RawConn) error { return raw.Read(ready(unix.POLLIN)) }
