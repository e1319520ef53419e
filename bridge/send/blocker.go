package send

import (
	"cmp"
	"time"

	"topicast/bridge/account"
)

// Blocker is a rule's messages that wait unacknowledged in memory for a binding, and so keep the broker
// from sending more.
type Blocker struct {
	Rule  string
	Since time.Time // when the oldest of it came; zero: nothing waits
	Why   string
	Bytes int64 // that all of it takes
}

// blockers returns the one with the oldest message, and the one that takes the most room: while
// the binding is sending, those that were seen last.
func (b *binding) blockers() (oldest, largest Blocker) {
	if b.mu.TryLock() {
		b.noteBlockers()
		b.mu.Unlock()
	}
	b.shown.mu.Lock()
	defer b.shown.mu.Unlock()
	return b.oldest, b.largest
}

// noteBlockers notes what waits, for blockers. Callers hold mu.
func (b *binding) noteBlockers() {
	why := "its socket is busy"
	switch {
	case b.socket == nil:
		why = b.reason
	case b.stuck != "":
		why = b.stuck
	}
	var oldest, largest Blocker
	b.queue.each(func(l *ruleQueue) bool {
		w := l.first
		for w != nil && w.ack == nil {
			w = w.next
		}
		if w != nil {
			h := Blocker{l.rule.Name, w.since, why, l.room.Used()}
			if b.socket != nil && b.stuck == "" {
				h.Why = cmp.Or(b.whyWaiting(l), why)
			}
			if oldest, largest = older(oldest, h), larger(largest, h); oldest == h {
				b.oldestIn, b.oldestNumber = l, w.number
			}
		}
		return true
	})
	b.show(func() { b.oldest, b.largest = oldest, largest })
}

// clearBlockers forgets what was seen to wait, once the oldest of it has left. Callers hold mu.
func (b *binding) clearBlockers() {
	if !b.oldest.Since.IsZero() && (b.oldestIn.empty() || b.oldestIn.first.number > b.oldestNumber) {
		b.show(func() { b.oldest, b.largest = Blocker{}, Blocker{} })
	}
}

func older(a, b Blocker) Blocker {
	if a.Since.IsZero() || !b.Since.IsZero() && b.Since.Before(a.Since) {
		return b
	}
	return a
}

func larger(a, b Blocker) Blocker {
	if b.Bytes > a.Bytes {
		return b
	}
	return a
}

// countLeft notes a message of the rule that stays with the broker.
func (r *Rule) countLeft(now time.Time) {
	r.leftEver.Add(1)
	if r.left.Add(1) == 1 {
		r.leftSince.Put(account.MomentOf(now))
	}
}

// Blockers are what waits in memory for the bindings, unacknowledged: that with the oldest
// message, that which takes the most room, each with a since of zero if there is none, and
// of how many bindings something does.
func (p *Path) Blockers() (oldest, largest Blocker, n int) {
	for _, b := range p.working.Load().bindings {
		o, l := b.blockers()
		if o.Since.IsZero() {
			continue
		}
		n++
		oldest, largest = older(oldest, o), larger(largest, l)
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
