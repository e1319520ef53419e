package receive

import (
	"fmt"
	"maps"
	"net/netip"
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
	if p.spool == nil {
		return
	}
	g := p.working.Load()
	for _, s := range g.allSpools() {
		s.expireOld()
	}
	if p.spill.Find() { // what a rule that is gone had in memory, for another one
		g.findOnDisk()
		p.WakePump()
	}
	p.spill.ExpireUnused()
}

// findOnDisk has what is on disk published.
func (g *Generation) findOnDisk() {
	for _, s := range g.spools {
		s.findOnDisk()
	}
}

// Unused are the rules whose messages on disk no rule uses.
func (p *Path) Unused() []string { return slices.Sorted(maps.Keys(p.spill.Unused())) }

// LogUnused logs what is on disk that no rule uses.
func (p *Path) LogUnused() { p.spill.LogUnused() }

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

// Rejoin compares the memberships with the interfaces.
func (p *Path) Rejoin(interfaces []multicast.Interface, changes multicast.Change) {
	lost := p.lostJoins(changes)
	type found struct {
		on  multicast.Interface
		err error
	}
	byWant := make(map[string]found)
	type hostPort struct {
		index int
		at    netip.AddrPort
	}
	first := make(map[hostPort]*membership)
	find := func(m *membership) (multicast.Interface, error) {
		f, known := byWant[m.Interface]
		if !known {
			f.on, f.err = multicast.ResolveInterface(m.Interface, interfaces)
			byWant[m.Interface] = f
		}
		if f.err != nil || !m.Host() {
			return f.on, f.err
		}
		at := hostPort{f.on.Index, m.Group}
		if first[at] == nil {
			first[at] = m
		}
		if other := first[at]; other != m { // of two sockets one would get all unicast
			return f.on, fmt.Errorf("another rule listens to %s by this interface, and names it %s: name it so here too", m.Heard(), other.Interface)
		}
		return f.on, nil
	}
	for _, m := range p.working.Load().memberships {
		on, err := find(m)
		m.release(on, err, changes, lost)
	}
	for _, m := range p.working.Load().memberships {
		on, err := find(m)
		m.reconcile(on, err, changes)
	}
	p.logStateChanges()
}

// lostJoins tells of a membership whether the kernel has it no more, although its interface
// seems to be the same. That may be so where news of the interfaces were missed: one may
// have been deleted and made anew with its index. To leave all groups for that would lose
// what comes meanwhile, each time that somebody has news missed.
func (p *Path) lostJoins(changes multicast.Change) (lost func(index int, group netip.Addr) bool) {
	if !changes.Overflow {
		return func(int, netip.Addr) bool { return false }
	}
	// The kernel's table may leave out some of what stands behind an interface that is deleted
	// while it is read; not twice.
	var tables []multicast.Joins
	return func(index int, group netip.Addr) bool {
		for i := range 2 {
			if i == len(tables) {
				tables = append(tables, p.readJoins())
			}
			if tables[i] == nil || tables[i].Has(index, group) {
				return tables[i] == nil
			}
		}
		return true
	}
}

// readJoins lists what is joined; nil: nobody knows.
func (p *Path) readJoins() multicast.Joins {
	if p.joins == nil {
		return nil
	}
	joins, err := p.joins()
	if err != nil {
		return nil
	}
	return joins
}

// SpoolIsBack is called when the spool has come into use: what waits in memory goes
// there, and it may hold what it did not hold before.
func (p *Path) SpoolIsBack() {
	p.spill.FindAnew()
	g := p.working.Load()
	g.findOnDisk()
	for _, s := range g.allSpools() {
		s.mu.Lock()
		s.spill()
		s.mu.Unlock()
		if c := s.copies.Load(); c != nil {
			c.wakePump()
		}
	}
	p.WakePump()
}
