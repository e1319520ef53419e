//go:build !(darwin || freebsd || linux || netbsd || openbsd || dragonfly)

package filelock

import (
	"os"
	"time"
)

// Lock does nothing: elsewhere it is left to the user that one file is one process's.
func Lock(*os.File, time.Duration) error { return nil }
