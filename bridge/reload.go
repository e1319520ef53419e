package bridge

import (
	"context"
	"errors"
	"fmt"
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

// runContext is what the goroutines of a generation run with.
type runContext struct {
	ctx             context.Context
	drains, readers *sync.WaitGroup
}

// attach lets generations run with w; nil: no more of them.
func (b *Bridge) attach(w *runContext) {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	b.running = w
	if w != nil {
		b.current().attach(w)
	}
}

func (g *generation) attach(w *runContext) {
	g.send.Attach(w.ctx, w.drains)
	g.receive.Attach(w.readers)
}

// Reload puts another table to work while the bridge runs. What both ask for in the
// same words goes on undisturbed: sockets stay open, groups joined, subscriptions
// as they are. What waits for a rule that is still there, by its name, goes where
// the new table sends it; what waits for one that is gone is dropped and counted.
// If it fails the old table stays in force.
func (b *Bridge) Reload(ctx context.Context, table *mapping.Table) error {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	if b.running == nil {
		return errors.New("the bridge is not running")
	}
	if err := b.replace(ctx, b.onHost(table)); err != nil {
		return b.reloaded(err)
	}
	b.forgetDisabled()
	if err := b.session.SetSubscriptions(b.subscriptions(table)); err != nil {
		return b.reloaded(fmt.Errorf("subscriptions: %w", err)) // cannot be: mapping has looked at them
	}
	return b.reloaded(nil)
}

// replace puts a table to work in place of the one that is. Callers hold reloadMu.
func (b *Bridge) replace(ctx context.Context, table *mapping.Table) error {
	before := b.current()
	next := b.build(table, before, b.diversions(table))
	next.attach(b.running)
	interfaces, err := b.options.network.interfaces()
	if err != nil {
		next.send.Abort(before.send)
		return fmt.Errorf("list the interfaces: %w", err)
	}
	b.send.OpenEarly(ctx, next.send, before.send, interfaces)
	b.lookMu.Lock()
	b.swap(next, before)
	before.send.RetireOld(next.send)
	before.receive.RetireOld(next.receive)
	b.lookMu.Unlock()
	b.logUnused()
	b.reconcile(ctx)
	return nil
}

// Table returns the rules that are in force, or nil before Run.
func (b *Bridge) Table() *mapping.Table { return b.current().table }

// ReloadFailed notes a configuration that could not be read, so that the old
// one stays in force.
func (b *Bridge) ReloadFailed(err error) {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
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

// Rejoin has the receive rules of a name leave their groups and join them again, soon, and returns
// the rules.
func (b *Bridge) Rejoin(name string) (rules []string, err error) {
	if rules, err = b.receive.JoinAnew(name); err == nil {
		b.log.Info("joins its groups anew, as it was asked to", "rule", name)
	}
	return rules, err
}

// swap puts a generation to work in place of another. No message meets half of it: the
// send path stands still meanwhile, and so do the memberships that get other rules.
func (b *Bridge) swap(next, before *generation) {
	b.budget.Divide(next.send.Sockets(), len(next.receive.Rules)+next.send.ExpectingAnswers())
	b.receive.Activate(next.table, next.receive, before.receive)
	b.send.Activate(next.send, before.send)
	b.working.Store(next)
}

// subscriptions are those that a table needs.
func (b *Bridge) subscriptions(table *mapping.Table) []session.Subscription {
	wanted := b.withoutDisabled(table, table.Subscriptions(b.receive.Told()...))
	subs := make([]session.Subscription, len(wanted))
	for i, sub := range wanted {
		subs[i] = session.Subscription(sub)
		subs[i].NoLocal = sub.NoLocal && b.receive.Guard() != nil // without a guard it is the user's wish that it comes
	}
	return subs
}
