//go:build unix && !linux

package multicast

import (
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// writer returns how messages are given to the kernel: one a call, never waiting.
func (s *Sender) writer() func([]ipv4.Message) (int, error) {
	return func(ms []ipv4.Message) (int, error) { return s.ip.WriteBatch(ms, unix.MSG_DONTWAIT) }
}

// reader returns how a message is taken from the kernel, never waiting.
func (r *Receiver) reader(ip packetConn) func([]ipv4.Message) (int, error) {
	return func(ms []ipv4.Message) (int, error) { return ip.ReadBatch(ms, unix.MSG_DONTWAIT) }
}

// readable waits until a datagram is there.
func readable(raw syscall.RawConn) error { return raw.Read(ready(unix.POLLIN)) }
