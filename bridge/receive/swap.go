package receive

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"sync"

	"topicast/bridge/account"
	"topicast/bridge/spill"
	"topicast/mapping"
)

// Generation is what the receive rules of a table ask for. It is made whole, put to
// work, and never changed: the next table makes another. What both ask for in the same
// words is one and the same in both, so that it does not notice.
type Generation struct {
	Rules       []*Rule
	memberships []*membership
	joined      map[mapping.Join]*membership
	listeners   map[*membership]*listeners
	resourced   map[*membership]string // the previous ones that get other sources: these
	spools      []*publishSpool
	merges      map[string]*merge // by the name that the rule has in the configuration
	leaving     []*publishSpool   // of rules that are gone, or do not use the spool now: they have something in memory, or the session has
}

// Build makes the generation of a table, reusing what fits of the previous one. It gives each
// rule its account and its memberships; rules that ask for the same share one.
func (p *Path) Build(table *mapping.Table, before *Generation) *Generation {
	next := new(Generation)
	specs := table.Receive()
	old := make(map[string]*Rule, len(before.Rules))
	for _, r := range before.Rules {
		old[r.Name] = r
	}
	next.reuse(p, specs, before)
	next.Rules = make([]*Rule, len(specs))
	next.listeners = make(map[*membership]*listeners)
	for i := range specs {
		loops := table.ReceiveLoops(i)
		r := old[specs[i].Name]
		off := p.isDisabled(specs[i].Name, specs[i].Common)
		if r == nil || !r.same(&specs[i], loops, off) {
			r = p.newReceiveRule(&specs[i], loops, off, r)
		}
		if r.Merge > 0 {
			r.merge = next.mergeFor(p, r.Common, before)
		}
		next.Rules[i] = r
		if off == nil {
			p.listenFor(next, r)
		}
	}
	next.spoolWith(p, before)
	for m, l := range next.listeners {
		if was := before.listeners[m]; was != nil && slices.Equal(was.rules, l.rules) {
			next.listeners[m] = was
		}
	}
	return next
}

// Sockets is how many the generation needs.
func (g *Generation) Sockets() int { return len(g.memberships) }

// spoolWith gives each rule that uses the spool what its predecessor has there.
func (g *Generation) spoolWith(p *Path, before *Generation) {
	if p.spool == nil {
		return
	}
	was := slices.Concat(before.spools, before.leaving)
	if len(was) > 0 {
		rules := make([]*Rule, len(was))
		for i, s := range was {
			rules[i] = s.rule.Load()
		}
		for i, heir := range spill.Heirs(kept(rules), kept(g.Rules)) {
			if heir < 0 || g.Rules[heir].QoS == 0 {
				continue
			}
			r := g.Rules[heir]
			if r.spool == nil || r.kept().Is == rules[i].kept().Is && r.spool.rule.Load() != r {
				r.spool = was[i]
			}
		}
	}
	for _, r := range g.Rules {
		if r.QoS > 0 {
			if r.spool == nil {
				r.spool = newPublishSpool(p)
			}
			if r.budget != r.spool.budget { // of what waits there some counts in it
				r.budget = r.spool.budget
			}
			g.spools = append(g.spools, r.spool)
		}
	}
	g.leaving = slices.DeleteFunc(missing(was, g.spools), func(s *publishSpool) bool { return slices.Contains(before.leaving, s) && s.empty() })
}

// kept describes rules for package spill.
func kept(rules []*Rule) (all []spill.Rule) {
	all = make([]spill.Rule, len(rules))
	for i, r := range rules {
		all[i] = r.kept()
	}
	return all
}

// reuse finds the previous memberships that are wanted, if with other sources.
func (g *Generation) reuse(p *Path, specs []mapping.ReceiveRule, before *Generation) {
	g.joined = maps.Clone(before.joined)
	if g.joined == nil {
		g.joined = make(map[mapping.Join]*membership)
		return
	}
	wanted := make(map[mapping.Join]bool, len(g.joined))
	for i := range specs {
		if p.isDisabled(specs[i].Name, specs[i].Common) != nil {
			continue
		}
		for j := range specs[i].Joins() {
			wanted[j] = true
		}
	}
	spare := make(map[mapping.Join]*membership) // by all but the sources
	for j, m := range g.joined {
		if !wanted[j] {
			delete(g.joined, j)
			j.Sources = ""
			spare[j] = m
		}
	}
	g.resourced = make(map[*membership]string)
	for j := range wanted {
		like := j
		like.Sources = ""
		if m := spare[like]; m != nil && g.joined[j] == nil {
			g.joined[j], g.resourced[m] = m, j.Sources
			delete(spare, like)
		}
	}
}

// same reports whether the rule is as the new table wants it.
func (r *Rule) same(spec *mapping.ReceiveRule, loops bool, off *account.Disabled) bool {
	return r.disabled == off && (r.delay != nil || r.breaker.Certain) == loops && reflect.DeepEqual(*r.ReceiveRule, *spec)
}

// newReceiveRule makes a rule. was is the previous one of its name.
// loops: it is on a cycle of the table. off: it is disabled; else nil.
func (p *Path) newReceiveRule(spec *mapping.ReceiveRule, loops bool, off *account.Disabled, was *Rule) *Rule {
	own := *spec // the rule may outlive the table
	r := &Rule{ReceiveRule: &own, path: p, number: p.numbers.Add(1), disabled: off}
	r.breaker.Limit = p.loops.Breaker
	if r.Expect > 0 {
		r.watched = new(watched)
	}
	r.inspectsPayload, r.bears = inspectsPayload(spec), bears(spec)
	r.inPayloads.room = p.inPayloads.ForRule()
	r.topics.room = p.topicRoom.ForRule()
	if was != nil {
		r.receiveTotals, r.budget = was.receiveTotals, was.budget
	} else {
		r.receiveTotals, r.budget = cmp.Or(p.removed.Find(r.Name), new(receiveTotals)), p.budget.ForRule()
	}
	r.Begin(p.log, p.follower, r.Common, r.Instance())
	if guard := p.loops.Guard; loops && !guard {
		r.breaker.Certain = true
	} else if loops {
		r.delay = &delayQueue{path: p}
	}
	return r
}

// listenFor enters a rule with the memberships it needs.
func (p *Path) listenFor(next *Generation, r *Rule) {
	var memberships []*membership
	for j := range r.Joins() {
		m := next.joined[j]
		if m == nil {
			m = newMembership(j, p)
			next.joined[j] = m
		}
		l := next.listeners[m]
		if l == nil {
			l = new(listeners)
			next.listeners[m] = l
			next.memberships = append(next.memberships, m)
		}
		if n := len(l.rules); n == 0 || l.rules[n-1] != r { // it may name a group twice
			l.rules = append(l.rules, r)
			memberships = append(memberships, m)
		}
	}
	if r.memberships == nil {
		r.memberships = memberships // of a rule that was there before they are the same
	}
}

// Activate puts a generation to work in place of another. What the previous rules hold back
// goes first; what comes until RetireOld has closed their sockets still goes by them.
func (p *Path) Activate(table *mapping.Table, next, before *Generation) {
	for m, l := range next.listeners {
		if m.listeners.Load() != l {
			m.batchMu.Lock()
			defer m.batchMu.Unlock()
		}
	}
	for _, r := range missing(before.Rules, next.Rules) {
		r.flush()
	}
	account.Replace(&p.removed, before.Rules, next.Rules, (*Rule).account)
	p.clearStatusWords(before.Rules, next.Rules)
	p.table.Store(&tableInForce{table, table.NoLocal(p.Told()...)})
	p.topicRoom.Divide(0, next.varying())
	p.senderRoom.Divide(0, len(next.memberships))
	p.inPayloads.Divide(0, next.varying())
	next.activateMerges(p)
	p.setPacing(newPacing(next.Rules))
	for m, l := range next.listeners {
		m.listeners.Store(l)
	}
	for _, r := range next.Rules {
		r.refreshLoops()
	}
	p.assignSpool(next)
	p.working.Store(next)
	p.WakePump() // a rule that is back may have something on disk
}

// assignSpool gives the rules what the previous ones had on disk.
func (p *Path) assignSpool(next *Generation) {
	if p.spool == nil {
		return
	}
	var rules []spill.Rule
	var queues []*spill.Queue
	for _, r := range next.Rules {
		if r.QoS > 0 {
			rules, queues = append(rules, r.kept()), append(queues, r.spool.queue)
			r.spool.rule.Store(r)
		}
	}
	p.spill.Assign(rules, queues)
	for _, s := range next.spools {
		s.findOnDisk()
	}
}

// varying is how many rules have more than one topic.
func (g *Generation) varying() (n int) {
	for _, r := range g.Rules {
		if r.Topic.Varies() {
			n++
		}
	}
	return n
}

// refreshLoops finds out anew which of the rule's topics come back.
func (r *Rule) refreshLoops() {
	if r.delay == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, t := range r.topics.all {
		t.returns.Store(r.path.returns(topic))
	}
}

// RetireOld ends what the next generation has no use for.
func (g *Generation) RetireOld(next *Generation) {
	for m, sources := range next.resourced {
		m.setSources(sources)
	}
	for _, m := range g.memberships {
		if next.listeners[m] == nil {
			m.stop()
			m.batchMu.Lock() // what it has read already is heard by now, or by nobody
			m.listeners.Store(new(listeners))
			m.batchMu.Unlock()
		}
	}
	for _, r := range missing(g.Rules, next.Rules) {
		r.flush()
		r.releaseTopics()
	}
	for _, s := range missing(g.spools, next.spools) {
		s.spillAll()
	}
	g.retireMerges(next)
}

// Attach has the readers of the sockets counted by a WaitGroup.
func (g *Generation) Attach(readers *sync.WaitGroup) {
	for _, m := range g.memberships {
		m.mu.Lock()
		m.readers = readers
		m.mu.Unlock()
	}
}

// allSpools are those of the rules, and of rules that are gone.
func (g *Generation) allSpools() []*publishSpool {
	if len(g.leaving) == 0 {
		return g.spools
	}
	return slices.Concat(g.spools, g.leaving)
}

// trim lets the disk forget the copies that are not needed any more, of rules that are
// gone as well.
func (g *Generation) trim() {
	for _, s := range g.allSpools() {
		s.trim()
	}
}

// UsesSpool reports whether a rule has messages go to the spool when they cannot go on.
func (g *Generation) UsesSpool() bool {
	return slices.ContainsFunc(g.Rules, func(r *Rule) bool { return r.QoS > 0 })
}
