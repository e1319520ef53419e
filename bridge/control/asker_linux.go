package control

import (
	"net"
	"os/user"
	"strconv"
	"syscall"
)

// askerOf says who is at the other end of a connection: the user, as the kernel knows it (unix(7),
// SO_PEERCRED).
func askerOf(c net.Conn) string {
	p, is := c.(patient)
	if !is {
		return unknownAsker
	}
	unix, is := p.Conn.(*net.UnixConn)
	if !is {
		return unknownAsker
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return unknownAsker
	}
	var of *syscall.Ucred
	if raw.Control(func(fd uintptr) { of, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) }) != nil || err != nil {
		return unknownAsker
	}
	id := strconv.FormatUint(uint64(of.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// fchmod gives a socket a mode before it has a file: bind(2) takes it over.
func fchmod(fd uintptr, mode uint32) error { return syscall.Fchmod(int(fd), mode) }
