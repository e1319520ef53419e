package receive

import (
	"context"
	"sync"
)

// StopReceivers ends the receiving for good, and hands on what the rules still hold.
func (p *Path) StopReceivers(readers *sync.WaitGroup) {
	for _, m := range p.working.Load().memberships {
		m.stop()
	}
	readers.Wait()
	for _, r := range p.working.Load().Rules {
		r.flush()
	}
}

// SpillAll hands what waits in memory for the broker to the disk, until nothing is left, or
// usable reports that the disk cannot be used, or ctx ends. A rule for which the broker is
// slow to take something delays no other.
func (p *Path) SpillAll(ctx context.Context, usable func() bool) {
	spools := p.working.Load().allSpools()
	done := make(chan struct{}, len(spools))
	for _, s := range spools {
		go func() {
			p.settled.Wait(ctx, func() bool { return s.spillAll() || !usable() })
			done <- struct{}{}
		}()
	}
	for range spools {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}
