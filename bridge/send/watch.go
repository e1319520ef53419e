package send

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// What is done now and then, by one goroutine.

// SpoolIsBack is called when the spool has come into use: what waits in memory goes
// there, and it may hold what it did not hold before. It reports false if it is to be called
// once more, as a binding was sending.
func (p *Path) SpoolIsBack() bool {
	if p.spill != nil {
		p.spill.FindAnew()
	}
	found := make(map[*binding][]*Rule)
	for _, r := range p.working.Load().Rules {
		if r.spool != nil && r.spool.Len() > 0 {
			found[r.binding] = append(found[r.binding], r)
		}
	}
	return p.eachIdle(func(b *binding) {
		for _, r := range found[b] {
			b.listSpooled(r)
			b.spilling = true
		}
		b.spill()
		b.wake()
	})
}

// WakeAll has sent what can be: what the spool could not write is to be had from it all
// the same, but nobody is told when.
func (p *Path) WakeAll() {
	p.eachIdle((*binding).wake)
}

// eachIdle calls f for each binding, with its mu, but for those that are sending: what hangs
// in the kernel must not stop the goroutine that looks after all. It reports whether none was left out.
func (p *Path) eachIdle(f func(*binding)) (all bool) {
	all = true
	for _, b := range p.working.Load().bindings {
		if !b.mu.TryLock() {
			all = false
			continue
		}
		f(b)
		b.mu.Unlock()
	}
	return all
}

// UsesSpool reports whether a rule has messages go to the spool when they cannot go
// on.
func (g *Generation) UsesSpool() bool {
	return slices.ContainsFunc(g.Rules, func(r *Rule) bool {
		return r.QoS > 0 && r.OnDown != mapping.OnDownDrop || r.OnDown == mapping.OnDownLatest
	})
}

// FindStuck looks for bindings from which nothing leaves.
func (p *Path) FindStuck(now time.Time) {
	p.eachIdle(func(b *binding) { b.checkStuck(now) })
}

// NoteDrops notes which rules have dropped something since it was last called.
func (p *Path) NoteDrops(at int64) {
	for _, r := range p.working.Load().Rules {
		r.NoteDrops(at)
	}
}

// Hangs reports whether the kernel does not return from a send: a look at the interfaces has
// waited for it in vain.
func (p *Path) Hangs() bool {
	return slices.ContainsFunc(p.working.Load().bindings, (*binding).hanging)
}

// Pending reports whether a binding waits for something.
func (p *Path) Pending() bool {
	return slices.ContainsFunc(p.working.Load().bindings, func(b *binding) bool { return b.pending.Load() })
}

// ExpireOld drops what is too old, in memory and on disk.
func (p *Path) ExpireOld() {
	for _, b := range p.working.Load().bindings {
		b.expireOld()
	}
	if p.spill != nil {
		p.spill.ExpireUnused()
	}
}

// Unused are the rules whose messages on disk no rule uses.
func (p *Path) Unused() []string { return slices.Sorted(maps.Keys(p.spill.Unused())) }

// LogUnused logs what is on disk that no rule uses.
func (p *Path) LogUnused() { p.spill.LogUnused() }

// probesAtOnce bounds the self-tests under way: each joins a group and may wait
// for its own copy, with a file descriptor of those that are kept for such.
const probesAtOnce = 32

// Reconcile compares the bindings with the interfaces.
func (p *Path) Reconcile(ctx context.Context, interfaces []multicast.Interface) {
	p.rebind(ctx, p.working.Load().bindings, interfaces)
}

// rebind compares bindings with the interfaces.
func (p *Path) rebind(ctx context.Context, bindings []*binding, interfaces []multicast.Interface) {
	var g errgroup.Group
	g.SetLimit(max(1, min(probesAtOnce, multicast.KeptDescriptors()/4)))
	for _, b := range bindings {
		g.Go(func() error {
			b.reconcile(ctx, interfaces)
			p.refreshed.Add(1)
			return nil
		})
	}
	g.Wait()
}

// RoomAgain is told when there is room for what RequestRedelivery asks for.
func (p *Path) RoomAgain() <-chan struct{} { return p.roomAgain }

func (p *Path) tellRoom() {
	select {
	case p.roomAgain <- struct{}{}:
	default: // it is told already
	}
}

// RequestRedelivery has the broker repeat what there was no room for, once there is: it does
// so on a new connection. What still waits then is repeated as well.
func (p *Path) RequestRedelivery(now time.Time, repeat func()) {
	if !p.needsRedelivery.Load() || now.Before(p.repeatFrom) || !p.roomForRedelivery() {
		return
	}
	p.repeatFrom = now.Add(repeatPause)
	p.log.Warn("there was no room for messages (queue.size); now there is, and the broker is made to repeat them")
	repeat()
}

// roomForRedelivery reports whether one of the bindings that had no room has it now, or is gone.
func (p *Path) roomForRedelivery() bool {
	wanted := false
	for _, b := range p.working.Load().bindings {
		if b.needsRedelivery.Load() {
			if b.budget.HasRoom() {
				return true
			}
			wanted = true
		}
	}
	return !wanted
}

// SpillAgain hands to the disk what it has turned away because it was too slow. Where
// something of a binding is on its way there the binding does so by itself (stored).
func (p *Path) SpillAgain() {
	if !p.unstored.Swap(false) {
		return
	}
	if !p.eachIdle((*binding).spill) {
		p.unstored.Store(true)
	}
}

// ClearRedelivery is called when the connection has ended: on the next one the broker
// repeats all that was not acknowledged.
func (p *Path) ClearRedelivery() {
	if !p.needsRedelivery.Swap(false) {
		return
	}
	for _, b := range p.working.Load().bindings {
		b.needsRedelivery.Store(false)
	}
	for _, r := range p.working.Load().Rules {
		r.left.Store(0)
	}
}

// repeatPause is how often the broker is made to repeat messages, at most: each time
// costs a connection.
const repeatPause = 5 * time.Second
