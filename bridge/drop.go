package bridge

import (
	"errors"
	"syscall"

	"topicast/bridge/multicast"
)

// A Reason says why a message or a datagram went no further. Whatever is lost is
// counted under its rule and one of these (the metric topicast_drops_total).
type Reason uint8

// The reasons, in the order of the way of a message.
const (
	DropNoRule     Reason = iota // no rule matches the topic
	DropRetained                 // the rule's retained policy holds it back
	DropBadGroup                 // the group template yields no multicast group for this topic
	DropBadPayload               // the payload is not what the rule's codec expects
	DropOversize                 // more than a datagram holds, or more than the MTU where the rule forbids fragments
	DropPending                  // QoS 0, and the rule's source or interface is not there
	DropQueueFull                // the queue has no room left (queue.size)
	DropNoBuffer                 // the kernel had no room for a whole second (ENOBUFS)
	DropFirewall                 // a firewall on this host refuses the datagram (EPERM)
	DropRefused                  // the kernel refuses the datagram for another reason; the log has it
	DropStopped                  // the bridge stopped while a QoS 0 message waited
	numReasons
)

var reasonNames = [numReasons]string{
	"no_rule", "retained", "bad_group", "bad_payload", "oversize", "pending",
	"queue_full", "no_buffer", "firewall", "refused", "stopped",
}

// String is the name used in metrics, status and logs.
func (r Reason) String() string { return reasonNames[r] }

// Reasons lists every reason there is.
func Reasons() []Reason {
	all := make([]Reason, numReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// reasonOf says why the kernel would not take a datagram.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, multicast.ErrTooLong):
		return DropOversize
	case errors.Is(err, syscall.EPERM):
		return DropFirewall
	case errors.Is(err, multicast.ErrNoBuffer):
		return DropNoBuffer
	default:
		return DropRefused
	}
}
