//go:build unix

package plainfile

import "syscall"

const (
	nonblock = syscall.O_NONBLOCK
	nofollow = syscall.O_NOFOLLOW
	folder   = syscall.O_NONBLOCK | syscall.O_DIRECTORY
)
