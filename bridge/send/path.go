package send

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/tap"
	"topicast/mapping"
)

// Path carries messages to the network. The way of a message, in the order of the
// functions below; all of it on the goroutine that read the message from the broker.
//
//	session ──batch──▶ 1 handle
//	                     2 route    the topic's targets, one a rule: remembered, or asked of the table
//	                     3 gather   when, retained policy, loop guard, payload, size; the datagram joins its flow
//	                   4 flush    each binding's datagrams, flow after flow, in one call to the
//	                     │  │       kernel; then: was there a carrier to carry them? (transmit.go)
//	                     │  └─ what the kernel cannot take now has to wait (wait.go)
//	                   5 the session acknowledges every message of which nothing waits
//
// A message is not acknowledged while a datagram of it waits in memory; whoever settles the
// last one, or knows it safe on disk, releases it. A dropped datagram is settled: it is
// counted, and what can never leave must not keep the broker from going on.
type Path struct {
	log          *slog.Logger
	tap          *tap.Tap
	isDisabled   func(name, common string) *account.Disabled
	follower     account.Follower // itself, or nil without a tap
	lastSent     *lastsent.Store
	budget       *account.MemBudget
	again        *account.MemBudget                                                // for datagrams that are kept to be sent again
	asked        *account.MemBudget                                                // for outstanding requests
	askedHosts   atomic.Int32                                                      // that the kernel is resolving (asking.go)
	answerOutbox answerOutbox                                                      // answers to be published (publishanswers.go)
	deadLetters  func(rule string, m *session.Publication, why error, kept func()) // is given those that the broker does not take; nil: nobody is
	own          *loopguard.OwnAddresses
	guard        *loopguard.DedupCache // nil: off
	spill        *spill.Queues         // nil: there is no spool
	repeats      bool                  // the broker repeats what was not acknowledged

	lookPatience time.Duration // the constant, except in tests
	diskPatience time.Duration // likewise

	open    func(multicast.Source) (Sender, error)
	lookNow func() // asks for a look at the interfaces
	settled *account.Signal
	granted func(id uint32) bool
	refused func(i int, err error) // refuse, made once: a method value made per call would be an allocation per call

	// Read and written by anybody.
	noRule          atomic.Uint64 // messages that matched no rule
	removed         account.Removed[sendTotals, *sendTotals]
	finished        atomic.Uint64     // batches
	refreshed       atomic.Uint64     // bindings compared with the interfaces
	needsRedelivery atomic.Bool       // the broker is to repeat messages: there was no room
	pacedHeld       atomic.Int64      // messages that wait unacknowledged in memory for their rule's rate
	unstored        atomic.Bool       // the disk has turned something away that is still to go there
	answered        atomic.Bool       // the disk has taken something since a batch had waited for it in vain
	latency         account.Histogram // from handed over by the session to taken by the kernel
	working         atomic.Pointer[Generation]
	roomAgain       chan struct{} // holds one: there is room for what the broker is to repeat

	// Used by the goroutine of watch.go alone.
	repeatFrom time.Time // the broker is not to repeat messages before
	inspected  int       // number of the binding that inspect asks next

	mu           sync.Mutex // one batch at a time; it guards the rest
	logsEach     bool       // log.level is debug: each datagram is logged; a reload may change it
	table        *mapping.Table
	rules        []*Rule
	flushes      uint64            // counts them, and the batches
	began        time.Time         // of this batch
	at           int64             // the same, as a moment
	patience     time.Duration     // how long this batch may still wait for the disk; once used up, 0 until the disk has answered
	batch        []session.Message // the batch itself
	topics       topics
	targets      []mapping.Target       // scratch of route
	pendingAcks  map[int32]*pendingAck  // messages of the current batch with a datagram in a queue
	came         []*Rule                // rules to which messages have come since the last flush
	gathered     []datagram             // not flushed yet
	dirty        []*binding             // bindings that these leave through
	check        multicast.AddressCheck // of what they have sent in this flush
	paced        []datagram             // of rules with a rate, to be queued by flush
	decoded      []byte                 // decoded payloads of these
	copies       map[copyKey][]byte     // of what has to wait of these
	staleEntries []*lastsent.Entry      // entries of lastSent's file that are wrong once these leave
	out          []multicast.Datagram   // scratch of flush: what leaves through one binding,
	meta         []*datagram            // and what is known of each, in gathered
	asideOut     []multicast.Datagram   // those of them for hosts that do not answer
	asideMeta    []*datagram
}

// datagram is one that a message of the current batch asks for.
type datagram struct {
	payload     []byte
	target      *routeTarget
	fingerprint uint64 // of its message's payload, where it was asked for; 0: it was not, or that is empty
	message     int32  // index in the batch
	next        int32  // number, from 1, in gathered of the next one of its flow; 0: there is none
	broadcasts  bool   // it may go to a broadcast address
	dropped     bool
}

// One message may go to thousands of groups, and there are thousands of messages in a batch:
// what was gathered is flushed when it is as much, and what follows is gathered anew.
const (
	maxGathered = 8192    // datagrams
	maxDecoded  = 1 << 20 // bytes of decoded payloads
)

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

	// Granted reports whether the broker has granted a subscription with an identifier.
	Granted func(id uint32) bool

	Tap *tap.Tap // is told what becomes of messages; nil: nobody is

	// Disabled says of a rule, by its name and that which it has in the configuration, whether it is
	// switched off, when a generation is built; nil: none is.
	Disabled func(name, common string) *account.Disabled

	// Refused is given answers that the broker does not take, as that of receive.Options is given
	// messages; nil: nobody is.
	Refused func(rule string, m *session.Publication, why error, kept func())
}

// New makes a send side without rules; Build and Activate give it those of a table.
func New(o Options) *Path {
	p := &Path{
		log: o.Log, tap: o.Tap, lastSent: o.LastSent, own: o.Own, guard: o.Guard, repeats: o.Repeats,
		open: o.Open, lookNow: o.LookNow, settled: o.Settled, granted: o.Granted, deadLetters: o.Refused,
		budget: o.Budget, again: account.NewMemBudget(maxKeptBytes), asked: account.NewMemBudget(maxRequestBytes),
		lookPatience: lookPatience, diskPatience: diskPatience, patience: diskPatience,
		topics: newTopics(), pendingAcks: make(map[int32]*pendingAck), roomAgain: make(chan struct{}, 1),
	}
	if o.Spool != nil {
		p.spill = spill.New(spill.Options{Spool: o.Spool, Log: o.Log, MaxAge: o.MaxAge, Kinds: []string{spill.Sent}, Losses: p.removed.Losses})
	}
	if p.isDisabled = o.Disabled; p.isDisabled == nil {
		p.isDisabled = func(string, string) *account.Disabled { return nil }
	}
	p.refused = p.refuse
	if p.tap != nil {
		p.follower, p.removed.Follow = p, p
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

// Refreshed is how often a binding was compared with the interfaces.
func (p *Path) Refreshed() uint64 { return p.refreshed.Load() }

// Handle carries a batch as far as it goes now. When it returns, the batch's
// memory is the session's again.
func (p *Path) Handle(batch []session.Message) {
	began := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushes++ // what was restored from the disk since then belongs to another flush
	p.began, p.at = began, account.MomentOf(began)
	if p.patience > 0 || p.answered.Load() {
		p.patience = p.diskPatience
	}
	p.batch = batch
	p.logsEach = p.log.Enabled(context.Background(), slog.LevelDebug)
	for i := range batch {
		r := p.route(&batch[i])
		for j := range r.targets {
			if ids := r.targets[j].rule.subscriptions; ids != nil && !batch[i].Meant(ids, p.granted) {
				continue
			}
			p.gather(&batch[i], int32(i), &r.targets[j])
			if len(p.gathered)+len(p.paced) >= maxGathered || len(p.decoded) >= maxDecoded {
				p.flush(batch)
			}
		}
	}
	p.flush(batch)
	for i, a := range p.pendingAcks {
		// The batch itself was counted as one reason to wait, so that a queue
		// that empties meanwhile cannot release a message still being flushed.
		batch[i].Hold = !a.settle()
	}
	clear(p.pendingAcks)
	p.batch = nil
	p.finished.Add(1)
}

// route finds the targets of the topic of a message.
func (p *Path) route(m *session.Message) *route {
	r := p.lookup(m.Topic)
	if len(r.targets) > 0 {
		return r
	}
	p.reportNoRule(m)
	if p.noRule.Add(1) == 1 {
		p.log.Warn("no rule matches this message; if no rule ever did, the broker still keeps a subscription of an earlier configuration in this session",
			"topic", r.topic, "reason", account.ReasonNoRule.String())
	}
	return r
}

// gather decides whether a message goes to a target, and prepares its datagram.
func (p *Path) gather(m *session.Message, i int32, t *routeTarget) {
	rule := t.rule
	if rule.came++; rule.came == 1 {
		p.came = append(p.came, rule)
	}
	fingerprint := uint64(0)
	if rule.Retained == mapping.RetainedOnce && (m.Retain || p.lastSent.OnDisk()) { // else only the last one's is needed: see layLate
		fingerprint = p.fingerprint(rule, m.Payload)
	}
	switch {
	case t.when != nil && !m.Oversize && !t.when.takes(rule, m):
		t.filter(account.ReasonWhen, m.Payload, p.began)
		return
	case t.flow == nil && t.each != nil && !m.Oversize:
		if t = p.aim(m, t); t == nil {
			return
		}
	}
	switch {
	case m.Retain && (rule.Retained == mapping.RetainedNever || p.knows(t, m, fingerprint)):
		t.drop(account.ReasonRetained, m.Payload, p.began, nil)
		return
	case t.flow == nil && t.each == nil:
		t.drop(badTarget(t.rule), m.Payload, p.began, t.err)
		return
	case m.Oversize:
		t.drop(account.ReasonOversize, m.Payload, p.began, multicast.ErrTooLong)
		return
	case rule.guard != nil && t.flow.made(rule.guard, m, p.began):
		t.drop(account.ReasonLoop, m.Payload, p.began, nil)
		return
	}
	payload, empty, err := m.Payload, len(m.Payload) == 0, error(nil)
	if rule.makesPayloads {
		payload, p.decoded, empty, err = rule.Datagram(p.decoded, m.Payload)
	}
	switch {
	case empty && rule.DropEmpty:
		p.leaveOut(t, m, i)
		return
	case err != nil:
		if empty && rule.SendsAgain() {
			p.flush(p.batch) // what came before
			p.clearKept(t)
		}
		t.drop(account.ReasonBadPayload, m.Payload, p.began, err)
		return
	}
	p.prepare(t, i, fingerprint)
	if rule.guard != nil {
		t.flow.remember(rule.guard, payload, p.began)
	}
	if rule.paced() {
		p.paced = append(p.paced, datagram{payload: payload, target: t, fingerprint: fingerprint, message: i})
		return
	}
	p.gathered = append(p.gathered, datagram{payload: payload, target: t, fingerprint: fingerprint, message: i, broadcasts: rule.broadcasts})
	p.join(t.flow, int32(len(p.gathered)))
}

// join puts the last one gathered, which has that number, behind those of its flow.
func (p *Path) join(f *flow, number int32) {
	if f.first != 0 {
		p.gathered[f.last-1].next, f.last = number, number
		return
	}
	f.first, f.last, f.next = number, number, nil
	b := f.binding
	if b.firstFlow == nil {
		p.dirty = append(p.dirty, b)
		b.firstFlow = f
	} else {
		b.lastFlow.next = f
	}
	b.lastFlow = f
}

// leaveOut filters a message whose datagram would be empty. It counts as the last one
// sent all the same, so that after a clear the value that came before it is new.
func (p *Path) leaveOut(t *routeTarget, m *session.Message, i int32) {
	t.filter(account.ReasonEmpty, m.Payload, p.began)
	if t.sent != nil && t.flush == p.flushes || t.rule.SendsAgain() {
		p.flush(p.batch) // what came before
	}
	if t.rule.SendsAgain() {
		p.clearKept(t)
	}
	p.prepare(t, i, lastsent.Untold)
	if t.sent != nil {
		p.lay(t, lastsent.Untold)
		t.took(lastsent.Untold)
	}
}

// flush sends what was gathered, one binding after the other.
func (p *Path) flush(batch []session.Message) {
	p.countReceived()
	p.forgetStale()
	p.check = multicast.AddressCheck{}
	for _, b := range p.dirty {
		p.arrange(b)
		p.send(b, batch)
		clear(p.meta) // keeps no message alive
		clear(p.out)
		p.meta, p.out = p.meta[:0], p.out[:0]
	}
	if len(p.paced) > 0 {
		p.queuePaced(batch)
	}
	clear(p.gathered)
	p.gathered, p.dirty, p.decoded = p.gathered[:0], p.dirty[:0], p.decoded[:0]
	clear(p.copies)
	p.flushes++
}

// countReceived counts what has come to each rule.
func (p *Path) countReceived() {
	for _, r := range p.came {
		r.received.Add(uint64(r.came))
		r.LastReceived.Put(p.at)
		r.came = 0
	}
	clear(p.came)
	p.came = p.came[:0]
}

// arrange puts what was gathered for a binding into out and meta, flow after flow, so that
// equal datagrams to one target follow each other.
func (p *Path) arrange(b *binding) {
	for f := b.firstFlow; f != nil; f = f.next {
		for n := f.first; n != 0; {
			d := &p.gathered[n-1]
			p.out = append(p.out, multicast.Datagram{To: f.to, Payload: d.payload, Broadcast: d.broadcasts})
			p.meta = append(p.meta, d)
			n = d.next
		}
		f.first, f.last = 0, 0
	}
	b.firstFlow, b.lastFlow = nil, nil
}

// send sends what leaves through a binding, and queues what cannot leave now.
func (p *Path) send(b *binding, batch []session.Message) {
	if !b.mu.TryLock() {
		b.mu.Lock()
		p.check = multicast.AddressCheck{} // that took a while
	}
	defer b.mu.Unlock()
	n := 0
	if b.socket != nil && b.allPaced() && !b.needsRedelivery.Load() {
		var err error
		ready := len(p.out)
		if b.want.Host {
			ready = p.setAside(b, batch)
		}
		if b.counters.used {
			for i := range p.meta[:ready] {
				b.counters.number(i, p.meta[i].target.rule)
			}
		}
		n, err = b.transmit(&p.check, p.out[:ready], acknowledged(p.meta[:ready], batch), nil, p.refused)
		p.latency.Observe(time.Since(p.began), uint64(p.countTaken(p.meta[:n])))
		if p.logsEach {
			p.logSent(b, n)
			p.check = multicast.AddressCheck{} // likewise
		}
		if p.tap.On() {
			p.reportSent(b, n)
		}
		doubt(p.meta[:b.doubtful])
		if b.kept.used {
			b.keepFresh(p.meta[:n], batch, p.began)
		}
		if err != nil {
			b.stalled(err)
		}
	}
	if n < len(p.meta) {
		p.check = multicast.AddressCheck{} // the disk may take a while
	}
	for i := range p.meta[n:] {
		d := p.meta[n+i]
		if d.dropped {
			continue // counted, though what was beside it is to be sent again
		}
		p.layLate(d)
		m := &batch[d.message]
		b.enqueue(p.out[n+i].To, d, m, p.began, p.ackOf(d.message, m))
	}
	b.wake()
}

// setAside puts last what is for hosts that do not answer, and says how much is before it. Callers
// hold the binding's mu.
func (p *Path) setAside(b *binding, batch []session.Message) (ready int) {
	now := p.began
	for i := range p.out {
		d := p.meta[i]
		r := d.target.rule
		h := b.hostOf(r, p.out[i].To.Addr())
		behind := h != nil && h.aside == p.flushes // what comes after one that is set aside waits behind it
		if !behind && !h.hasWaiting() {
			fresh := leaving{r, h, d.target.route.topic, p.out[i].To, d.payload, r.waitsForHost(batch[d.message].QoS > 0), nil}
			if o, _ := b.ready(&fresh, now); o == noObstacle {
				p.out[ready], p.meta[ready] = p.out[i], d
				ready++
				continue
			}
		}
		h.aside = p.flushes
		p.asideOut, p.asideMeta = append(p.asideOut, p.out[i]), append(p.asideMeta, d)
	}
	if len(p.asideOut) > 0 {
		copy(p.out[ready:], p.asideOut)
		copy(p.meta[ready:], p.asideMeta)
		clear(p.asideOut)
		clear(p.asideMeta)
		p.asideOut, p.asideMeta = p.asideOut[:0], p.asideMeta[:0]
	}
	return ready
}

// refuse is called by Send for a datagram that can never leave.
func (p *Path) refuse(i int, err error) {
	p.meta[i].dropped = true
	p.check = multicast.AddressCheck{} // to log it may take a while
	p.meta[i].target.drop(reasonOf(err), p.meta[i].payload, p.began, err)
}

// acknowledged reports whether any of the datagrams is of a message that is.
func acknowledged(ds []*datagram, batch []session.Message) bool {
	for i := range ds {
		if batch[ds[i].message].QoS > 0 {
			return true
		}
	}
	return false
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
