package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"topicast/bridge/session"
	"topicast/mapping"
)

// ReloadStatus is what has become of the configurations that came while the bridge
// runs.
type ReloadStatus struct {
	At     time.Time `json:"at"` // of the last one
	OK     bool      `json:"ok"`
	Error  string    `json:"error,omitempty"`  // why it was not taken, so that the one before is in force
	Count  int       `json:"count"`            // how many were taken
	LastOK time.Time `json:"last_ok,omitzero"` // when the one in force was
}

// duties are what the goroutines of Run's parts need.
type duties struct {
	ctx             context.Context
	drains, readers *sync.WaitGroup
}

// employ lets the parts run with w; nil: no more of them.
func (b *Bridge) employ(w *duties) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	b.duties = w
	if w != nil {
		b.parts().employ(w)
	}
}

func (p *parts) employ(w *duties) {
	for _, o := range p.bindings {
		o.mu.Lock()
		if o.ctx != w.ctx { // one that is at work already reads it without the lock
			o.ctx, o.drains = w.ctx, w.drains
		}
		o.mu.Unlock()
	}
	for _, m := range p.memberships {
		m.mu.Lock()
		m.readers = w.readers
		m.mu.Unlock()
	}
}

// Reload puts another table to work while the bridge runs. What both ask for in the
// same words goes on undisturbed: sockets stay open, groups joined, subscriptions
// as they are. What waits for a rule that is still there, by its name, goes where
// the new table sends it; what waits for one that is gone is dropped and counted.
// If it fails the old table stays in force.
func (b *Bridge) Reload(ctx context.Context, table *mapping.Table) error {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	if b.duties == nil {
		return errors.New("the bridge is not running")
	}
	before := b.parts()
	next := b.assemble(table, before)
	next.employ(b.duties)
	if err := b.openEarly(ctx, next, before); err != nil {
		next.discard(before)
		return b.reloaded(err)
	}
	b.looking.Lock()
	b.install(next, before)
	before.leave(next)
	b.looking.Unlock()
	b.tellOrphans()
	b.refresh(ctx)
	if err := b.session.SetSubscriptions(subscriptions(table)); err != nil {
		return b.reloaded(fmt.Errorf("subscriptions: %w", err)) // cannot be: mapping has looked at them
	}
	return b.reloaded(nil)
}

// ReloadFailed takes note of a configuration that could not be read, so that the old
// one stays in force.
func (b *Bridge) ReloadFailed(err error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	_ = b.reloaded(err)
}

func (b *Bridge) reloaded(err error) error {
	s := ReloadStatus{At: time.Now(), OK: err == nil}
	if was := b.reloads.Load(); was != nil {
		s.Count, s.LastOK = was.Count, was.LastOK
	}
	if err != nil {
		s.Error = err.Error()
	} else {
		s.Count++
		s.LastOK = s.At
	}
	b.reloads.Store(&s)
	return err
}

// lastReload is what became of the last configuration; the first is one.
func (b *Bridge) lastReload() ReloadStatus {
	s := ReloadStatus{OK: true}
	if r := b.reloads.Load(); r != nil {
		s = *r
	}
	if s.LastOK.IsZero() {
		s.LastOK = b.started
	}
	return s
}

// openEarly opens the sockets of new bindings, so that no message finds them shut.
// One with a source port of its own has to wait if a binding that ends has that.
func (b *Bridge) openEarly(ctx context.Context, next, before *parts) error {
	interfaces, err := b.options.network.Interfaces()
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	taken := make(map[uint16]bool)
	for _, o := range without(before.bindings, next.bindings) {
		taken[o.want.SourcePort] = o.want.SourcePort != 0
	}
	fresh := slices.DeleteFunc(without(next.bindings, before.bindings), func(o *binding) bool { return taken[o.want.SourcePort] })
	rebind(ctx, fresh, interfaces)
	return nil
}

// install puts parts to work in place of others. No message meets half of it: the
// send path stands still meanwhile, and so do the memberships that get other rules.
func (b *Bridge) install(next, before *parts) {
	b.receive.adopt(next, before)
	b.send.adopt(next, before)
	b.working.Store(next)
	b.receive.stir() // a rule that is back may have something on disk
}

// adopt takes the receive side of the parts over. What the rules of before hold back
// goes first; what comes until leave has closed their sockets still goes by them.
func (p *receivePath) adopt(next, before *parts) {
	for m, l := range next.listeners {
		if m.listeners.Load() != l {
			m.hearing.Lock()
			defer m.hearing.Unlock()
		}
	}
	for _, r := range without(before.receives, next.receives) {
		r.flush()
	}
	p.table.Store(next.table)
	for m, l := range next.listeners {
		m.listeners.Store(l)
	}
	for _, r := range next.receives {
		if r.detour != nil {
			r.detour.rule.Store(r)
		}
		r.seeLoops()
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

// seeLoops finds out anew which of the rule's topics come back.
func (r *receiveRule) seeLoops() {
	if r.hold == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, o := range r.outlets {
		o.echoes.Store(r.path.echoes(topic))
	}
}

// adopt takes the send side of the parts over, and what waits with it.
func (p *sendPath) adopt(next, before *parts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range before.sends {
		r.stale = true
	}
	p.table, p.rules = next.table, next.sends
	p.bequeath()
	waits := before.gather()
	next.relist()
	rules := make(map[string]*sendRule, len(next.sends))
	for _, r := range next.sends {
		rules[r.Name] = r
	}
	for i := range waits {
		p.requeue(&waits[i], rules[waits[i].leg.rule.Name])
	}
	for _, o := range next.bindings {
		o.mu.Lock()
		o.stow()
		o.wake()
		o.mu.Unlock()
	}
}

// bequeath keeps the routes for those of the next table to inherit of.
func (p *sendPath) bequeath() {
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

// inherit takes over what was known of the same topic under another table: what its
// rules have on disk, and what they sent last, if to the same group from the same
// source.
func (r *route) inherit(was *route) {
	for i := range r.legs {
		l := &r.legs[i]
		for j := range was.legs {
			o := &was.legs[j]
			if l.rule.Name != o.rule.Name {
				continue
			}
			l.newest = o.newest
			if l.flow != nil && o.flow != nil && l.flow.group == o.flow.group && l.flow.binding == o.flow.binding {
				l.last.Store(o.last.Load())
			}
		}
	}
}

// gather takes out what waits in memory, and forgets what is on disk.
func (p *parts) gather() (all []waiting) {
	for _, o := range p.bindings {
		o.mu.Lock()
		for !o.queue.empty() {
			if w := o.queue.pop(); !w.gone {
				all = append(all, w)
			}
		}
		for _, r := range o.backlog {
			r.disk.listed = false
		}
		o.backlog = nil
		o.mu.Unlock()
	}
	return all
}

// relist tells each binding how many rules it has, and which of them have something
// on disk.
func (p *parts) relist() {
	for _, o := range p.bindings {
		o.mu.Lock()
		o.rules = 0
		o.mu.Unlock()
	}
	for _, r := range p.sends {
		o := r.binding
		o.mu.Lock()
		o.rules++
		if r.disk != nil && r.disk.Len() > 0 {
			o.list(r)
			o.behind = true
		}
		o.mu.Unlock()
	}
}

// requeue has what waits go where its rule, as it is now, sends it; r is nil if
// there is none of that name. Callers hold the path's mu.
func (p *sendPath) requeue(w *waiting, r *sendRule) {
	o := w.leg.rule.binding
	var to *leg
	if r != nil {
		to = p.leg(r, []byte(w.leg.route.topic))
	}
	if to != nil && to.flow != nil {
		o = to.flow.binding
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case to == nil:
		o.giveUp(w, DropRemoved, nil)
	case to.flow == nil:
		o.giveUp(w, DropBadGroup, to.err)
	case o.socket == nil && !r.outlasts(w.holding != nil):
		o.giveUp(w, DropPending, errors.New(o.reason))
	default:
		if o.socket == nil {
			o.supersede(to)
		}
		w.leg, w.group = to, to.flow.group
		to.place = o.queue.push(*w) + 1
	}
}

// leave ends what the next parts have no use for.
func (p *parts) leave(next *parts) {
	for _, o := range without(p.bindings, next.bindings) {
		o.stop()
	}
	for _, m := range p.memberships {
		if next.listeners[m] == nil {
			m.stop()
			m.hearing.Lock() // what it has read already is heard by now, or by nobody
			m.listeners.Store(new(listeners))
			m.hearing.Unlock()
		}
	}
	for _, r := range without(p.receives, next.receives) {
		r.flush()
		r.forget()
	}
	for _, d := range without(p.detours, next.detours) {
		d.retire()
	}
}

// discard ends what was opened for parts that are not put to work.
func (p *parts) discard(before *parts) {
	for _, o := range without(p.bindings, before.bindings) {
		o.stop()
	}
}

// subscriptions are those that a table needs.
func subscriptions(table *mapping.Table) []session.Subscription {
	wanted := table.Subscriptions()
	subs := make([]session.Subscription, len(wanted))
	for i, sub := range wanted {
		subs[i] = session.Subscription(sub)
	}
	return subs
}
