package bridge

import (
	"maps"
	"strings"
	"time"

	"topicast/bridge/spool"
)

// strays are what rules that are gone, or do not use the spool now, have there, by
// the rule's name. Should the rule come back it gets the same: only one at a time
// may take from the front of a queue, and who did for the rule of before may not be
// done yet.
type strays struct {
	disks   map[string]*disk
	detours map[string]*detour
}

// leftovers are the strays that there would be if the next table had no rules.
func (p *parts) leftovers() strays {
	s := strays{maps.Clone(p.strays.disks), maps.Clone(p.strays.detours)}
	if s.disks == nil {
		s = strays{make(map[string]*disk), make(map[string]*detour)}
	}
	maps.DeleteFunc(s.disks, func(_ string, d *disk) bool { return d.Len() == 0 })
	maps.DeleteFunc(s.detours, func(_ string, d *detour) bool { return d.empty() })
	for _, r := range p.sends {
		if r.disk != nil {
			s.disks[r.Name] = r.disk
		}
	}
	for _, r := range p.receives {
		if r.detour != nil {
			s.detours[r.Name] = r.detour
		}
	}
	return s
}

// disk takes out what a send rule had, or is new.
func (s *strays) disk(rule string, on *spool.Spool) *disk {
	d := s.disks[rule]
	if d == nil {
		return &disk{Queue: on.Queue(rule)}
	}
	delete(s.disks, rule)
	return d
}

// detour takes out what a receive rule had, or is new.
func (s *strays) detour(r *receiveRule, on *spool.Spool) *detour {
	d := s.detours[r.Name]
	if d == nil {
		return newDetour(r, on)
	}
	delete(s.detours, r.Name)
	return d
}

// orphans are the names of the queues on disk that no rule uses. What is there is
// kept until it is too old: the rule may come back.
func (b *Bridge) orphans() (names []string) {
	if b.options.Spool.On == nil {
		return nil
	}
	p, used := b.parts(), make(map[string]bool)
	for _, r := range p.sends {
		used[r.Name] = r.disk != nil
	}
	for _, r := range p.receives {
		used[r.Name+receivedSuffix], used[r.Name+olderSuffix] = r.detour != nil, r.detour != nil
	}
	for _, name := range b.options.Spool.On.Names() {
		if !used[name] {
			names = append(names, name)
		}
	}
	return names
}

// tellOrphans logs what is on disk that no rule uses.
func (b *Bridge) tellOrphans() {
	for _, name := range b.orphans() {
		rule, _, _ := strings.Cut(name, "\x00")
		b.log.Warn("messages in the spool belong to a rule that the configuration has no more, or that does not use the spool now; they are kept until they are too old",
			"rule", rule, "messages", b.options.Spool.On.Queue(name).Len(), "max_age", b.options.Spool.MaxAge)
	}
}

// tidyOrphans lets go of what is too old there.
func (b *Bridge) tidyOrphans(now time.Time) {
	p := b.parts()
	for _, name := range b.orphans() {
		rule, _, _ := strings.Cut(name, "\x00")
		if d := p.strays.detours[rule]; d != nil && d.busy() {
			continue
		}
		d := p.strays.disks[name]
		if d == nil {
			d = &disk{Queue: b.options.Spool.On.Queue(name)}
		}
		var record [1]spool.Record
		d.sending.Lock()
		_, lost := d.Front(record[:], now, b.options.Spool.MaxAge)
		d.sending.Unlock()
		if lost.Expired > 0 {
			b.log.Warn("messages of a rule that is gone are dropped from the spool: they are too old", "rule", rule, "messages", lost.Expired)
		}
	}
}
