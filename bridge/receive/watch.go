package receive

import (
	"slices"
	"time"

	"topicast/bridge/multicast"
)

// What is done now and then, by one goroutine.

// CountDrops counts what the kernel dropped since it was last asked.
func (p *Path) CountDrops() {
	for _, m := range p.working.Load().memberships {
		m.countDrops()
	}
}

// NoteDrops takes note of which rules have dropped something since it was last called.
func (p *Path) NoteDrops(at int64) {
	for _, r := range p.working.Load().Rules {
		r.NoteDrops(at)
	}
}

// Pending reports whether a membership waits for something.
func (p *Path) Pending() bool {
	return slices.ContainsFunc(p.working.Load().memberships, (*membership).pending)
}

// ExpireOld drops what is too old on disk.
func (p *Path) ExpireOld() {
	for _, s := range p.working.Load().spools {
		s.expireOld()
	}
	if p.spool != nil {
		p.expireUnused()
	}
}

// Silent are the rules that are up for longer than a time and have heard nothing, each
// once.
func (p *Path) Silent(now time.Time, longer time.Duration) (silent []*Rule) {
	for _, r := range p.working.Load().Rules {
		if !r.silenceLogged && r.received.Load() == 0 {
			var s Status
			if r.askReaders(&s) == 0 && now.Sub(s.Since) >= longer {
				r.silenceLogged = true
				silent = append(silent, r)
			}
		}
	}
	return silent
}

// Rejoin holds the memberships against the interfaces.
func (p *Path) Rejoin(interfaces []multicast.Interface, changes multicast.Change) {
	type found struct {
		on  multicast.Interface
		err error
	}
	byWant := make(map[string]found)
	for _, m := range p.working.Load().memberships {
		f, known := byWant[m.Interface]
		if !known {
			f.on, f.err = multicast.ResolveInterface(m.Interface, interfaces)
			byWant[m.Interface] = f
		}
		m.release(f.on, f.err, changes)
	}
	for _, m := range p.working.Load().memberships {
		m.refresh(byWant[m.Interface].on, byWant[m.Interface].err, changes)
	}
	for _, r := range p.working.Load().Rules {
		r.logStateChange()
	}
}

// SpoolIsBack is called when the spool has come into use: what waits in memory goes
// there, and it may hold what it did not hold before.
func (p *Path) SpoolIsBack() {
	for _, s := range p.working.Load().spools {
		s.mu.Lock()
		if s.left() > 0 {
			s.on.Store(true)
		}
		s.spill()
		s.mu.Unlock()
		if c := s.copies.Load(); c != nil {
			c.wakePump()
		}
	}
	p.WakePump()
}
