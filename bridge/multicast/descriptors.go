package multicast

import "fmt"

// keptDescriptors is how many file descriptors sockets of rules leave for the rest of
// the process, without which nothing heals: 32 connections to the status page, 32
// self-tests at once, and the broker, the spool, the interfaces and the files that are
// read again.
const keptDescriptors = 128

// KeptDescriptors is how many file descriptors senders and receivers leave to the rest
// of the process: 128, or half of what it may have where that is less.
func KeptDescriptors() int { return keptOf(DescriptorLimit()) }

func keptOf(limit int) int {
	if limit > 0 {
		return min(keptDescriptors, limit/2)
	}
	return keptDescriptors
}

const raiseDescriptors = "raise that (LimitNOFILE= of systemd, ulimit -n, docker --ulimit nofile=)"

// DescriptorShortage says how many file descriptors so many sockets need where a
// process may have limit of them and those are too few, else "". 0 is a limit that is not
// known.
func DescriptorShortage(sockets, limit int) string {
	need := sockets + keptDescriptors
	if sockets == 0 || limit == 0 || need <= limit {
		return ""
	}
	return fmt.Sprintf("%d file descriptors are needed for these rules, %d of them for sockets, and the limit is %d: %s", need, sockets, limit, raiseDescriptors)
}

// errNoDescriptors: the sockets of this process have all that they may have. It says
// nothing of the one that was to be opened, as it is the same for many.
func errNoDescriptors(causes ...error) error {
	limit := DescriptorLimit()
	return pending(fmt.Sprintf("no file descriptor is left for a socket: the limit is %d, and %d of them are kept for the broker, the disk and the status page: %s",
		limit, keptOf(limit), raiseDescriptors), causes...)
}
