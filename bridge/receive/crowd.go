package receive

import (
	"sync/atomic"

	"topicast/bridge/account"
)

// senderShare keeps one sender from taking all the memory that a rule may have, where it hears
// several: of the second half no sender gets more than it leaves to the others.
type senderShare struct {
	first atomic.Uint64 // SourceDigest of the sender that was heard first
	many  atomic.Bool   // it was not the only one
	// What each has taken since half was in use; some share a place. nil: it is not.
	taken atomic.Pointer[[64]atomic.Int64]
}

// acquire takes room in memory for a message of a sender. One that has waited takes what it
// has returned just now: it is not to be turned away for what others took meanwhile.
func (r *Rule) acquire(payload int, a *arrival) bool {
	if a.waited {
		return r.budget.Acquire(payload)
	}
	c, source := &r.crowd, a.source
	if !c.many.Load() {
		if c.first.Load() == source || c.first.CompareAndSwap(0, source) {
			return r.budget.Acquire(payload)
		}
		c.many.Store(true)
	}
	left := r.budget.Left()
	if r.budget.Used() <= left {
		if c.taken.Load() != nil {
			c.taken.Store(nil)
		}
		return r.budget.Acquire(payload)
	}
	taken := c.taken.Load()
	if taken == nil {
		taken = new([64]atomic.Int64)
		c.taken.Store(taken) // another reader may do so too, and count from here
	}
	n := int64(payload + account.Overhead)
	place := &taken[source%uint64(len(taken))]
	if place.Add(n) <= left && r.budget.Acquire(payload) {
		return true
	}
	place.Add(-n)
	return false
}
