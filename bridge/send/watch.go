package send

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// What is done now and then, by one goroutine.

// findOnDisk has what a rule has in the spool sent, which may not have been there.
func (r *Rule) findOnDisk() {
	if r.spool == nil || r.spool.Len() == 0 {
		return
	}
	r.binding.mu.Lock()
	defer r.binding.mu.Unlock()
	r.binding.listSpooled(r)
	r.binding.spilling = true
}

// SpoolIsBack is called when the spool has come into use: what waits in memory goes
// there, and it may hold what it did not hold before.
func (p *Path) SpoolIsBack() {
	g := p.working.Load()
	if p.spill != nil {
		p.spill.FindAnew()
	}
	for _, r := range g.Rules {
		r.findOnDisk()
	}
	for _, b := range g.bindings {
		b.mu.Lock()
		b.spill()
		b.wake()
		b.mu.Unlock()
	}
}

// WakeAll has sent what can be: what the spool could not write is to be had from it all
// the same, but nobody is told when.
func (p *Path) WakeAll() {
	for _, b := range p.working.Load().bindings {
		b.mu.Lock()
		b.wake()
		b.mu.Unlock()
	}
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
	for _, b := range p.working.Load().bindings {
		if b.mu.TryLock() { // else it is sending
			b.checkStuck(now)
			b.mu.Unlock()
		}
	}
}

// NoteDrops notes which rules have dropped something since it was last called.
func (p *Path) NoteDrops(at int64) {
	for _, r := range p.working.Load().Rules {
		r.NoteDrops(at)
	}
}

// Pending reports whether a binding waits for something.
func (p *Path) Pending() bool {
	return slices.ContainsFunc(p.working.Load().bindings, (*binding).pending)
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

// LogUnused logs what is on disk that no rule uses.
func (p *Path) LogUnused() { p.spill.LogUnused() }

// probesAtOnce bounds the self-tests under way: each joins a group and may wait
// for its own copy, with a file descriptor of those that are kept for such.
const probesAtOnce = 32

// Refresh holds the bindings against the interfaces.
func (p *Path) Refresh(ctx context.Context, interfaces []multicast.Interface) {
	rebind(ctx, p.working.Load().bindings, interfaces)
}

// rebind holds bindings against the interfaces.
func rebind(ctx context.Context, bindings []*binding, interfaces []multicast.Interface) {
	var g errgroup.Group
	g.SetLimit(max(1, min(probesAtOnce, multicast.KeptDescriptors()/4)))
	for _, b := range bindings {
		g.Go(func() error {
			b.refresh(ctx, interfaces)
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
		b.mu.Lock()
		ready := b.needsRedelivery && b.budget.HasRoom()
		wanted = wanted || b.needsRedelivery
		b.mu.Unlock()
		if ready {
			return true
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
	for _, b := range p.working.Load().bindings {
		b.mu.Lock()
		b.spill()
		b.mu.Unlock()
	}
}

// ClearRedelivery is called when the connection has ended: on the next one the broker
// repeats all that was not acknowledged.
func (p *Path) ClearRedelivery() {
	if !p.needsRedelivery.Swap(false) {
		return
	}
	for _, b := range p.working.Load().bindings {
		b.mu.Lock()
		b.needsRedelivery = false
		b.mu.Unlock()
	}
	for _, r := range p.working.Load().Rules {
		r.left.Store(0)
	}
}

// repeatPause is how often the broker is made to repeat messages, at most: each time
// costs a connection.
const repeatPause = 5 * time.Second
