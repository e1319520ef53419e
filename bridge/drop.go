package bridge

import (
	"errors"
	"syscall"

	"topicast/bridge/multicast"
)

// A Reason says why a message or a datagram went no further. Whatever is lost is
// counted under its rule and one of these (the metric topicast_drops_total).
type Reason uint8

// The reasons, in the order of the way of a message, then of a datagram.
const (
	DropNoRule        Reason = iota // no rule matches the topic
	DropRetained                    // the rule's retained policy holds it back
	DropBadGroup                    // the group template yields no multicast group for this topic
	DropBadPayload                  // the payload is not what the rule's codec expects
	DropOversize                    // more than a datagram holds, or more than the MTU where the rule forbids fragments
	DropPending                     // QoS 0, and the rule's source or interface is not there
	DropNoBuffer                    // the kernel had no room for a whole second (ENOBUFS)
	DropFirewall                    // a firewall on this host refuses the datagram (EPERM)
	DropRefused                     // the kernel refuses the datagram for another reason; the log has it
	DropReceiveBuffer               // the kernel's receive buffer was full
	DropOwn                         // a datagram that this bridge has sent itself
	DropSource                      // its source is none of the rule's
	DropBadTopic                    // the topic template yields no topic name for this datagram
	DropUnchanged                   // on_change, and the payload is that of the last message
	DropSuperseded                  // every, and a later datagram came in time
	DropBreaker                     // the rule ran away, and rests
	DropOffline                     // QoS 0, and there is no connection to the broker
	DropLoop                        // it came back: the loop guard knows it
	DropQueueFull                   // the queue has no room left (queue.size)
	DropSpoolFull                   // the spool has no room left (spool.max_size)
	DropSpoolFailed                 // the disk cannot keep it, or gives it back damaged
	DropExpired                     // it has waited longer than max_age
	DropRemoved                     // it waited for a rule that a new configuration has removed
	DropStopped                     // the bridge stopped before it could go on
	numReasons
)

var reasonNames = [numReasons]string{
	"no_rule", "retained", "bad_group", "bad_payload", "oversize", "pending", "no_buffer", "firewall", "refused",
	"receive_buffer", "own", "source", "bad_topic", "unchanged", "superseded", "breaker", "offline",
	"loop", "queue_full", "spool_full", "spool_failed", "expired", "removed", "stopped",
}

// String is the name used in metrics, status and logs.
func (r Reason) String() string { return reasonNames[r] }

// intended tells whether the configuration asks for such drops, so that nobody
// needs to be warned of them.
func (r Reason) intended() bool {
	switch r {
	case DropRetained, DropOwn, DropSource, DropUnchanged, DropSuperseded, DropLoop:
		return true
	}
	return false
}

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
