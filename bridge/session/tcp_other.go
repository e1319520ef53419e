//go:build !linux

package session

import (
	"errors"
	"syscall"
	"time"
)

func setTCP(syscall.RawConn, time.Duration, int) error { return errors.ErrUnsupported }

func fitUnsent(syscall.RawConn) error { return errors.ErrUnsupported }
