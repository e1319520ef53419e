package spool

import "syscall"

// release gives back the memory that the mapping's pages take. They stay in the
// system's cache, but no longer count as ours. An error means that they do.
func release(address uintptr, length int64) {
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, address, uintptr(length), syscall.MADV_DONTNEED)
}
