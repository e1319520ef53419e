package receive

import (
	"maps"
	"strings"

	"topicast/bridge/account"
	"topicast/bridge/spool"
)

// unusedNext are the unused spools that there would be if the next table had no rules.
func (g *Generation) unusedNext() map[string]*publishSpool {
	left := maps.Clone(g.unused)
	if left == nil {
		left = make(map[string]*publishSpool)
	}
	maps.DeleteFunc(left, func(_ string, s *publishSpool) bool { return s.empty() })
	for _, r := range g.Rules {
		if r.spool != nil {
			left[r.Name] = r.spool
		}
	}
	return left
}

// spoolFor takes out what a rule had, or is new.
func (g *Generation) spoolFor(r *Rule, on *spool.Spool) *publishSpool {
	s := g.unused[r.Name]
	if s == nil {
		return newPublishSpool(r, on)
	}
	delete(g.unused, r.Name)
	return s
}

// unusedQueues are the names of the queues on disk that no receive rule uses. What is
// there is kept until it is too old: the rule may come back.
func (g *Generation) unusedQueues(on *spool.Spool) (names []string) {
	used := make(map[string]bool)
	for _, r := range g.Rules {
		used[r.Name] = r.spool != nil
	}
	for _, name := range on.Names() {
		rule, _, ofReceive := strings.Cut(name, "\x00")
		if ofReceive && !used[rule] && g.left(name, on) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// left is how many messages are in a queue that no rule uses. Copies of what the session
// still has are not among them.
func (g *Generation) left(queue string, on *spool.Spool) int {
	if rule, is := strings.CutSuffix(queue, olderSuffix); is && g.unused[rule] != nil {
		return g.unused[rule].inheritedLen()
	}
	return on.Queue(queue).Len()
}

// LogUnused logs what is on disk that no rule uses.
func (p *Path) LogUnused() {
	g := p.working.Load()
	for _, name := range g.unusedQueues(p.spool) {
		rule, _, _ := strings.Cut(name, "\x00")
		p.log.Warn("messages in the spool belong to a rule that the configuration has no more, or that does not use the spool now; they are kept until they are too old",
			"rule", rule, "messages", g.left(name, p.spool), "max_age", p.maxAge)
	}
}

// expireUnused drops what is too old there.
func (p *Path) expireUnused() {
	g := p.working.Load()
	for _, name := range g.unusedQueues(p.spool) {
		rule, _, _ := strings.Cut(name, "\x00")
		lost := g.expire(name, p)
		p.gone.CountMany(account.DropExpired, lost.Expired)
		p.gone.CountMany(account.DropSpoolFailed, lost.Damaged)
		if lost.Expired > 0 {
			p.log.Warn("messages of a rule that is gone are dropped from the spool: they are too old", "rule", rule, "messages", lost.Expired)
		}
	}
}

// expire drops what is too old in the front of a queue that no rule uses.
func (g *Generation) expire(queue string, path *Path) (lost spool.Lost) {
	var record [1]spool.Record
	rule, _, _ := strings.Cut(queue, "\x00")
	s := g.unused[rule]
	switch {
	case s != nil && s.busy():
		return lost
	case s != nil && queue == rule+olderSuffix:
		_, lost, _ = s.frontOlder(record[:])
		return lost
	}
	_, lost = path.spool.Queue(queue).Front(record[:], path.maxAge)
	return lost
}
