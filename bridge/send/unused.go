package send

import (
	"maps"
	"strings"

	"topicast/bridge/account"
	"topicast/bridge/spool"
)

// unusedNext are the unused queues that there would be if the next table had no rules.
func (g *Generation) unusedNext() map[string]*spoolQueue {
	left := maps.Clone(g.unused)
	if left == nil {
		left = make(map[string]*spoolQueue)
	}
	maps.DeleteFunc(left, func(_ string, q *spoolQueue) bool { return q.Len() == 0 })
	for _, r := range g.Rules {
		if r.spool != nil {
			left[r.Name] = r.spool
		}
	}
	return left
}

// spoolFor takes out what a rule had, or is new.
func (g *Generation) spoolFor(rule string, on *spool.Spool) *spoolQueue {
	q := g.unused[rule]
	if q == nil {
		return &spoolQueue{Queue: on.Queue(rule)}
	}
	delete(g.unused, rule)
	return q
}

// unusedQueues are the names of the queues on disk that no send rule uses. What is there is
// kept until it is too old: the rule may come back.
func (g *Generation) unusedQueues(on *spool.Spool) (names []string) {
	used := make(map[string]bool)
	for _, r := range g.Rules {
		used[r.Name] = r.spool != nil
	}
	for _, name := range on.Names() {
		if !strings.Contains(name, "\x00") && !used[name] && on.Queue(name).Len() > 0 {
			names = append(names, name)
		}
	}
	return names
}

// LogUnused logs what is on disk that no rule uses.
func (p *Path) LogUnused() {
	for _, rule := range p.working.Load().unusedQueues(p.spool) {
		p.log.Warn("messages in the spool belong to a rule that the configuration has no more, or that does not use the spool now; they are kept until they are too old",
			"rule", rule, "messages", p.spool.Queue(rule).Len(), "max_age", p.maxAge)
	}
}

// expireUnused drops what is too old there.
func (p *Path) expireUnused() {
	g := p.working.Load()
	for _, rule := range g.unusedQueues(p.spool) {
		lost := g.expire(rule, p)
		p.gone.CountMany(account.DropExpired, lost.Expired)
		p.gone.CountMany(account.DropSpoolFailed, lost.Damaged)
		if lost.Expired > 0 {
			p.log.Warn("messages of a rule that is gone are dropped from the spool: they are too old", "rule", rule, "messages", lost.Expired)
		}
	}
}

// expire drops what is too old in the front of a queue that no rule uses.
func (g *Generation) expire(rule string, p *Path) spool.Lost {
	var record [1]spool.Record
	q := g.unused[rule]
	if q == nil {
		q = &spoolQueue{Queue: p.spool.Queue(rule)}
	}
	q.sending.Lock()
	defer q.sending.Unlock()
	_, lost := q.Front(record[:], p.maxAge)
	return lost
}
