//go:build unix

package multicast

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// DescriptorLimit is how many file descriptors this process may have; 0: not known, or
// no limit. Go raises the soft limit to the hard one as a program starts.
func DescriptorLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil || uint64(l.Cur) > math.MaxInt32 { // signed on FreeBSD
		return 0
	}
	return int(l.Cur)
}

// outOfDescriptors: the process, or the host, has as many as it may have.
func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}
