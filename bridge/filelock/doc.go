// Package filelock locks a file against other processes.
package filelock

import "errors"

// ErrInUse is said of a file that another process has locked.
var ErrInUse = errors.New("another process has it")
