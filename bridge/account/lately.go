package account

import "time"

// Lately is what both directions have of a rule, beside its counters.
type Lately struct {
	LastReceived  time.Time `json:"last_received,omitzero"`   // a message, or a datagram
	LastSent      time.Time `json:"last_sent,omitzero"`       // of a send rule: a datagram that the kernel took
	LastDrop      time.Time `json:"last_drop,omitzero"`       // to the second
	WaitingMemory int       `json:"waiting_memory,omitempty"` // messages that wait in memory
	WaitingDisk   int       `json:"waiting_disk,omitempty"`   // likewise in the spool
	WaitingBytes  int64     `json:"waiting_bytes,omitempty"`  // what those in memory take of queue.size, with what the session has
	DiskBytes     int64     `json:"disk_bytes,omitempty"`     // what those in the spool take of spool.max_size
	Place         int       `json:"place"`                    // in the order asked for, both directions together, from 0

	// What the rule says beside what stands here by itself, "ttl 8": keys whose value is not
	// their default.
	Settings []string `json:"settings,omitempty"`
}

// Mark fills in when something came last, and when something was dropped last.
func (l *Lately) Mark(of *Counters, received *Moment, now time.Time) {
	l.LastReceived, l.LastDrop = received.Time(now), MomentTime(of.LastDrop(), now)
}
