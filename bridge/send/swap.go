package send

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/multicast"
	"topicast/bridge/spill"
	"topicast/mapping"
)

// Generation is what the send rules of a table ask for. It is made whole, put to work,
// and never changed: the next table makes another. What both ask for in the same words is
// one and the same in both, so that it does not notice.
type Generation struct {
	table      *mapping.Table
	Rules      []*Rule
	bindings   []*binding
	bound      map[boundKey]*binding // the same by what they are
	Diversions []Diversion           // what routes do to each of the rules; nil: nothing
	expecting  int                   // how many rules wait for answers
	heirs      []int                 // which of Rules each previous rule has become; -1: it is gone
}

// Build makes the generation of a table, reusing what fits of the previous one: it gives each
// rule its account, and each distinct binding its socket-to-be.
func (p *Path) Build(table *mapping.Table, before *Generation, diversions []Diversion) *Generation {
	next := &Generation{table: table, Diversions: diversions}
	specs := table.Send()
	old := make(map[string]*sendTotals, len(before.Rules))
	for _, r := range before.Rules {
		old[r.Name] = r.sendTotals
	}
	next.bound = make(map[boundKey]*binding, len(before.bindings))
	rules := make([]Rule, len(specs))
	var accounts []sendTotals
	if len(before.Rules) == 0 {
		accounts = make([]sendTotals, len(specs)) // all at once, at the start
	}
	next.Rules = make([]*Rule, len(specs))
	ids := table.SubscriptionIDs()
	for i := range specs {
		spec := &specs[i]
		r := &rules[i]
		r.SendRule, r.subscriptions = spec, ids[i]
		r.disabled = p.isDisabled(spec.Name, spec.Common)
		switch was := cmp.Or(old[spec.Name], p.removed.Find(spec.Name)); {
		case was != nil:
			r.sendTotals = was
		case accounts != nil:
			r.sendTotals = &accounts[i]
		default:
			r.sendTotals = new(sendTotals)
		}
		r.Begin(p.log, p.follower, spec.Common, spec.Instance())
		r.tap = p.tap
		_, fixed := spec.To().Fixed()
		r.byProperty = spec.To().PropertyNames()
		r.makesTargets, r.byPayload, r.broadcasts = !fixed, spec.To().VariesByPayload(), spec.Broadcasts()
		r.makesPayloads = spec.MakesPayloads()
		if spec.Retained == mapping.RetainedOnce {
			r.settings = settingsKey(spec)
		}
		if p.guard != nil && table.SendLoops(i) {
			r.guard = p.guard
		}
		next.Rules[i] = r
	}
	if len(before.Rules) > 0 {
		next.heirs = spill.Heirs(kept(before.Rules), kept(next.Rules))
	}
	next.spoolWith(p, before)
	next.answersWith(p, before)
	for i, r := range next.Rules {
		next.bind(p, r, i, before)
	}
	return next
}

// kept describes rules for package spill.
func kept(rules []*Rule) (all []spill.Rule) {
	all = make([]spill.Rule, len(rules))
	for i, r := range rules {
		all[i] = r.kept()
	}
	return all
}

// spoolWith gives the rules that use the spool their queues: those of the rules that they
// were before.
func (g *Generation) spoolWith(p *Path, before *Generation) {
	if p.spill == nil {
		return
	}
	for i, was := range before.Rules {
		heir := g.heirs[i]
		if heir >= 0 && (g.Rules[heir].spool == nil || g.Rules[heir].kept().Is == was.kept().Is) {
			g.Rules[heir].spool = was.spool
		}
	}
	for _, r := range g.Rules {
		switch {
		case r.OnDown == mapping.OnDownDrop:
			r.spool = nil
		case r.spool == nil:
			r.spool = new(spoolQueue)
			r.spool.Queue = p.spill.New(r.spool.wake)
		}
	}
}

// bind gives rule i the binding it leaves through, or the one in which it waits, wholly
// or in part, while a route keeps its groups from leaving.
func (g *Generation) bind(p *Path, r *Rule, i int, before *Generation) {
	var d Diversion
	if g.Diversions != nil {
		d = g.Diversions[i]
	}
	switch {
	case r.disabled != nil:
		r.binding = g.offFor(p, &r.Binding, before)
	case d.none():
		r.binding = g.bindingOf(p, &r.Binding, Diversion{}, before)
	case d.Whole || r.spool != nil:
		r.binding = g.bindingOf(p, &r.Binding, d, before)
	default:
		r.binding = g.bindingOf(p, &r.Binding, Diversion{}, before)
		r.diverted = &diverted{groups: d.Route.Groups, binding: g.bindingOf(p, &r.Binding, d, before)}
	}
}

// bindingOf is the binding of a rule, the previous one where there is one.
func (g *Generation) bindingOf(p *Path, want *mapping.Binding, d Diversion, before *Generation) *binding {
	return g.boundBy(p, boundKey{multicast.Binding(*want), d.Route, false}, d, before)
}

// offFor is the binding in which what a disabled rule has waits.
func (g *Generation) offFor(p *Path, want *mapping.Binding, before *Generation) *binding {
	return g.boundBy(p, boundKey{Binding: multicast.Binding(*want), off: true}, Diversion{}, before)
}

func (g *Generation) boundBy(p *Path, k boundKey, d Diversion, before *Generation) *binding {
	b := g.bound[k]
	if b == nil {
		if b = before.bound[k]; b == nil {
			b = newBinding(k.Binding, p)
			switch {
			case k.off:
				b.switchOff()
			case !d.none():
				b.block(d)
			}
		}
		g.bound[k] = b
		g.bindings = append(g.bindings, b)
	}
	if before.bound[k] != b {
		b.rules++ // logged when it is up
	}
	return b
}

// Sockets is how many there are, open or not.
func (g *Generation) Sockets() int { return len(g.bindings) }

// OpenEarly opens the sockets of new bindings, so that no message finds them shut.
// One with a source port of its own has to wait if a binding that ends has that.
func (p *Path) OpenEarly(ctx context.Context, g, before *Generation, interfaces []multicast.Interface) {
	taken := make(map[uint16]bool)
	for _, b := range before.notIn(g) {
		taken[b.want.SourcePort] = b.want.SourcePort != 0
	}
	fresh := slices.DeleteFunc(g.notIn(before), func(b *binding) bool { return taken[b.want.SourcePort] && b.blocked == "" })
	p.rebind(ctx, fresh, interfaces)
}

// notIn are the bindings that another generation has not.
func (g *Generation) notIn(other *Generation) (left []*binding) {
	for k, b := range g.bound {
		if other.bound[k] != b {
			left = append(left, b)
		}
	}
	return left
}

// Attach has the goroutines of the bindings end with ctx, and counted by a WaitGroup.
func (g *Generation) Attach(ctx context.Context, drains *sync.WaitGroup) {
	for _, b := range g.bindings {
		b.mu.Lock()
		if b.ctx != ctx { // one that is at work already reads it without the lock
			b.ctx, b.drains = ctx, drains
		}
		b.mu.Unlock()
	}
}

// Activate puts a generation to work in place of another, and takes over what waits.
func (p *Path) Activate(next, before *Generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range before.Rules {
		r.stale = true
		r.retired.Store(true)
	}
	p.table, p.rules = next.table, next.Rules
	p.again.Divide(len(next.bindings), 0)
	p.asked.Divide(next.expecting, 0)
	p.topics = newTopics()
	waits, again := before.takeQueued()
	for i, r := range before.Rules {
		var heir *Rule
		if at := next.heirs[i]; at >= 0 {
			heir = next.Rules[at]
		}
		r.binding.carryOverHosts(r, heir)
	}
	p.assignSpool(next)
	next.relistSpooled()
	account.Replace(&p.removed, before.Rules, next.Rules, (*Rule).account)
	p.handOver(waits, again, next, before)
	for _, b := range next.bindings {
		b.mu.Lock()
		b.spill()
		b.wake()
		b.mu.Unlock()
	}
	p.working.Store(next)
}

// handOver has what waits in memory go with the rules that the previous ones have become.
// Callers hold the path's mu.
func (p *Path) handOver(waits []*queuedDatagram, again []*keptTopic, next, before *Generation) {
	for i, r := range before.Rules {
		if heir := next.heirs[i]; heir >= 0 {
			r.successor = next.Rules[heir]
		}
		if to := r.successor; to != nil && !to.Host.Equal(r.Host) {
			to.errors.clear()
		}
	}
	for _, w := range waits {
		p.noteDelayed(w, w.rule.successor)
	}
	p.forgetStale()
	for _, w := range waits {
		p.requeue(w, w.rule.successor)
	}
	for _, t := range again {
		p.carryOverKept(t, t.rule.successor)
	}
	for _, b := range before.bindings {
		if b.want.Answers != "" {
			b.carryOverRequests()
		}
	}
	for _, r := range before.Rules {
		r.successor = nil // so that a rule that is still referred to does not keep all later ones alive
	}
}

// assignSpool gives the rules what the previous ones had on disk.
func (p *Path) assignSpool(next *Generation) {
	if p.spill == nil {
		return
	}
	var rules []spill.Rule
	var queues []*spill.Queue
	for _, r := range next.Rules {
		if r.spool != nil {
			rules, queues = append(rules, r.kept()), append(queues, r.spool.Queue)
		}
	}
	p.spill.Assign(rules, queues)
}

// takeQueued takes out what waits in memory, and forgets what is on disk.
func (g *Generation) takeQueued() (all []*queuedDatagram, again []*keptTopic) {
	for _, b := range g.bindings {
		b.mu.Lock()
		b.queue.eachDatagram(func(w *queuedDatagram) {
			b.queue.remove(w)
			b.budget.Release(w.in.room, w.size())
			all = append(all, w)
		})
		for _, r := range b.spooledRules {
			r.spooling.listed = false
		}
		b.spooledRules = nil
		again = append(again, b.takeAllKept()...)
		b.mu.Unlock()
	}
	return all, again
}

// relistSpooled counts for each binding how many rules it has, and lists which of them have something
// on disk.
func (g *Generation) relistSpooled() {
	for _, b := range g.bindings {
		b.mu.Lock()
		b.rules, b.counters.used, b.kept.used = 0, false, false
		b.mu.Unlock()
	}
	for _, r := range g.Rules {
		b := r.binding
		b.mu.Lock()
		b.rules++
		b.counters.used = b.counters.used || !r.Counter.IsZero()
		b.kept.used = b.kept.used || r.SendsAgain()
		if r.ExpectsAnswers() {
			b.requests.rule = r
		}
		if r.spool != nil && r.spool.Len() > 0 {
			b.listSpooled(r)
			b.spilling = true
		}
		b.mu.Unlock()
		if d := r.diverted; d != nil {
			d.binding.mu.Lock()
			d.binding.rules++
			d.binding.counters.used = d.binding.counters.used || !r.Counter.IsZero()
			d.binding.kept.used = d.binding.kept.used || r.SendsAgain()
			d.binding.mu.Unlock()
		}
	}
	for _, b := range g.bindings {
		b.mu.Lock()
		b.budget.Divide(b.rules)
		b.kept.budget.Divide(b.rules)
		b.mu.Unlock()
	}
}

// noteDelayed notes that what waits is on its way by its rule as it is now.
func (p *Path) noteDelayed(w *queuedDatagram, r *Rule) {
	if r == nil || r.disabled != nil {
		return
	}
	if r.settings != w.rule.settings {
		w.fingerprint = lastsent.Untold // it was made by those of before, and leaves by those of now
	}
	if to, err := p.targetOf(r, []byte(w.topic), w.original(), &w.properties); to != nil && err == nil {
		p.prepareQueued(to, w.fingerprint)
		to.delayed()
	}
}

// requeue has what waits go where its rule, as it is now, sends it; r is nil if it is gone.
// Callers hold the path's mu.
func (p *Path) requeue(w *queuedDatagram, r *Rule) {
	var to *routeTarget
	var err error
	if r != nil && r.disabled != nil {
		r.park(w)
		return
	}
	if r != nil {
		to, err = p.targetOf(r, []byte(w.topic), w.original(), &w.properties)
	}
	switch {
	case to == nil:
		w.lose(account.ReasonRemoved, nil)
		return
	case err != nil:
		w.lose(badTarget(r), err)
		return
	}
	if err := r.CheckLength(w.payload); err != nil {
		w.lose(account.ReasonBadPayload, err)
		return
	}
	b := to.flow.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.socket == nil {
		if !r.waitsWhileDown(w.ack != nil) {
			w.lose(account.ReasonPending, errors.New(b.reason))
			return
		}
		b.supersede(r, w.topic, nil)
	}
	h := b.hostOf(r, to.flow.to.Addr())
	if h.unreachable() && (h.unlisted || !r.waitsForHost(w.ack != nil)) {
		w.lose(account.ReasonUnreachable, h.errUnreachable())
		return
	}
	w.leavesBy(to)
	l := b.queueOf(r, h)
	b.budget.Transfer(l.room, w.size())
	b.queue.push(l, *w)
}

// park keeps what waits for a disabled rule until that goes on: its target is asked for again then.
func (r *Rule) park(w *queuedDatagram) {
	b := r.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	w.rule = r
	l := b.queueOf(r, nil)
	b.budget.Transfer(l.room, w.size())
	b.queue.push(l, *w)
}

// RetireOld ends what the next generation has no use for.
func (g *Generation) RetireOld(next *Generation) {
	for _, b := range g.notIn(next) {
		b.stop()
		b.sayFreed()
	}
}

// Abort ends what was opened for a generation that is not put to work.
func (g *Generation) Abort(before *Generation) {
	for _, b := range g.notIn(before) {
		b.stop()
	}
}
