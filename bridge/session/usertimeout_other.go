//go:build !linux

package session

import (
	"errors"
	"syscall"
	"time"
)

func setUserTimeout(syscall.RawConn, time.Duration) error { return errors.ErrUnsupported }
