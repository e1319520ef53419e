package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// Multicast to MQTT. The way of a datagram, in the order of the functions below;
// all of it on the one goroutine that reads the socket.
//
//	kernel ──batch──▶ 1 run      of an ear (membership.go): all that its socket has
//	                    2 hear     our own datagrams go no further
//	                    3 remote   what is known of the sender: which rules take it, to which topics
//	                    4 carry    loop guard, on_change and every, breaker, payload
//	                    │  └─ what has to wait for its time (pace.go, hold.go) comes back to step 4
//	                  5 publish  the batch, in one call to the session
//	                  6 Published, Lost   the session tells what became of it
//
// A membership is one group on one interface, so the order of each group and
// sender is kept by itself. Messages of QoS 1 and 2 count against queue.size from
// step 4 until the broker has them, or the disk (detour.go); those of QoS 0 never
// wait.
type receivePath struct {
	log       *slog.Logger
	publisher interface{ PublishBatch([]session.Publication) }
	own       ownAddresses
	memory    *memory // nil: the guard is off
	loops     Loops
	room      *budget
	kick      func()        // asks for a look at the interfaces
	topics    atomic.Int64  // outlets remembered, of all rules
	online    atomic.Bool   // there is a connection to the broker
	stirred   chan struct{} // wakes the pump of the detours
	maxAge    time.Duration // what was longer on a detour is dropped; 0: no limit
	table     atomic.Pointer[mapping.Table]
	idle      chan *batch
}

func newReceivePath(b *Bridge) *receivePath {
	p := &receivePath{
		log:   b.log,
		loops: b.options.Loops, room: b.room, kick: b.kick, idle: make(chan *batch, idleBatches),
		stirred: make(chan struct{}, 1), maxAge: b.options.Spool.MaxAge,
	}
	if p.loops.Guard {
		p.memory = newMemory(p.loops)
	}
	return p
}

// echoes says whether a message on this topic comes back to us and is sent to a
// group again, by a rule on a cycle.
func (p *receivePath) echoes(topic string) bool {
	table := p.table.Load()
	return slices.ContainsFunc(table.Lookup(topic, nil), func(t mapping.Target) bool { return table.SendLoops(t.Rule) })
}

// remote is what is known of one sender, address and port, by one membership.
type remote struct {
	source netip.AddrPort
	legs   []remoteLeg
}

// remoteLeg is one rule's part in a remote.
type remoteLeg struct {
	rule   *receiveRule
	outlet *outlet // nil: its datagrams go no further,
	why    Reason  // for this reason
	err    error
}

// maxRemotes bounds the senders that a membership remembers, and maxOutlets the
// topics of all rules: beyond it they are forgotten, and found again at the next
// datagram. Senders that take a new port each time would else add up.
const (
	maxRemotes = 1 << 10
	maxOutlets = 1 << 17
)

// arrival is what is known of a datagram beside its payload.
type arrival struct {
	mapping.Arrival
	on int32 // index of the interface
}

func (a *arrival) String() string {
	return fmt.Sprintf("from %s to %s on %s", a.Source, a.Group, a.Interface)
}

// batch is the memory of one step 2 to 5.
type batch struct {
	tells        bool // log.level is debug: each message is logged
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

func (p *receivePath) newBatch() *batch {
	var b *batch
	select {
	case b = <-p.idle:
	default:
		b = new(batch)
	}
	b.now, b.tells = time.Now(), p.log.Enabled(context.Background(), slog.LevelDebug)
	return b
}

// hear carries what a socket had.
func (e *ear) hear(datagrams []multicast.Datagram) {
	e.hearing.Lock()
	defer e.hearing.Unlock()
	p, b := e.path, e.path.newBatch()
	e.attend()
	for _, r := range e.heard.rules {
		r.received.Add(uint64(len(datagrams)))
	}
	for i := range datagrams {
		d := &datagrams[i]
		if p.own.has(d.Source) {
			e.lose(DropOwn, 1)
			continue
		}
		legs := e.remote(d.Source).legs
		for j := range legs {
			leg := &legs[j]
			a := e.arrival(d.Source, b.now)
			switch {
			case leg.outlet == nil:
				leg.rule.drop(leg.why, &a, leg.err)
			case leg.rule.hold != nil:
				leg.rule.hold.push(leg.outlet, d.Payload, &a, b)
			default:
				leg.outlet.carry(d.Payload, &a, b)
			}
		}
	}
	p.publish(b)
}

// attend takes notice of other rules than those of the last batch.
func (e *ear) attend() {
	if now := e.listeners.Load(); now != e.heard {
		e.heard, e.last = now, nil
		clear(e.remotes)
	}
}

// lose counts a loss of every rule that listens here.
func (m *membership) lose(why Reason, n uint64) {
	for _, r := range m.listeners.Load().rules {
		r.lose(why, n)
	}
}

func (e *ear) arrival(source netip.AddrPort, now time.Time) arrival {
	return arrival{
		Arrival: mapping.Arrival{Group: e.group, Source: source, Interface: e.at.Name, At: now},
		on:      int32(e.at.Index),
	}
}

// remote finds what is known of a sender. A batch is often all of one.
func (e *ear) remote(source netip.AddrPort) *remote {
	if e.last != nil && e.last.source == source {
		return e.last
	}
	r := e.remotes[source]
	if r == nil {
		if len(e.remotes) >= maxRemotes {
			clear(e.remotes)
		}
		r = &remote{source: source, legs: make([]remoteLeg, len(e.heard.rules))}
		for i, rule := range e.heard.rules {
			a := e.arrival(source, time.Time{})
			r.legs[i] = rule.leg(&a)
		}
		e.remotes[source] = r
	}
	e.last = r
	return r
}

// leg finds out whether a rule takes the datagrams of a sender, and to where.
func (r *receiveRule) leg(a *arrival) remoteLeg {
	if !r.accepts(a.Source.Addr()) {
		return remoteLeg{rule: r, why: DropSource}
	}
	topic, err := r.Topic.Append(nil, &a.Arrival, r.Name)
	if err != nil {
		return remoteLeg{rule: r, why: DropBadTopic, err: err}
	}
	return remoteLeg{rule: r, outlet: r.outlet(topic)}
}

func (r *receiveRule) accepts(source netip.Addr) bool {
	for _, p := range r.Sources {
		if p.Contains(source) {
			return true
		}
	}
	return len(r.Sources) == 0
}

// outlet is a topic of a rule. Datagrams of several groups and senders may share one.
func (r *receiveRule) outlet(topic []byte) *outlet {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.outlets[string(topic)]; o != nil {
		return o
	}
	if r.path.topics.Load() >= maxOutlets {
		r.path.topics.Add(-int64(len(r.outlets)))
		clear(r.outlets)
	}
	o := &outlet{rule: r, topic: topic, seed: fingerprint(topic)}
	o.echoes.Store(r.hold != nil && r.path.echoes(string(topic)))
	if r.outlets == nil {
		r.outlets = make(map[string]*outlet)
	}
	r.outlets[string(topic)] = o
	r.path.topics.Add(1)
	return o
}

// carry brings a datagram's payload to its topic, as far as the rule lets it. The
// payload may lie in a buffer that is used again.
func (o *outlet) carry(payload []byte, a *arrival, b *batch) {
	r := o.rule
	print := uint64(0)
	if r.OnChange || r.breaker.limit > 0 {
		print = fingerprint(payload)
	}
	if r.paced() && !o.due(payload, print, a, b.now) {
		return
	}
	o.pass(payload, print, a, b)
}

// pass is what carry does with a message whose time has come.
func (o *outlet) pass(payload []byte, print uint64, a *arrival, b *batch) {
	r := o.rule
	if r.breaker.limit > 0 {
		if ok, opens := r.breaker.admit(print^o.seed, b.now); !ok {
			r.lose(DropBreaker, 1)
			if opens {
				r.ranAway(o, a, b.now)
			}
			return
		}
	}
	if !r.Encoding.Raw() {
		from := len(b.encoded)
		b.encoded = r.Encoding.Append(b.encoded, payload, &a.Arrival)
		// Should append have moved to a larger array, the earlier payloads stay
		// alive in the smaller one for as long as their publications point there.
		payload = b.encoded[from:len(b.encoded):len(b.encoded)]
	}
	if r.detour != nil && r.detour.takes(o, payload, a, b) {
		return
	}
	if r.QoS > 0 && !r.path.room.take(len(payload)) {
		r.drop(DropQueueFull, a, fmt.Errorf("queue.size: %d bytes are waiting in all", r.path.room.bytes.Load()))
		return
	}
	if o.echoes.Load() {
		r.path.memory.add(publishedTrace(a.on, a.Group, o.topic, payload), b.now)
	}
	b.publications = append(b.publications, session.Publication{Topic: o.topic, Payload: payload, QoS: r.QoS, Retain: r.Retain, Origin: r})
	if b.tells {
		r.log.Debug("published", "rule", r.Name, "topic", string(o.topic), "group", a.Group, "source", a.Source,
			"interface", a.Interface, "bytes", len(payload))
	}
}

// publish hands a batch to the session, which copies what it keeps.
func (p *receivePath) publish(b *batch) {
	p.hand(b)
	b.encoded = b.encoded[:0]
	if cap(b.encoded) > maxEncoded {
		b.encoded = nil
	}
	select {
	case p.idle <- b:
	default:
	}
}

// hand hands over what a batch has so far.
func (p *receivePath) hand(b *batch) {
	if len(b.publications) > 0 {
		p.publisher.PublishBatch(b.publications)
		clear(b.publications)
		b.publications = b.publications[:0]
	}
}

// Published implements session.Origin: the broker has the next n messages.
func (r *receiveRule) Published(n, bytes int) {
	r.published.Add(uint64(n))
	r.settle(n, bytes)
}

// Lost implements session.Origin: the next n messages will not reach the broker.
func (r *receiveRule) Lost(n, bytes int, err error) {
	r.settle(n, bytes)
	r.unpublished(n, err)
}

// unpublished counts messages that the session has given up.
func (r *receiveRule) unpublished(n int, err error) {
	r.failures.Add(1)
	why := DropOffline
	if errors.Is(err, session.ErrStopped) {
		why = DropStopped
	}
	if r.lose(why, uint64(n)) {
		r.tell(r.Name, why, "topic", r.Topic.String(), err)
	}
}

func (r *receiveRule) settle(n, bytes int) {
	if r.QoS > 0 {
		r.path.room.give(n, bytes)
	}
}
