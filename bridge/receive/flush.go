package receive

import (
	"context"
	"slices"
	"time"

	"topicast/bridge/account"
)

// Flush discards what came before a moment and waits for the broker, of a rule, in memory itself, on disk
// by the pump, which alone knows what the session has of it; and counts it. What the session has is on its
// way, and stays; what is on disk behind that is discarded as soon as it is settled, though that be
// after ctx has ended. No reload may be under way.
func (p *Path) Flush(ctx context.Context, r *Rule, before time.Time) account.Flushed {
	f := account.Flushed{Rule: r.Name}
	if r.spool == nil {
		return f
	}
	f.Memory = r.spool.flushPending(ctx)
	counted := r.Of(account.ReasonFlushed)
	r.spool.discarding.Store(&before)
	p.discards.Store(true)
	p.WakePump()
	done := p.settled.Wait(ctx, func() bool { return r.spool.discarding.Load() == nil })
	f.Left = !done || r.spool.waiting.Load() > 0
	f.Disk = int(r.Of(account.ReasonFlushed) - counted)
	p.settled.Notify()
	return f
}

// flushPending discards what waits in memory, unless somebody publishes it until ctx ends.
func (s *publishSpool) flushPending(ctx context.Context) (n int) {
	if !account.LockBefore(ctx, &s.mu) { // which is held while the broker is slow
		return 0
	}
	defer s.mu.Unlock()
	for i := range s.pending {
		s.budget.Release(1, s.pending[i].size())
	}
	n = len(s.pending)
	s.pending = nil
	s.waiting.Store(0)
	s.rule.Load().flushed(n)
	return n
}

// flushed counts messages that somebody had discarded.
func (r *Rule) flushed(n int) {
	if n > 0 {
		r.failures.Add(1)
		r.CountMany(r.Name, account.ReasonFlushed, n)
	}
}

// discard discards, on the pump's goroutine, what Flush has asked for; of rules that have a batch on
// its way not yet.
func (p *Path) discard(inflight []*inflightBatch) {
	left := false
	for _, s := range p.working.Load().spools {
		before := s.discarding.Load()
		if before == nil {
			continue
		}
		if slices.ContainsFunc(inflight, func(f *inflightBatch) bool { return f.spool == s }) {
			left = true
			continue
		}
		n, more := s.queue.Discard(*before)
		if n > 0 {
			s.rule.Load().failures.Add(1)
		}
		if more { // where it is on its way to the disk, that wakes the pump
			if left = true; n > 0 {
				p.WakePump()
			}
			continue
		}
		s.discarding.Store(nil)
		p.settled.Notify()
	}
	if left {
		p.discards.Store(true)
	}
}

// FlushUnused discards what is on disk of a rule that is gone, or does not use the spool now.
func (p *Path) FlushUnused(rule string) int { return p.spill.DiscardUnused(rule) }
