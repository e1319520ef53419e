//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// deviceAndInode is what JOURNAL_STREAM says of a file; "" if it cannot be told.
func deviceAndInode(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
