package account

import "time"

// Lately is what both directions have of a rule, beside its counters.
type Lately struct {
	LastReceived  time.Time `json:"last_received,omitzero"`   // a message, or a datagram
	LastSent      time.Time `json:"last_sent,omitzero"`       // of a send rule: a datagram that the kernel took
	LastDrop      time.Time `json:"last_drop,omitzero"`       // to the second
	WaitingMemory int       `json:"waiting_memory,omitempty"` // messages that wait in memory
	WaitingDisk   int       `json:"waiting_disk,omitempty"`   // likewise in the spool
	Place         int       `json:"place"`                    // in the order asked for, both directions together, from 0
}

// Mark fills in when something came last, and when something was dropped last.
func (l *Lately) Mark(of *Counters, received *Moment, now time.Time) {
	l.LastReceived, l.LastDrop = received.Time(now), MomentTime(of.LastDrop(), now)
}
