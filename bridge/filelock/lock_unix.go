//go:build darwin || freebsd || linux || netbsd || openbsd || dragonfly

package filelock

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Lock locks a file, for as long as it is open, against other processes that lock it too.
// It waits so long at most for one that has it: it may be just ending. The error is
// ErrInUse then. It tries again and again: flock(2) itself waits without limit, and a goroutine
// that had given up waiting in it would get the lock later.
func Lock(f *os.File, wait time.Duration) error {
	const step = 20 * time.Millisecond
	for waited := time.Duration(0); ; waited += step {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if waited >= wait {
			return ErrInUse
		}
		time.Sleep(step)
	}
}
