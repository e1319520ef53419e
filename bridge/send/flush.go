package send

import (
	"context"
	"time"

	"topicast/bridge/account"
)

// Flush discards what came before a moment and waits for a rule, in memory and on disk, and counts it.
// What was not acknowledged to the broker yet is acknowledged. What comes meanwhile stays, and so does
// what is still being sent or written when ctx ends. No reload may be under way.
func (p *Path) Flush(ctx context.Context, r *Rule, before time.Time) account.Flushed {
	f := account.Flushed{Rule: r.Name}
	bindings := []*binding{r.binding}
	if r.diverted != nil {
		bindings = append(bindings, r.diverted.binding)
	}
	for _, b := range bindings {
		n, ok := b.flushQueued(ctx, r)
		f.Memory += n
		f.Left = f.Left || !ok
	}
	if r.spool != nil {
		n, left := p.flushSpooled(ctx, r, before)
		f.Disk = n
		f.Left = f.Left || left
	}
	p.settled.Notify()
	return f
}

// flushQueued discards what waits in memory for a rule. It is not ok if the binding was sending until
// ctx had ended.
func (b *binding) flushQueued(ctx context.Context, r *Rule) (n int, ok bool) {
	if !account.LockBefore(ctx, &b.mu) {
		return 0, false
	}
	defer b.mu.Unlock()
	b.queue.eachDatagram(func(w *queuedDatagram) {
		if w.rule == r {
			b.giveUp(w, account.ReasonFlushed, nil)
			n++
		}
	})
	b.wake()
	return n, true
}

// flushSpooled discards what is on disk of a rule. What is being sent or written is waited for; whoever
// does either notifies settled. Some is left if that took until ctx had ended.
func (p *Path) flushSpooled(ctx context.Context, r *Rule, before time.Time) (n int, left bool) {
	defer r.spool.wake()
	for {
		discarded := 0
		p.settled.Wait(ctx, func() bool {
			discarded, left = r.spool.Discard(before)
			return discarded > 0 || !left
		})
		n += discarded
		if !left || ctx.Err() != nil {
			return n, left
		}
	}
}

// FlushUnused discards what is on disk of a rule that is gone, or does not use the spool now.
func (p *Path) FlushUnused(rule string) int { return p.spill.DiscardUnused(rule) }
