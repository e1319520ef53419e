package multicast

import (
	"errors"

	"golang.org/x/sys/windows"
)

// What Windows' refusals mean for a sender; errno_unix.go says more.

func blocked(err error) bool   { return errors.Is(err, windows.WSAEWOULDBLOCK) }
func queueFull(err error) bool { return errors.Is(err, windows.WSAENOBUFS) }
func tooLong(err error) bool   { return errors.Is(err, windows.WSAEMSGSIZE) }
func filtered(err error) bool  { return errors.Is(err, windows.WSAEACCES) }
func inUse(err error) bool     { return errors.Is(err, windows.WSAEADDRINUSE) }
func denied(err error) bool    { return errors.Is(err, windows.WSAEACCES) }

func invalid(error) bool { return false } // which is said of neighbours on Linux alone

func unreachable(err error) bool {
	return errors.Is(err, windows.WSAENETUNREACH) || errors.Is(err, windows.WSAENETDOWN) ||
		errors.Is(err, windows.WSAEHOSTUNREACH) || errors.Is(err, windows.WSAEADDRNOTAVAIL)
}

func unsegmentable(error) bool { return false }

func sourceGone(err error) bool {
	return errors.Is(err, windows.WSAENETDOWN) || errors.Is(err, windows.WSAEADDRNOTAVAIL)
}

func broadcastRefused(err error) bool { return errors.Is(err, windows.WSAEACCES) }
