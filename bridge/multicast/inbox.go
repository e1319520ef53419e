package multicast

import (
	"sync"

	"golang.org/x/net/ipv4"
)

const (
	// maxReceive is how many datagrams one system call takes at most.
	maxReceive = 32

	// maxArrival is the longest payload that can arrive, an IPv6 datagram's
	// (RFC 8200, 65,535 less 8 for UDP's header). With buffers of this size
	// nothing is ever cut.
	maxArrival = 65527
)

// inbox is the memory of one receiving system call, 2 MiB of which the kernel
// fills, and so makes real, only what datagrams need. A receiver has one while
// it has datagrams to hand out, and none while it waits: thousands of quiet
// sockets share a few.
type inbox struct {
	messages [maxReceive]ipv4.Message
}

var inboxes = sync.Pool{New: func() any {
	in := new(inbox)
	payloads := make([]byte, maxReceive*maxArrival)
	oob := make([]byte, maxReceive*arrivalSpace)
	for i := range in.messages {
		in.messages[i].Buffers = [][]byte{payloads[i*maxArrival:][:maxArrival:maxArrival]}
		in.messages[i].OOB = oob[i*arrivalSpace:][:arrivalSpace:arrivalSpace]
	}
	return in
}}
