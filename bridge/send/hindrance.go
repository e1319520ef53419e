package send

import (
	"time"

	"topicast/bridge/account"
)

// Hindrance is what waits in memory for a binding, unacknowledged.
type Hindrance struct {
	Rule  string // of the oldest
	Since time.Time
	Why   string
	Bytes int64 // that all of it takes
}

// hindrance returns the oldest message that waits. none: no message that is acknowledged
// does.
func (b *binding) hindrance() (h Hindrance, none bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.queue.front() {
		w := &b.queue.front()[i]
		if w.gone || w.ack == nil {
			continue
		}
		h = Hindrance{Rule: w.rule.Name, Since: w.since, Bytes: b.budget.Used()}
		switch {
		case b.socket == nil:
			h.Why = b.reason
		case b.still.stuck != "":
			h.Why = b.still.stuck
		default:
			h.Why = "its socket is busy"
		}
		return h, false
	}
	return h, true
}

// countLeft notes a message of the rule that stays with the broker.
func (r *Rule) countLeft(now time.Time) {
	if r.left.Add(1) == 1 {
		r.leftSince.Put(account.MomentOf(now))
	}
}

// Hindrances are what waits in memory for the bindings, unacknowledged: that with the oldest
// message, that which takes the most room, each with a since of zero if there is none, and
// how many there are.
func (p *Path) Hindrances() (oldest, largest Hindrance, n int) {
	for _, b := range p.working.Load().bindings {
		h, none := b.hindrance()
		if none {
			continue
		}
		n++
		if oldest.Since.IsZero() || h.Since.Before(oldest.Since) {
			oldest = h
		}
		if h.Bytes > largest.Bytes {
			largest = h
		}
	}
	return oldest, largest, n
}

// RedeliveryDue reports whether the broker is to repeat messages, as there was no room for them.
func (p *Path) RedeliveryDue() bool { return p.needsRedelivery.Load() }

// LeftWithBroker is how many messages of the rule stay with the broker, for there was no
// room, and since when.
func (r *Rule) LeftWithBroker(now time.Time) (n int, since time.Time) {
	return int(r.left.Load()), account.MomentTime(r.leftSince.Load(), now)
}
