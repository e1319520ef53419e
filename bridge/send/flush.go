package send

import (
	"context"
	"time"

	"topicast/bridge/account"
)

// flushPause is how long is waited for who passes on just now what is to be discarded.
const flushPause = 10 * time.Millisecond

// Flush discards what waits for some rules, in memory and on disk, and counts it; wanted says of which,
// by their names and those that they have in the configuration. What the broker had not been
// acknowledged is. What comes meanwhile stays, and so does what is being passed on when ctx ends. No
// reload may be under way.
func (p *Path) Flush(ctx context.Context, wanted func(name, common string) bool) (all []account.Flushed) {
	began := time.Now()
	for _, r := range p.working.Load().Rules {
		if !wanted(r.Name, r.Common) {
			continue
		}
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
			for {
				n, left := r.spool.Discard(began)
				f.Disk += n
				if !left || ctx.Err() != nil {
					f.Left = f.Left || left
					break
				}
				if n == 0 {
					pauseFor(ctx, flushPause)
				}
			}
			r.spool.wake()
		}
		all = append(all, f)
	}
	p.settled.Notify()
	return all
}

// flushQueued discards what waits in memory for a rule. It is not ok if the binding was sending until
// ctx had ended.
func (b *binding) flushQueued(ctx context.Context, r *Rule) (n int, ok bool) {
	for !b.mu.TryLock() {
		if ctx.Err() != nil {
			return 0, false
		}
		pauseFor(ctx, flushPause)
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

// FlushUnused discards what is on disk of a rule that is gone, or does not use the spool now.
func (p *Path) FlushUnused(rule string) int {
	if p.spill == nil {
		return 0
	}
	return p.spill.DiscardUnused(rule)
}
