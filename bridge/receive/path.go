package receive

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
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
	"topicast/bridge/tap"
	"topicast/mapping"
)

// Path carries datagrams to the broker. The way of a datagram, in the order of the
// functions below; all of it on the one goroutine that reads the socket.
//
//	kernel ──batch──▶ 1 run              of a groupReader (reader.go): all that its socket has
//	                    2 handleBatch    our own datagrams go no further
//	                    3 sender         what is known of the sender: which rules take it, to which topics
//	                                     (senders.go, topics.go)
//	                    4 carry          merge (merge.go), loop guard, on_change and every, breaker, payload
//	                    │  └─ what has to wait for its time (ratelimit.go, delay.go) comes back to step 4
//	                  5 publish          the batch, in one call to the session (batch.go)
//	                  6 Published, Lost  the session reports what became of it
//
// A membership is one group on one interface, so the order of each group and
// sender is kept by itself. Messages of QoS 1 and 2 count against queue.size from
// step 4 until the broker has them, or the disk (publishspool.go); those of QoS 0 never
// wait.
type Path struct {
	log        *slog.Logger
	tap        *tap.Tap
	isDisabled func(name, common string) *account.Disabled
	follower   account.Follower // itself, or nil without a tap
	publisher  publisher
	own        *loopguard.OwnAddresses
	dedup      *loopguard.DedupCache // nil: the guard is off
	loops      loopguard.Options
	budget     *account.MemBudget
	topicRoom  *account.MemBudget // for what is remembered of topics, a part for each rule
	inPayloads *account.MemBudget // for what is remembered of topics that stand in payloads, likewise
	senderRoom *account.MemBudget // for what is remembered of senders, a part for each membership
	mergeRoom  *account.MemBudget // for what is remembered for merge, a part for each rule that has it
	spool      *spill.Spool       // nil: there is none
	spill      *spill.Queues      // in it; nil likewise
	maxAge     time.Duration      // what has waited longer in the spool is dropped; 0: no limit
	listen     func(multicast.ReceiverOptions, multicast.Interface) (Receiver, error)
	joins      func() (multicast.Joins, error)
	lookNow    func() // asks for a look at the interfaces
	settled    *account.Signal
	status     string                                                            // the topic below which the states of rules are published; "": nowhere
	refused    func(rule string, m *session.Publication, why error, kept func()) // nil: nobody keeps it

	// Read and written by anybody.
	table     atomic.Pointer[tableInForce]
	working   atomic.Pointer[Generation]
	numbers   atomic.Uint64 // of rules, so far
	online    atomic.Bool   // there is a connection to the broker
	plain     atomic.Bool   // which is spoken to in MQTT 3.1.1, or was last
	pumpWake  chan struct{} // wakes the pump of the publish spools
	pumpFirst int           // of the pump: which of them is the first in the next round
	unspilled atomic.Bool   // the disk has turned something away that is still to go there
	discards  atomic.Bool   // something is to be discarded, as somebody asked for it
	untrimmed atomic.Bool   // there may be copies that are not needed any more
	ending    atomic.Bool   // the session is about to end: what it asks for copies of is nowhere else then
	removed   account.Removed[receiveTotals, *receiveTotals]
	batches   chan *batch // a free list

	wordless  atomic.Bool // the broker refuses the states of rules
	wordsMu   sync.Mutex
	goneWords []string // topics of rules that are gone

	pacings atomic.Uint64 // how often pacing has changed

	statesMu sync.Mutex // guards the rest
	pacing   pacing
	states   map[string]*topicState // by topic
	unused   int                    // of these, in use by no rule
}

// Options say what the receive side works with.
type Options struct {
	Log     *slog.Logger
	Budget  *account.MemBudget
	Own     *loopguard.OwnAddresses
	Loops   loopguard.Options
	Spool   *spill.Spool  // nil: there is none
	MaxAge  time.Duration // how long a message may wait there; 0: no limit
	Listen  func(multicast.ReceiverOptions, multicast.Interface) (Receiver, error)
	Joins   func() (multicast.Joins, error) // what is joined on this host; nil: not known
	LookNow func()                          // asks for a look at the interfaces
	Settled *account.Signal                 // notified when the broker, or the disk, has something
	Status  string                          // the topic below which the states of rules are published; "": nowhere
	Tap     *tap.Tap                        // is told what becomes of datagrams; nil: nobody is

	// Disabled says of a rule, by its name and that which it has in the configuration, whether it is
	// switched off, when a generation is built; nil: none is.
	Disabled func(name, common string) *account.Disabled

	// Refused is given messages that the broker does not take; nil: nobody is. It must not block. It
	// calls kept, unless that is nil, when the message is on disk or cannot be put there: until then a
	// copy of it stays in the spool.
	Refused func(rule string, m *session.Publication, why error, kept func())
}

// New makes a receive side without rules; Build and Activate give it those of a table.
func New(o Options) *Path {
	p := &Path{
		log: o.Log, tap: o.Tap, status: o.Status, settled: o.Settled, refused: o.Refused,
		loops: o.Loops, own: o.Own, budget: o.Budget, spool: o.Spool, maxAge: o.MaxAge,
		listen: o.Listen, joins: o.Joins, lookNow: o.LookNow,
		batches: make(chan *batch, idleBatches), pumpWake: make(chan struct{}, 1),
	}
	if p.isDisabled = o.Disabled; p.isDisabled == nil {
		p.isDisabled = func(string, string) *account.Disabled { return nil }
	}
	if p.tap != nil {
		p.follower, p.removed.Follow = p, p
	}
	if p.loops.Guard {
		p.dedup = loopguard.NewDedupCache(p.loops)
	}
	if o.Spool != nil {
		p.spill = spill.New(spill.Options{Spool: o.Spool, Log: o.Log, MaxAge: o.MaxAge, Kinds: []string{spill.Older, spill.Received}, Losses: p.removed.Losses})
	}
	p.topicRoom, p.senderRoom = account.NewMemBudget(maxTopicBytes), account.NewMemBudget(maxSenderBytes)
	p.inPayloads, p.mergeRoom = account.NewMemBudget(maxPayloadTopicBytes), account.NewMemBudget(maxMergeBytes)
	p.plain.Store(true) // until it is known
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

// SetConnected is called when the connection to the broker is there, or has ended. mqtt5: messages go with
// their properties, and subscriptions with their options.
func (p *Path) SetConnected(is, mqtt5 bool) {
	if is {
		if p.plain.Swap(!mqtt5) == mqtt5 {
			for _, r := range p.working.Load().Rules {
				r.refreshLoops()
			}
		}
		p.forgetTold()
	}
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
	table, plain := p.table.Load(), p.plain.Load()
	return slices.ContainsFunc(table.Lookup(topic, nil), func(t mapping.Target) bool {
		return table.SendLoops(t.Rule) && (plain || !table.noLocal[t.Rule])
	})
}

// tableInForce is the table, and for each send rule whether the broker, spoken to in MQTT 5, keeps from
// it what we publish (No Local).
type tableInForce struct {
	*mapping.Table
	noLocal []bool
}

// Told are the filters of the topics on which the states of the rules and of the session are published.
func (p *Path) Told() []string {
	if p.status == "" {
		return nil
	}
	return []string{p.status + "/#"}
}

// arrival is what is known of a datagram beside its payload.
type arrival struct {
	mapping.Arrival
	on     int32  // index of the interface
	source uint64 // loopguard.SourceDigest of the sender's address
	number uint64 // its number in the tap; 0: nobody watched as it came
	waited bool   // it has waited, and keeps the room in memory that it had
}

func (a *arrival) String() string {
	return fmt.Sprintf("from %s to %s on %s", a.Source, a.To, a.Interface)
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
			r.countOwn(d, b)
			continue
		}
		if r.host && d.To != r.to {
			r.turnTo(d.To)
		}
		from := r.sender(d.Source, at)
		number := p.tap.Number()
		for j := range from.actions {
			action := &from.actions[j]
			a := r.arrival(d.Source, from.digest, b.now)
			if number > 0 {
				a.number = number
				action.rule.reportHeard(&a, d.Payload)
			}
			switch {
			case action.topic == nil:
				action.rule.drop(action.why, nil, &a, d.Payload, action.err)
			case action.rule.merge != nil && action.rule.merge.isDuplicate(r, d.Source.Addr(), from.digest, action.seed, d.Payload, at):
				action.rule.lose(account.ReasonDuplicate, action.topic.knownName(), &a, d.Payload, nil)
			case action.rule.delay != nil:
				if !action.rule.inspectsPayload {
					action.rule.notice(at)
				}
				action.rule.delay.push(action.current(at), d.Payload, &a, b)
			case action.rule.inspectsPayload:
				action.current(at).look(d.Payload, &a, b)
			default:
				action.rule.notice(at)
				action.current(at).carry(d.Payload, &a, b)
			}
		}
	}
	p.publish(b)
}

// countOwn counts a datagram of our own for every rule that listens here.
func (r *groupReader) countOwn(d *multicast.Datagram, b *batch) {
	a := r.arrival(d.Source, 0, b.now)
	for _, rule := range r.listeners.Load().rules {
		rule.lose(account.ReasonOwn, nil, &a, d.Payload, nil)
	}
}

// carry brings a datagram's payload to its topic, as far as the rule lets it. The
// payload may lie in a buffer that is used again.
func (t *ruleTopic) carry(payload []byte, a *arrival, b *batch) {
	r := t.rule
	if len(payload) == 0 && r.dropsEmpty() {
		r.lose(account.ReasonEmpty, t.name, a, payload, nil)
		return
	}
	fingerprint := uint64(0)
	if r.OnChange || r.breaker.Limit > 0 {
		fingerprint = loopguard.Fingerprint(payload)
	}
	if r.paced() {
		t.limitRate(payload, fingerprint, a, b)
		return
	}
	t.pass(payload, fingerprint, a, b)
}

// pass brings a message whose time has come to its topic, unless the breaker is against it.
func (t *ruleTopic) pass(payload []byte, fingerprint uint64, a *arrival, b *batch) {
	if t.rule.breaker.Limit > 0 && !t.admitted(payload, fingerprint, a, b) {
		return
	}
	t.publish(payload, a, b)
}

// publish carries on with a message that nothing withholds.
func (t *ruleTopic) publish(payload []byte, a *arrival, b *batch) {
	if t.state != nil && t.state.paced.Load() && !t.rule.paced() {
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
	fingerprint := content ^ a.source // the same payload of another source counts apart
	t = t.underTest()
	if test := t.test.Load(); test != nil && test.offer(payload, fingerprint, content, a, b.now) {
		return false
	}
	switch r.breaker.Admit(fingerprint, b.now) {
	case loopguard.Refused:
		r.failures.Add(1)
		r.lose(account.ReasonBreaker, t.name, a, payload, nil)
		return false
	case loopguard.Suspected:
		if r.breaker.Certain {
			r.breaker.End(nil, nil, []uint64{fingerprint}, b.now)
			r.logLoop(t, a, b.now)
			r.lose(account.ReasonBreaker, t.name, a, payload, nil)
			return false
		}
		r.path.flush(b) // what came before goes first
		t = t.testable()
		withheld := t.startTest(payload, fingerprint, content, a, b.now)
		if !withheld {
			t.testOver()
		}
		return !withheld
	}
	return true
}

// encode makes a message of a datagram, for the session or the disk.
func (t *ruleTopic) encode(payload []byte, a *arrival, b *batch) {
	r := t.rule
	from := len(b.encoded)
	if from > 0 && from+r.roomFor(payload) > r.mostEncoded() {
		r.path.flush(b)
		from, b.encoded = 0, b.encoded[:0] // the session has copied what it keeps
	}
	if !r.Encoding.Raw() {
		b.encoded = r.Encoding.Append(b.encoded, payload, &a.Arrival)
		// Should append have moved to a larger array, the earlier payloads stay
		// alive in the smaller one for as long as their publications point there.
		payload = b.encoded[from:len(b.encoded):len(b.encoded)]
	}
	var properties []byte
	if r.bears {
		at := len(b.encoded)
		b.encoded = r.appendProperties(b.encoded, a)
		properties = b.encoded[at:len(b.encoded):len(b.encoded)]
	}
	if r.spool != nil && r.spool.offer(t, payload, properties, a, b) {
		b.encoded = b.encoded[:from] // likewise the spool
		return
	}
	if r.QoS > 0 && !r.acquire(len(t.name)+len(payload)+len(properties), a) {
		b.encoded = b.encoded[:from]
		r.failures.Add(1)
		r.dropFull(t.name, a, payload)
		return
	}
	if t.returns.Load() {
		r.path.dedup.Add(loopguard.PublishedDigest(a.on, a.To, t.name, payload), b.now)
	}
	r.report(tap.Published, t.name, a, payload, "", "")
	b.add(r.path, session.Publication{Topic: t.name, Payload: payload, QoS: r.QoS, Retain: r.Retain, Properties: properties, Origin: r, Queue: r.budget})
	if b.logsEach {
		to := "group"
		if !a.To.Addr().IsMulticast() {
			to = "destination"
		}
		r.Log.Debug("published", "rule", r.Name, "topic", string(t.name), to, a.To, "source", a.Source,
			"interface", a.Interface, "bytes", len(payload))
	}
}

// roomFor is about how many bytes a message takes of encoded at most, if its payload is not an unusual text.
func (r *Rule) roomFor(payload []byte) (n int) {
	if !r.Encoding.Raw() {
		n = 2 * len(payload)
	}
	if r.bears {
		n += propertiesSize
	}
	return n
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

// Refused implements session.Refuser.
func (r *Rule) Refused(m *session.Publication, why error) { r.refused(m, why, nil) }

// refused hands over a message that the broker does not take, to be kept as a dead letter. kept is called
// when its copy on disk can go; nil: there is none.
func (r *Rule) refused(m *session.Publication, why error, kept func()) {
	switch {
	case r.path.refused != nil:
		r.path.refused(r.Name, m, why, kept)
	case kept != nil:
		kept()
	}
}

// unpublished counts messages that the session has given up.
func (r *Rule) unpublished(n int, err error) {
	r.failures.Add(1)
	why := account.ReasonOffline
	switch {
	case errors.Is(err, session.ErrRefused):
		why = account.ReasonBrokerRefused
	case errors.Is(err, session.ErrStopped) && r.spool != nil && r.spool.full.Load(): // it was to go there
		why, err = account.ReasonSpoolFull, spool.ErrFull
	case errors.Is(err, session.ErrStopped):
		why = account.ReasonStopped
	}
	r.loseMany(why, uint64(n), "topic", r.Topic.String(), err)
}

func (r *Rule) releaseBudget(n, bytes int) {
	if r.QoS > 0 {
		r.budget.Release(n, bytes)
	}
}
