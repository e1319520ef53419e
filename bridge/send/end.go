package send

import "context"

// InMemory is how many messages of send rules wait in memory.
func (p *Path) InMemory() (n int) {
	for _, r := range p.working.Load().Rules {
		n += r.InMemory()
	}
	return n
}

// Drained waits until no datagram waits for a socket, and reports whether that is so before
// ctx ends.
func (p *Path) Drained(ctx context.Context) bool {
	return p.each(ctx, func(b *binding) bool { return p.settled.Wait(ctx, func() bool { return !b.busy() }) })
}

// SpillAll hands what waits in memory for a socket to the disk, if there is one, until
// nothing is on its way there any more, or usable reports that the disk cannot be used, or
// ctx ends.
func (p *Path) SpillAll(ctx context.Context, usable func() bool) {
	p.each(ctx, func(b *binding) bool {
		return p.settled.Wait(ctx, func() bool { return b.spillAll() || !usable() })
	})
}

// Stop closes the sockets; it reports whether all are closed before ctx ends.
func (p *Path) Stop(ctx context.Context) bool {
	p.answerOutbox.close()
	return p.each(ctx, func(b *binding) bool {
		b.stop()
		return true
	})
}

// each has f done for all bindings at once: one that hangs, with its lock, delays no other.
// It reports whether f has returned true for each before ctx ends.
func (p *Path) each(ctx context.Context, f func(*binding) bool) bool {
	bindings := p.working.Load().bindings
	done := make(chan bool, len(bindings))
	for _, b := range bindings {
		go func() { done <- f(b) }()
	}
	for range bindings {
		select {
		case ok := <-done:
			if !ok {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
	return true
}
