//go:build darwin || freebsd || linux || netbsd || openbsd || dragonfly

package spool

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// lock locks the file as bbolt will do once more, which is no trouble: the lock
// belongs to the open file. It is taken before, for a file that another process
// writes to must not be verified.
func lock(f *os.File) error {
	const step = 20 * time.Millisecond
	for waited := time.Duration(0); ; waited += step {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if waited >= lockWait {
			return ErrInUse
		}
		time.Sleep(step)
	}
}
