package multicast

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Unclaimed returns how many datagrams have come to the sender's port since Open:
// answers of devices, most likely. A sender drops all that comes before it takes up
// memory, so nobody reads them. It counts up to 2³² and starts again. Any goroutine
// may ask.
func (s *Sender) Unclaimed() (uint64, error) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	n, err := socketDrops(raw)
	return uint64(n), err
}

// socketDrops returns what the kernel has dropped of what came to a socket: for want
// of room, by a filter, or for a wrong checksum.
func socketDrops(raw syscall.RawConn) (uint32, error) {
	// SO_MEMINFO is an array of which SK_MEMINFO_DROPS, 8, is the last
	// (linux/sock_diag.h). x/sys has no call that reads it.
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("getsockopt", errno)
	}
	return info[8], err
}
