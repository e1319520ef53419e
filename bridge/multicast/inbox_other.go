//go:build !linux

package multicast

import (
	"sync"

	"golang.org/x/net/ipv4"
)

// arrivalSpace has room for the control message that says on which interface a
// datagram arrived, and for which group.
const arrivalSpace = 64

// inbox is the memory for one datagram. A receiver has one while it has a
// datagram to hand out, and none while it waits.
type inbox struct {
	messages [1]ipv4.Message
}

var inboxes = sync.Pool{New: func() any {
	in := new(inbox)
	in.messages[0] = ipv4.Message{Buffers: [][]byte{make([]byte, maxArrival)}, OOB: make([]byte, arrivalSpace)}
	return in
}}

func getInbox() *inbox { return inboxes.Get().(*inbox) }

func (in *inbox) put() { inboxes.Put(in) }
