package receive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// Path carries datagrams to the broker. The way of a datagram, in the order of the
// functions below; all of it on the one goroutine that reads the socket.
//
//	kernel ──batch──▶ 1 run              of a groupReader (reader.go): all that its socket has
//	                    2 handleBatch    our own datagrams go no further
//	                    3 sender         what is known of the sender: which rules take it, to which topics
//	                    4 carry          loop guard, on_change and every, breaker, payload
//	                    │  └─ what has to wait for its time (ratelimit.go, delay.go) comes back to step 4
//	                  5 publish          the batch, in one call to the session
//	                  6 Published, Lost  the session reports what became of it
//
// A membership is one group on one interface, so the order of each group and
// sender is kept by itself. Messages of QoS 1 and 2 count against queue.size from
// step 4 until the broker has them, or the disk (publishspool.go); those of QoS 0 never
// wait.
type Path struct {
	log       *slog.Logger
	publisher publisher
	own       *loopguard.OwnAddresses
	dedup     *loopguard.DedupCache // nil: the guard is off
	loops     loopguard.Options
	budget    *account.MemBudget
	spool     *spool.Spool  // nil: there is none
	spill     *spill.Queues // in it; nil likewise
	maxAge    time.Duration // what has waited longer in the spool is dropped; 0: no limit
	listen    func(multicast.ReceiverOptions, multicast.Interface) (Receiver, error)
	lookNow   func() // asks for a look at the interfaces
	settled   *account.Signal

	// Read and written by anybody.
	table     atomic.Pointer[mapping.Table]
	working   atomic.Pointer[Generation]
	numbers   atomic.Uint64 // of rules, so far
	topics    atomic.Int64  // remembered, of all rules
	online    atomic.Bool   // there is a connection to the broker
	pumpWake  chan struct{} // wakes the pump of the publish spools
	untrimmed atomic.Bool   // there may be copies that are not needed any more
	ending    atomic.Bool   // the session is about to end: what it asks for copies of is nowhere else then
	removed   account.Removed[receiveTotals, *receiveTotals]
	batches   chan *batch // that are not in use

	statesMu sync.Mutex // guards the rest
	pacing   pacing
	states   map[string]*topicState // by topic, at most maxTopics and those in use
}

// Options say what the receive side works with.
type Options struct {
	Log     *slog.Logger
	Budget  *account.MemBudget
	Own     *loopguard.OwnAddresses
	Loops   loopguard.Options
	Spool   *spool.Spool  // nil: there is none
	MaxAge  time.Duration // how long a message may wait there; 0: no limit
	Listen  func(multicast.ReceiverOptions, multicast.Interface) (Receiver, error)
	LookNow func()          // asks for a look at the interfaces
	Settled *account.Signal // told when the broker has something, or the disk
}

// New makes a receive side without rules; Build and Activate give it those of a table.
func New(o Options) *Path {
	p := &Path{
		log: o.Log, loops: o.Loops, budget: o.Budget, own: o.Own, lookNow: o.LookNow, settled: o.Settled, spool: o.Spool, maxAge: o.MaxAge, listen: o.Listen,
		batches: make(chan *batch, idleBatches), pumpWake: make(chan struct{}, 1),
	}
	if p.loops.Guard {
		p.dedup = loopguard.NewDedupCache(p.loops)
	}
	if o.Spool != nil {
		p.spill = spill.New(spill.Options{Spool: o.Spool, Log: o.Log, MaxAge: o.MaxAge, Kinds: []string{spill.Older, spill.Received}, Losses: p.removed.Losses})
	}
	p.working.Store(new(Generation))
	return p
}

// publisher is what the messages are handed to: the session.
type publisher interface{ PublishBatch([]session.Publication) }

// PublishTo says where the messages go. It is called once, before the first datagram.
func (p *Path) PublishTo(to publisher) { p.publisher = to }

// Removed are the accounts of rules that a reload has removed, by name; "" is that of all
// others.
func (p *Path) Removed() iter.Seq2[string, *account.Counters] { return p.removed.All() }

// Guard is the cache of the loop guard; nil: the guard is off.
func (p *Path) Guard() *loopguard.DedupCache { return p.dedup }

// GuardUsage is what the loop guard has in use; nil: it is off.
func (p *Path) GuardUsage() *loopguard.Usage {
	if p.dedup == nil {
		return nil
	}
	u := p.dedup.Usage()
	return &u
}

// Connected reports whether there is a connection to the broker.
func (p *Path) Connected() bool { return p.online.Load() }

// SetConnected is called when the connection to the broker is there, or has ended.
func (p *Path) SetConnected(is bool) {
	p.online.Store(is)
	if !is {
		for _, s := range p.working.Load().allSpools() {
			s.spillNow()
		}
	}
	p.WakePump()
}

// End is called when the session is about to end.
func (p *Path) End() { p.ending.Store(true) }

// returns reports whether a message on this topic comes back to us and is sent to a
// group again, by a rule on a cycle.
func (p *Path) returns(topic string) bool {
	table := p.table.Load()
	return slices.ContainsFunc(table.Lookup(topic, nil), func(t mapping.Target) bool { return table.SendLoops(t.Rule) })
}

// senderState is what is known of one sender, address and port, by one membership.
type senderState struct {
	source  netip.AddrPort
	digest  uint64 // loopguard.SourceDigest of its address
	actions []ruleAction
}

// ruleAction is what one rule does with the datagrams of a sender.
type ruleAction struct {
	rule  *Rule
	topic *ruleTopic     // nil: its datagrams go no further,
	why   account.Reason // for this reason
	err   error
}

// maxSenders bounds the senders that a membership remembers, and maxTopics the
// topics of all rules: beyond it they are forgotten, and found again at the next
// datagram. Senders that take a new port each time would else add up.
const (
	maxSenders = 1 << 10
	maxTopics  = 1 << 17
)

// arrival is what is known of a datagram beside its payload.
type arrival struct {
	mapping.Arrival
	on     int32  // index of the interface
	source uint64 // loopguard.SourceDigest of the sender's address
}

func (a *arrival) String() string {
	return fmt.Sprintf("from %s to %s on %s", a.Source, a.Group, a.Interface)
}

// batch is the memory of one step 2 to 5.
type batch struct {
	logsEach     bool // log.level is debug: each message is logged
	now          time.Time
	publications []session.Publication
	encoded      []byte
}

// idleBatches is how many are kept for the next to come, since thousands of
// sockets that are quiet share a few, and maxEncoded how many bytes each keeps.
const (
	idleBatches = 16
	maxEncoded  = 256 << 10
)

func (p *Path) newBatch() *batch {
	var b *batch
	select {
	case b = <-p.batches:
	default:
		b = new(batch)
	}
	b.now, b.logsEach = time.Now(), p.log.Enabled(context.Background(), slog.LevelDebug)
	return b
}

// handleBatch carries what a socket had.
func (r *groupReader) handleBatch(datagrams []multicast.Datagram) {
	r.batchMu.Lock()
	defer r.batchMu.Unlock()
	p, b := r.path, r.path.newBatch()
	r.takeRules()
	at := account.MomentOf(b.now)
	for _, rule := range r.lastListeners.rules {
		rule.received.Add(uint64(len(datagrams)))
		rule.LastReceived.Put(at)
	}
	for i := range datagrams {
		d := &datagrams[i]
		if p.own.Has(d.Source) {
			r.count(account.DropOwn, 1)
			continue
		}
		from := r.sender(d.Source)
		for j := range from.actions {
			action := &from.actions[j]
			a := r.arrival(from, b.now)
			switch {
			case action.topic == nil:
				action.rule.drop(action.why, &a, action.err)
			case action.rule.delay != nil:
				action.rule.delay.push(action.topic, d.Payload, &a, b)
			default:
				action.topic.carry(d.Payload, &a, b)
			}
		}
	}
	p.publish(b)
}

// takeRules takes notice of other rules than those of the last batch.
func (r *groupReader) takeRules() {
	if now := r.listeners.Load(); now != r.lastListeners {
		r.lastListeners, r.last = now, nil
		clear(r.senders)
	}
}

// count counts a loss of every rule that listens here.
func (m *membership) count(why account.Reason, n uint64) {
	for _, r := range m.listeners.Load().rules {
		r.Count(why, n)
	}
}

func (r *groupReader) arrival(from *senderState, now time.Time) arrival {
	return arrival{
		Arrival: mapping.Arrival{Group: r.Group, Source: from.source, Interface: r.name, At: now},
		on:      int32(r.at.Index),
		source:  from.digest,
	}
}

// sender finds what is known of a sender. A batch is often all of one.
func (r *groupReader) sender(source netip.AddrPort) *senderState {
	if r.last != nil && r.last.source == source {
		return r.last
	}
	s := r.senders[source]
	if s == nil {
		if len(r.senders) >= maxSenders {
			clear(r.senders)
		}
		s = &senderState{source: source, digest: loopguard.SourceDigest(source.Addr()), actions: make([]ruleAction, len(r.lastListeners.rules))}
		for i, rule := range r.lastListeners.rules {
			a := r.arrival(s, time.Time{})
			s.actions[i] = rule.action(&a)
		}
		r.senders[source] = s
	}
	r.last = s
	return s
}

// action finds out whether a rule takes the datagrams of a sender, and to where.
func (r *Rule) action(a *arrival) ruleAction {
	if !r.accepts(a.Source.Addr()) {
		return ruleAction{rule: r, why: account.DropSource}
	}
	topic, err := r.Topic.Append(nil, &a.Arrival, r.Name)
	if err != nil {
		return ruleAction{rule: r, why: account.DropBadTopic, err: err}
	}
	return ruleAction{rule: r, topic: r.topicFor(topic)}
}

func (r *Rule) accepts(source netip.Addr) bool {
	for _, p := range r.Sources {
		if p.Contains(source) {
			return true
		}
	}
	return len(r.Sources) == 0
}

// topicFor is a topic of a rule. Datagrams of several groups and senders may share one.
func (r *Rule) topicFor(topic []byte) *ruleTopic {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topics[string(topic)]; t != nil {
		return t
	}
	if r.path.topics.Load() >= maxTopics {
		r.path.release(r.topics)
		clear(r.topics)
	}
	t := &ruleTopic{rule: r, name: topic, seed: loopguard.Fingerprint(topic), state: r.path.state(topic, r)}
	t.returns.Store(r.delay != nil && r.path.returns(string(topic)))
	if r.topics == nil {
		r.topics = make(map[string]*ruleTopic)
	}
	r.topics[string(topic)] = t
	r.path.topics.Add(1)
	return t
}

// carry brings a datagram's payload to its topic, as far as the rule lets it. The
// payload may lie in a buffer that is used again.
func (t *ruleTopic) carry(payload []byte, a *arrival, b *batch) {
	r := t.rule
	if len(payload) == 0 && r.dropsEmpty() {
		r.Count(account.DropEmpty, 1)
		return
	}
	print := uint64(0)
	if r.OnChange || r.breaker.Limit > 0 {
		print = loopguard.Fingerprint(payload)
	}
	if r.paced() {
		t.limitRate(payload, print, a, b)
		return
	}
	t.pass(payload, print, a, b)
}

// pass is what carry does with a message whose time has come.
func (t *ruleTopic) pass(payload []byte, print uint64, a *arrival, b *batch) {
	if t.rule.breaker.Limit > 0 && !t.admitted(payload, print, a, b) {
		return
	}
	t.publish(payload, a, b)
}

// publish is the rest of the way of a message that nothing withholds.
func (t *ruleTopic) publish(payload []byte, a *arrival, b *batch) {
	if t.state.paced.Load() && !t.rule.paced() {
		t.note(payload, a, b)
		return
	}
	t.encode(payload, a, b)
}

// admitted reports whether the breaker lets a message go on now. It may withhold it,
// to publish it later.
func (t *ruleTopic) admitted(payload []byte, content uint64, a *arrival, b *batch) bool {
	r := t.rule
	content ^= t.seed
	print := content ^ a.source // the same payload of another source counts apart
	if test := t.test.Load(); test != nil && test.offer(payload, print, content, a, b.now) {
		return false
	}
	switch r.breaker.Admit(print, b.now) {
	case loopguard.Refused:
		r.failures.Add(1)
		r.Count(account.DropBreaker, 1)
		return false
	case loopguard.Suspected:
		if r.breaker.Certain {
			r.breaker.End(nil, nil, []uint64{print}, b.now)
			r.logLoop(t, a, b.now)
			r.Count(account.DropBreaker, 1)
			return false
		}
		r.path.flush(b) // what came before goes first
		return !t.startTest(payload, print, content, a, b.now)
	}
	return true
}

// encode makes a message of a datagram, for the session or the disk.
func (t *ruleTopic) encode(payload []byte, a *arrival, b *batch) {
	r := t.rule
	if !r.Encoding.Raw() {
		from := len(b.encoded)
		b.encoded = r.Encoding.Append(b.encoded, payload, &a.Arrival)
		// Should append have moved to a larger array, the earlier payloads stay
		// alive in the smaller one for as long as their publications point there.
		payload = b.encoded[from:len(b.encoded):len(b.encoded)]
	}
	if r.spool != nil && r.spool.offer(t, payload, a, b) {
		return
	}
	if r.QoS > 0 && !r.budget.Acquire(len(payload)) {
		r.failures.Add(1)
		r.dropFull(a)
		return
	}
	if t.returns.Load() {
		r.path.dedup.Add(loopguard.PublishedDigest(a.on, a.Group, t.name, payload), b.now)
	}
	b.publications = append(b.publications, session.Publication{Topic: t.name, Payload: payload, QoS: r.QoS, Retain: r.Retain, Origin: r})
	if b.logsEach {
		r.Log.Debug("published", "rule", r.Name, "topic", string(t.name), "group", a.Group, "source", a.Source,
			"interface", a.Interface, "bytes", len(payload))
	}
}

// publish hands a batch to the session, which copies what it keeps.
func (p *Path) publish(b *batch) {
	p.flush(b)
	b.encoded = b.encoded[:0]
	if cap(b.encoded) > maxEncoded {
		b.encoded = nil
	}
	select {
	case p.batches <- b:
	default:
	}
}

// flush hands over what a batch has so far.
func (p *Path) flush(b *batch) {
	if len(b.publications) > 0 {
		p.publisher.PublishBatch(b.publications)
		clear(b.publications)
		b.publications = b.publications[:0]
	}
}

// Published implements session.Origin: the broker has the next n messages.
func (r *Rule) Published(n, bytes int) {
	r.published.Add(uint64(n))
	r.releaseBudget(n, bytes)
	r.path.settled.Notify()
}

// Lost implements session.Origin: the next n messages will not reach the broker.
func (r *Rule) Lost(n, bytes int, err error) {
	r.releaseBudget(n, bytes)
	r.unpublished(n, err)
	r.path.settled.Notify()
}

// Rescue implements session.Rescuer.
func (r *Rule) Rescue(m *session.Publication) (session.Origin, bool) {
	if r.spool == nil {
		return r, true
	}
	return r.spool.rescue(m, r)
}

// unpublished counts messages that the session has given up.
func (r *Rule) unpublished(n int, err error) {
	r.failures.Add(1)
	why := account.DropOffline
	if errors.Is(err, session.ErrStopped) {
		why = account.DropStopped
		if r.spool != nil && r.spool.full.Load() { // it was to go there
			why, err = account.DropSpoolFull, spool.ErrFull
		}
	}
	if r.Count(why, uint64(n)) {
		r.LogFirst(r.Name, why, "topic", r.Topic.String(), err)
	}
}

func (r *Rule) releaseBudget(n, bytes int) {
	if r.QoS > 0 {
		r.budget.Release(n, bytes)
	}
}
