package send

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
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

	// What rules that are gone, or do not use the spool now, have there, by the rule's
	// name. Should the rule come back it gets the same: only one at a time may take from
	// the front of a queue, and who did for the rule of before may not be done yet.
	unused map[string]*spoolQueue
}

// Build makes the generation of a table, out of that of before where it fits: it gives each
// rule its account, and each distinct binding its socket-to-be.
func (p *Path) Build(table *mapping.Table, before *Generation, diversions []Diversion) *Generation {
	next := &Generation{table: table, Diversions: diversions, unused: before.unusedNext()}
	specs := table.Send()
	old := make(map[string]*Rule, len(before.Rules))
	for _, r := range before.Rules {
		old[r.Name] = r
	}
	next.bound = make(map[boundKey]*binding, len(before.bindings))
	rules := make([]Rule, len(specs))
	var accounts []sendTotals
	if len(before.Rules) == 0 {
		accounts = make([]sendTotals, len(specs)) // all at once, at the start
	}
	next.Rules = make([]*Rule, len(specs))
	for i := range specs {
		spec := &specs[i]
		r := &rules[i]
		r.SendRule = spec
		switch was := old[spec.Name]; {
		case was != nil:
			r.sendTotals = was.sendTotals
		case accounts != nil:
			r.sendTotals = &accounts[i]
		default:
			r.sendTotals = new(sendTotals)
		}
		r.Log = p.log
		if p.guard != nil && table.SendLoops(i) {
			r.guard = p.guard
		}
		if p.spool != nil && spec.OnDown != mapping.OnDownDrop {
			r.spool = next.spoolFor(spec.Name, p.spool)
		}
		next.bind(p, r, i, before)
		next.Rules[i] = r
	}
	return next
}

// bind gives rule i the binding it leaves through, or the one in which it waits, wholly
// or in part, while a route keeps its groups from leaving.
func (g *Generation) bind(p *Path, r *Rule, i int, before *Generation) {
	var d Diversion
	if g.Diversions != nil {
		d = g.Diversions[i]
	}
	switch {
	case d.none():
		r.binding = g.bindingOf(p, &r.Binding, Diversion{}, before)
	case d.Whole || r.spool != nil:
		r.binding = g.bindingOf(p, &r.Binding, d, before)
	default:
		r.binding = g.bindingOf(p, &r.Binding, Diversion{}, before)
		r.diverted = &diverted{d.Route.Groups, g.bindingOf(p, &r.Binding, d, before)}
	}
}

// bindingOf is the binding of a rule, that of before where there is one.
func (g *Generation) bindingOf(p *Path, want *mapping.Binding, d Diversion, before *Generation) *binding {
	k := boundKey{multicast.Binding(*want), d.Route}
	b := g.bound[k]
	if b == nil {
		if b = before.bound[k]; b == nil {
			b = newBinding(k.Binding, p)
			if !d.none() {
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
func (g *Generation) OpenEarly(ctx context.Context, before *Generation, interfaces []multicast.Interface) {
	taken := make(map[uint16]bool)
	for _, b := range without(before.bindings, g.bindings) {
		taken[b.want.SourcePort] = b.want.SourcePort != 0
	}
	fresh := slices.DeleteFunc(without(g.bindings, before.bindings), func(b *binding) bool { return taken[b.want.SourcePort] && b.blocked == "" })
	rebind(ctx, fresh, interfaces)
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
	}
	p.table, p.rules = next.table, next.Rules
	p.keepRoutes()
	waits := before.takeQueued()
	next.relistSpooled()
	rules := make(map[string]*Rule, len(next.Rules))
	for _, r := range next.Rules {
		rules[r.Name] = r
	}
	for _, r := range before.Rules {
		if rules[r.Name] == nil {
			r.AlsoTo(&p.gone)
		}
	}
	for i := range waits {
		p.noteDelayed(&waits[i], rules[waits[i].target.rule.Name])
	}
	p.forgetStale()
	for i := range waits {
		p.requeue(&waits[i], rules[waits[i].target.rule.Name])
	}
	for _, b := range next.bindings {
		b.mu.Lock()
		b.spill()
		b.wake()
		b.mu.Unlock()
	}
	p.working.Store(next)
}

// keepRoutes keeps the routes for those of the next table to take over from.
func (p *Path) keepRoutes() {
	if len(p.before)+len(p.routes) > maxRoutes {
		p.before = nil
	}
	if p.before == nil {
		p.before = p.routes
	} else {
		maps.Copy(p.before, p.routes)
	}
	p.routes, p.flows = make(map[string]*route), make(map[flowKey]*flow)
}

// carryOver takes over what was known of the same topic under another table: what its
// rules have on disk. It reads their newest without the binding's mu: takeQueued, which
// takes that, has emptied the queues, so that none writes to a target of before any more.
func (r *route) carryOver(was *route) {
	for i := range r.targets {
		t := &r.targets[i]
		for j := range was.targets {
			o := &was.targets[j]
			if t.rule.Name == o.rule.Name {
				t.newest = o.newest
			}
		}
	}
}

// takeQueued takes out what waits in memory, and forgets what is on disk.
func (g *Generation) takeQueued() (all []queuedDatagram) {
	for _, b := range g.bindings {
		b.mu.Lock()
		for !b.queue.empty() {
			if w := b.queue.pop(); !w.gone {
				b.budget.Release(w.size())
				all = append(all, w)
			}
		}
		for _, r := range b.spooledRules {
			r.spool.listed = false
		}
		b.spooledRules = nil
		b.mu.Unlock()
	}
	return all
}

// relistSpooled counts for each binding how many rules it has, and lists which of them have something
// on disk.
func (g *Generation) relistSpooled() {
	for _, b := range g.bindings {
		b.mu.Lock()
		b.rules = 0
		b.mu.Unlock()
	}
	for _, r := range g.Rules {
		b := r.binding
		b.mu.Lock()
		b.rules++
		if r.spool != nil && r.spool.Len() > 0 {
			b.listSpooled(r)
			b.spilling = true
		}
		b.mu.Unlock()
		if d := r.diverted; d != nil {
			d.binding.mu.Lock()
			d.binding.rules++
			d.binding.mu.Unlock()
		}
	}
}

// noteDelayed notes that what waits is on its way by its rule as it is now.
func (p *Path) noteDelayed(w *queuedDatagram, r *Rule) {
	if r == nil {
		return
	}
	if to := p.targetOf(r, []byte(w.target.route.topic)); to != nil {
		p.prepare(to, w.print)
		to.delayed()
	}
}

// requeue has what waits go where its rule, as it is now, sends it; r is nil if
// there is none of that name. Callers hold the path's mu.
func (p *Path) requeue(w *queuedDatagram, r *Rule) {
	b := w.target.rule.binding
	var to *routeTarget
	if r != nil {
		to = p.targetOf(r, []byte(w.target.route.topic))
	}
	if to != nil && to.flow != nil {
		b = to.flow.binding
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.budget.Transfer(w.size())
	switch {
	case to == nil:
		b.giveUp(w, account.DropRemoved, nil)
	case to.flow == nil:
		b.giveUp(w, account.DropBadGroup, to.err)
	case b.socket == nil && !r.waitsWhileDown(w.ack != nil):
		b.giveUp(w, account.DropPending, errors.New(b.reason))
	default:
		if b.socket == nil {
			b.supersede(to)
		}
		w.target, w.group = to, to.flow.group
		to.place = b.queue.push(*w) + 1
	}
}

// RetireOld ends what the next generation has no use for.
func (g *Generation) RetireOld(next *Generation) {
	for _, b := range without(g.bindings, next.bindings) {
		b.stop()
	}
}

// Abort ends what was opened for a generation that is not put to work.
func (g *Generation) Abort(before *Generation) {
	for _, b := range without(g.bindings, before.bindings) {
		b.stop()
	}
}

// without are those of all that are not among others.
func without[T comparable](all, others []T) (left []T) {
	among := make(map[T]bool, len(others))
	for _, x := range others {
		among[x] = true
	}
	for _, x := range all {
		if !among[x] {
			left = append(left, x)
		}
	}
	return left
}
