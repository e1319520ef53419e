package send

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/mapping"
)

// Path carries messages to the network. The way of a message, in the order of the
// functions below; all of it on the goroutine that read the message from the broker.
//
//	session ──batch──▶ 1 handle
//	                     2 route    the topic's targets, one a rule: remembered, or asked of the table
//	                     3 gather   retained policy, loop guard, payload, size; the datagram joins its flow
//	                   4 flush    a binding's datagrams, flow after flow, in one call to the kernel;
//	                     │  │       then: was there a carrier to carry them? (transmit.go)
//	                     │  └─ what the kernel cannot take now has to wait (wait.go)
//	                   5 the session acknowledges every message of which nothing waits
//
// A message is not acknowledged while a datagram of it waits in memory; whoever settles the
// last one, or knows it safe on disk, releases it. A dropped datagram is settled: it is
// counted, and what can never leave must not keep the broker from going on.
type Path struct {
	log      *slog.Logger
	lastSent *lastsent.Store
	budget   *account.MemBudget
	own      *loopguard.OwnAddresses
	guard    *loopguard.DedupCache // nil: off
	spill    *spill.Queues         // nil: there is no spool
	repeats  bool                  // the broker repeats what was not acknowledged
	open     func(multicast.Source) (Sender, error)
	lookNow  func() // asks for a look at the interfaces
	settled  *account.Signal

	// Read and written by anybody.
	noRule          atomic.Uint64 // messages that matched no rule
	removed         account.Removed[sendTotals, *sendTotals]
	finished        atomic.Uint64     // batches
	refreshed       atomic.Uint64     // bindings held against the interfaces
	needsRedelivery atomic.Bool       // the broker is to repeat messages: there was no room
	unstored        atomic.Bool       // the disk has turned something away that is still to go there
	latency         account.Histogram // from handed over by the session to taken by the kernel
	working         atomic.Pointer[Generation]
	roomAgain       chan struct{} // holds one: there is room for what the broker is to repeat

	// Of the goroutine that does what is done now and then (watch.go).
	repeatFrom time.Time // the broker is not to repeat messages before
	inspected  int       // number of the binding that inspect asks next

	mu           sync.Mutex // one batch at a time; it guards the rest
	logsEach     bool       // log.level is debug: each datagram is logged; a reload may change it
	table        *mapping.Table
	rules        []*Rule
	batches      uint64    // how many there were, this one included
	began        time.Time // of this batch
	at           int64     // the same, as a moment
	routes       map[string]*route
	flows        map[flowKey]*flow
	targets      []mapping.Target      // scratch of route
	decoded      []byte                // decoded payloads of the current batch
	dirty        []*binding            // bindings with gathered datagrams
	pendingAcks  map[int32]*pendingAck // messages of the current batch with a datagram in a queue
	staleEntries []*lastsent.Entry     // what is no longer so in lastSent's file, once the current batch leaves
}

// maxRoutes bounds the topics remembered: beyond it all are forgotten, and the next
// message of each topic asks the table again.
const maxRoutes = 1 << 17

// route is what is known of one topic.
type route struct {
	topic   string
	targets []routeTarget
}

// routeTarget is one rule's part in a route.
type routeTarget struct {
	rule  *Rule
	route *route
	flow  *flow // nil where the template yields no group
	err   error // why there is no group
	// For "retained: once". Only what the kernel took counts as sent: what waits
	// may yet be lost with this process, and then its repetition must not have
	// been acknowledged.
	sent     *lastsent.Entry // nil: the rule does not ask, or there is no group
	prepared uint64          // print of the last payload prepared, in
	batch    uint64          // this batch
	// For "on_down: latest", under the binding's mu.
	place uint64 // number, from 1, of its last datagram in the binding's queue
}

// drop counts what was to be sent as lost.
func (t *routeTarget) drop(why account.Reason, err error) { t.rule.drop(why, t.route.topic, err) }

// took notes what the kernel took.
func (t *routeTarget) took(print uint64) {
	if t.sent != nil {
		t.rule.binding.path.lastSent.Sent(t.sent, print)
	}
}

// delayed notes that a datagram of the target has to wait. Callers hold the path's mu.
func (t *routeTarget) delayed() {
	if t.sent == nil {
		return
	}
	if t.rule.waitsFunc == nil {
		t.rule.waitsFunc = t.rule.waits
	}
	t.sent.Delay(&t.rule.waitsFunc)
}

// knows reports whether a payload is that which was sent last, or lies ready in this
// batch.
func (t *routeTarget) knows(print, batch uint64) bool {
	switch {
	case t.sent == nil || print == 0:
		return false
	case t.batch == batch:
		return t.prepared == print
	}
	return t.sent.Was(print)
}

// flow is what goes to one group through one binding: its datagrams keep their order.
type flow struct {
	group   netip.AddrPort
	binding *binding
	batch   []datagram
}

type flowKey struct {
	group   netip.AddrPort
	binding *binding
}

// datagram is one that a message of the current batch asks for.
type datagram struct {
	payload []byte
	target  *routeTarget
	print   uint64 // its fingerprint, where the rule asks for it
	message int32  // index in the batch
	dropped bool
}

// Options say what the send side works with.
type Options struct {
	Log      *slog.Logger
	LastSent *lastsent.Store
	Budget   *account.MemBudget
	Own      *loopguard.OwnAddresses
	Guard    *loopguard.DedupCache // nil: the loop guard is off
	Spool    *spill.Spool          // nil: there is none
	MaxAge   time.Duration         // how long what no rule uses may wait there; 0: no limit
	Repeats  bool                  // the broker repeats what was not acknowledged
	Open     func(multicast.Source) (Sender, error)
	LookNow  func()          // asks for a look at the interfaces
	Settled  *account.Signal // told when something has left, or is on disk
}

// New makes a send side without rules; Build and Activate give it those of a table.
func New(o Options) *Path {
	p := &Path{
		log: o.Log, lastSent: o.LastSent, budget: o.Budget, own: o.Own, guard: o.Guard, repeats: o.Repeats,
		open: o.Open, lookNow: o.LookNow, settled: o.Settled,
		routes: make(map[string]*route), flows: make(map[flowKey]*flow), pendingAcks: make(map[int32]*pendingAck), roomAgain: make(chan struct{}, 1),
	}
	if o.Spool != nil {
		p.spill = spill.New(spill.Options{Spool: o.Spool, Log: o.Log, MaxAge: o.MaxAge, Kinds: []string{spill.Sent}, Losses: p.removed.Losses})
	}
	p.working.Store(new(Generation))
	return p
}

// Removed are the accounts of rules that a reload has removed, by name; "" is that of all
// others.
func (p *Path) Removed() iter.Seq2[string, *account.Counters] { return p.removed.All() }

// Unmatched is how many messages matched no rule.
func (p *Path) Unmatched() uint64 { return p.noRule.Load() }

// Latencies are from handed over by the session to taken by the kernel.
func (p *Path) Latencies() *account.Histogram { return &p.latency }

// Progress is how many batches were carried, and whether one is under way.
func (p *Path) Progress() (finished uint64, busy bool) {
	if busy = !p.mu.TryLock(); !busy {
		p.mu.Unlock()
	}
	return p.finished.Load(), busy
}

// Refreshed is how often a binding was held against the interfaces.
func (p *Path) Refreshed() uint64 { return p.refreshed.Load() }

// Handle carries a batch as far as it goes now. When it returns, the batch's
// memory is the session's again.
func (p *Path) Handle(batch []session.Message) {
	began := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches++
	p.began, p.at = began, account.MomentOf(began)
	p.logsEach = p.log.Enabled(context.Background(), slog.LevelDebug)
	for i := range batch {
		r := p.route(batch[i].Topic)
		for j := range r.targets {
			p.gather(&batch[i], int32(i), &r.targets[j])
		}
	}
	p.forgetStale()
	for _, b := range p.dirty {
		p.flush(b, batch, began)
	}
	p.dirty, p.decoded = p.dirty[:0], p.decoded[:0]
	for i, a := range p.pendingAcks {
		// The batch itself was counted as one reason to wait, so that a queue
		// that empties meanwhile cannot release a message still being flushed.
		batch[i].Hold = !a.settle()
	}
	clear(p.pendingAcks)
	p.finished.Add(1)
}

// route finds the targets of the topic of a message.
func (p *Path) route(topic []byte) *route {
	r := p.lookup(topic)
	if len(r.targets) == 0 && p.noRule.Add(1) == 1 {
		p.log.Warn("no rule matches this message; if no rule ever did, the broker still keeps a subscription of an earlier configuration in this session",
			"topic", r.topic, "reason", account.DropNoRule.String())
	}
	return r
}

// lookup finds what is known of a topic. Callers hold mu.
func (p *Path) lookup(topic []byte) *route {
	if r := p.routes[string(topic)]; r != nil { // no allocation: the compiler looks the bytes up in place
		return r
	}
	if len(p.routes) >= maxRoutes {
		clear(p.routes)
		clear(p.flows)
	}
	r := &route{topic: string(topic)}
	p.targets = p.table.Lookup(r.topic, p.targets[:0])
	r.targets = make([]routeTarget, len(p.targets))
	for i, found := range p.targets {
		rule := p.rules[found.Rule]
		t := &r.targets[i]
		t.rule, t.route, t.err = rule, r, found.Err
		if found.Err == nil {
			t.flow = p.flow(found.Group, rule.bindingFor(found.Group))
			if rule.Retained == mapping.RetainedOnce {
				t.sent = p.lastSent.Entry(rule.sentKey(r.topic, found.Group))
			}
		}
	}
	p.routes[r.topic] = r
	return r
}

func (p *Path) flow(group netip.AddrPort, b *binding) *flow {
	k := flowKey{group, b}
	f := p.flows[k]
	if f == nil {
		f = &flow{group: group, binding: b}
		p.flows[k] = f
	}
	return f
}

// gather decides whether a message goes to a target, and prepares its datagram.
func (p *Path) gather(m *session.Message, i int32, t *routeTarget) {
	rule := t.rule
	rule.received.Add(1)
	rule.LastReceived.Put(p.at)
	payload, print := m.Payload, uint64(0)
	if rule.Retained == mapping.RetainedOnce {
		print = lastsent.Print(payload)
	}
	switch {
	case m.Retain && (rule.Retained == mapping.RetainedNever || t.knows(print, p.batches)):
		t.drop(account.DropRetained, nil)
		return
	case t.flow == nil:
		t.drop(account.DropBadGroup, t.err)
		return
	case m.Oversize:
		t.drop(account.DropOversize, multicast.ErrTooLong)
		return
	case rule.guard != nil && t.flow.made(rule.guard, m, p.began):
		t.drop(account.DropLoop, nil)
		return
	}
	if rule.DropEmpty && len(payload) == 0 {
		p.leaveOut(t, print)
		return
	}
	if !rule.Payload.Raw() {
		from := len(p.decoded)
		decoded, err := rule.Payload.Decode(p.decoded, payload)
		if err != nil {
			t.drop(account.DropBadPayload, err)
			return
		}
		// Should append have moved to a larger array, the earlier payloads stay
		// alive in the smaller one for as long as their datagrams point there.
		p.decoded, payload = decoded, decoded[from:len(decoded):len(decoded)]
		if rule.DropEmpty && len(payload) == 0 {
			p.leaveOut(t, print)
			return
		}
	}
	p.prepare(t, print)
	f := t.flow
	if rule.guard != nil {
		f.remember(rule.guard, payload, p.began)
	}
	if len(f.batch) == 0 {
		if len(f.binding.flows) == 0 {
			p.dirty = append(p.dirty, f.binding)
		}
		f.binding.flows = append(f.binding.flows, f)
	}
	f.batch = append(f.batch, datagram{payload: payload, target: t, print: print, message: i})
}

// prepare notes that a payload goes to a target.
func (p *Path) prepare(t *routeTarget, print uint64) {
	t.prepared, t.batch = print, p.batches
	if t.sent != nil && p.lastSent.Lay(t.sent, print) {
		p.staleEntries = append(p.staleEntries, t.sent)
	}
}

// forgetStale has what is prepared noted on disk before it leaves.
func (p *Path) forgetStale() {
	if len(p.staleEntries) > 0 {
		p.lastSent.Forget(p.staleEntries)
		clear(p.staleEntries)
		p.staleEntries = p.staleEntries[:0]
	}
}

// leaveOut filters a message whose datagram would be empty. It counts as the last one
// sent all the same, so that after a clear the value of before is new.
func (p *Path) leaveOut(t *routeTarget, print uint64) {
	t.rule.Count(account.DropEmpty, 1)
	p.prepare(t, print)
	t.took(print)
}

// made reports whether a message is one that a receive rule has made of a datagram of
// this very flow's group, and that the broker hands back to us.
func (f *flow) made(guard *loopguard.DedupCache, m *session.Message, now time.Time) bool {
	return guard.TakeBack(loopguard.PublishedDigest(f.binding.ifIndex.Load(), f.group, m.Topic, m.Payload), now)
}

// remember has the receive direction know a datagram that another bridge sends
// too, because the broker gave it the same message.
func (f *flow) remember(guard *loopguard.DedupCache, payload []byte, now time.Time) {
	guard.Add(loopguard.SentDigest(f.binding.ifIndex.Load(), f.group, payload), now)
}

// flush sends what was gathered for a binding, flow after flow, so that equal
// datagrams to one group follow each other, and queues what cannot leave now.
func (p *Path) flush(b *binding, batch []session.Message, began time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.flows {
		for i := range f.batch {
			b.out = append(b.out, multicast.Datagram{Group: f.group, Payload: f.batch[i].payload})
		}
		b.meta = append(b.meta, f.batch...)
		clear(f.batch)
		f.batch = f.batch[:0]
	}
	b.flows = b.flows[:0]

	n := 0
	if b.socket != nil && b.queue.empty() && len(b.spooledRules) == 0 && !b.needsRedelivery.Load() {
		var err error
		n, err = b.transmit(b.out, acknowledged(b.meta, batch), nil, b.refused)
		p.latency.Observe(time.Since(began), uint64(countTaken(b.meta[:n], p.at)))
		if p.logsEach {
			p.logSent(b, n)
		}
		if err != nil {
			b.stalled(err)
		}
	}
	for i := range b.meta[n:] {
		d := &b.meta[n+i]
		if d.dropped {
			continue // counted, though what was beside it is to be sent again
		}
		m := &batch[d.message]
		b.enqueue(b.out[n+i].Group, d, m, began, p.ackOf(d.message, m))
	}
	b.wake()
	clear(b.meta) // keeps no message alive
	clear(b.out)
	b.meta, b.out = b.meta[:0], b.out[:0]
}

// acknowledged reports whether any of the datagrams is of a message that is.
func acknowledged(ds []datagram, batch []session.Message) bool {
	for i := range ds {
		if batch[ds[i].message].QoS > 0 {
			return true
		}
	}
	return false
}

// logSent logs each of the first n datagrams of a binding, for log.level debug.
func (p *Path) logSent(b *binding, n int) {
	for i := range b.meta[:n] {
		if d := &b.meta[i]; !d.dropped {
			p.log.Debug("sent", "rule", d.target.rule.Name, "topic", d.target.route.topic, "group", b.out[i].Group,
				"source", b.socket.LocalAddr(), "interface", b.source.Interface, "bytes", len(d.payload))
		}
	}
}

// countTaken counts datagrams the kernel took, a run of one rule at a time.
func countTaken(ds []datagram, at int64) (taken int) {
	for i := 0; i < len(ds); {
		rule, n, bytes := ds[i].target.rule, 0, 0
		for ; i < len(ds) && ds[i].target.rule == rule; i++ {
			if !ds[i].dropped {
				n++
				bytes += len(ds[i].payload)
				ds[i].target.took(ds[i].print)
			}
		}
		if n > 0 {
			rule.took(n, bytes, at)
		}
		taken += n
	}
	return taken
}

// ackOf is what keeps message i of the batch from being acknowledged.
// A QoS 0 message has nothing to acknowledge and none.
func (p *Path) ackOf(i int32, m *session.Message) *pendingAck {
	if m.QoS == 0 {
		return nil
	}
	a := p.pendingAcks[i]
	if a == nil {
		a = &pendingAck{ack: m.Ack}
		a.left.Store(1)
		p.pendingAcks[i] = a
	}
	return a
}

// pendingAck counts the datagrams of one message that wait in queues, and the batch
// that is still putting them there.
type pendingAck struct {
	left atomic.Int32
	ack  interface { // a session.Ack
		Done()
		Redeliver()
	}
}

// settle takes one off, and reports whether nothing is left.
func (a *pendingAck) settle() bool { return a.left.Add(-1) == 0 }
