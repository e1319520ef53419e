package main

import (
	"syscall"
	"time"
)

// preciseSleep sleeps to the tenth of a millisecond, and may end before. It takes a thread.
func preciseSleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil)
}
