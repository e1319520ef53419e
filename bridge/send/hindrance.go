package send

import (
	"time"

	"topicast/bridge/account"
)

// Hindrance is what of a rule waits in memory for a binding, unacknowledged.
type Hindrance struct {
	Rule  string
	Since time.Time // when the oldest of it came; zero: nothing waits
	Why   string
	Bytes int64 // that all of it takes
}

// hindrances returns the one with the oldest message, and the one that takes the most room: while
// the binding is sending, those that were seen last.
func (b *binding) hindrances() (oldest, largest Hindrance) {
	if b.mu.TryLock() {
		b.noteHindrances()
		b.mu.Unlock()
	}
	b.shown.mu.Lock()
	defer b.shown.mu.Unlock()
	return b.oldest, b.largest
}

// noteHindrances notes what waits, for hindrances. Callers hold mu.
func (b *binding) noteHindrances() {
	why := "its socket is busy"
	switch {
	case b.socket == nil:
		why = b.reason
	case b.stuck != "":
		why = b.stuck
	}
	var oldest, largest Hindrance
	b.queue.each(func(l *lane) bool {
		w := l.first
		for w != nil && w.ack == nil {
			w = w.next
		}
		if w != nil {
			h := Hindrance{l.rule.Name, w.since, why, l.room.Used()}
			if l.rule.paced() && b.socket != nil && b.stuck == "" {
				h.Why = "its target gets no more than " + l.rule.Rate.String()
			}
			if oldest, largest = older(oldest, h), larger(largest, h); oldest == h {
				b.oldestIn, b.oldestNumber = l, w.number
			}
		}
		return true
	})
	b.show(func() { b.oldest, b.largest = oldest, largest })
}

// forgetHindrances forgets what was seen to wait, once the oldest of it has left. Callers hold mu.
func (b *binding) forgetHindrances() {
	if !b.oldest.Since.IsZero() && (b.oldestIn.empty() || b.oldestIn.first.number > b.oldestNumber) {
		b.show(func() { b.oldest, b.largest = Hindrance{}, Hindrance{} })
	}
}

func older(a, b Hindrance) Hindrance {
	if a.Since.IsZero() || !b.Since.IsZero() && b.Since.Before(a.Since) {
		return b
	}
	return a
}

func larger(a, b Hindrance) Hindrance {
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

// Hindrances are what waits in memory for the bindings, unacknowledged: that with the oldest
// message, that which takes the most room, each with a since of zero if there is none, and
// of how many bindings something does.
func (p *Path) Hindrances() (oldest, largest Hindrance, n int) {
	for _, b := range p.working.Load().bindings {
		o, l := b.hindrances()
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
