//go:build unix

package main

import "syscall"

// openFiles is how many files a process may have open. Go has raised the soft
// limit to the hard one at its start.
func openFiles() uint64 {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return uint64(l.Cur) // signed on FreeBSD
}
