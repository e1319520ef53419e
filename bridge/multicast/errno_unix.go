//go:build unix

package multicast

import (
	"errors"

	"golang.org/x/sys/unix"
)

// What the kernel's refusals mean, of a datagram and of a socket.

// blocked: the send buffer is full.
func blocked(err error) bool { return errors.Is(err, unix.EAGAIN) }

// queueFull: the interface's queue or the kernel's memory is used up.
func queueFull(err error) bool { return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) }

// unreachable: the source or the interface is gone. ENETUNREACH, the address
// was removed or the link set down; ENODEV, the interface was deleted; the
// others are what other systems say.
func unreachable(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) ||
		errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// sourceGone: of what is unreachable, the source and no host. Of hosts Linux says ENETUNREACH
// and EHOSTUNREACH too.
func sourceGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// broadcastRefused: what a broadcast address gives where SO_BROADCAST is not set.
func broadcastRefused(err error) bool { return errors.Is(err, unix.EACCES) }

// tooLong: longer than the kernel would fragment.
func tooLong(err error) bool { return errors.Is(err, unix.EMSGSIZE) }

// filtered: a firewall forbids it.
func filtered(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// unsegmentable: the interface or the kernel cannot send runs, or not this one.
// EIO: no checksum offload, or IPsec. No ICMP error reads like one of these.
func unsegmentable(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) }

// invalid: what Linux says over IPv6 where it has no room for one more neighbour, among
// other things (ip6_finish_output2).
func invalid(err error) bool { return errors.Is(err, unix.EINVAL) }

// inUse: bound by another program.
func inUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }

// denied: a port below 1024 takes a privilege.
func denied(err error) bool { return errors.Is(err, unix.EACCES) }
