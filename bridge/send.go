package bridge

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// MQTT to multicast. The way of a message, in the order of the functions below;
// all of it on the goroutine that read the message from the broker.
//
//	session ──batch──▶ 1 handle
//	                     2 route    the topic's legs, one a rule: remembered, or asked of the table
//	                     3 gather   retained policy, loop guard, payload, size; the datagram joins its flow
//	                   4 flush    a binding's datagrams, flow after flow, in one call to the kernel;
//	                     │  │       then: was there a carrier to carry them? (carrier.go)
//	                     │  └─ what the kernel cannot take now has to wait (wait.go)
//	                   5 the session acknowledges every message that is not held
//
// A message is held while a datagram of it waits in memory; whoever settles the
// last one, or knows it safe on disk, releases it. A dropped datagram is settled: it is counted, and what
// can never leave must not keep the broker from going on.
type sendPath struct {
	log      *slog.Logger
	noRule   atomic.Uint64 // messages that matched no rule
	finished atomic.Uint64 // batches
	repeats  bool          // the broker repeats what was not acknowledged
	owes     atomic.Bool   // and is to do so: there was no room
	latency  histogram     // from handed over by the session to taken by the kernel

	mu      sync.Mutex // one batch at a time
	tells   bool       // log.level is debug: each datagram is logged; a reload may change it
	table   *mapping.Table
	rules   []*sendRule
	batches uint64    // how many there were, this one included
	began   time.Time // of this batch
	routes  map[string]*route
	before  map[string]*route // those of the last table, which this one's are still to inherit of
	flows   map[flowKey]*flow
	targets []mapping.Target   // scratch of route
	decoded []byte             // decoded payloads of the current batch
	dirty   []*binding         // bindings with gathered datagrams
	held    map[int32]*holding // messages of the current batch with a datagram in a queue
}

// maxRoutes bounds the topics remembered, and with them what "retained: once"
// knows: beyond it all are forgotten, and the next message of each topic asks
// the table again.
const maxRoutes = 1 << 17

// route is what is known of one topic.
type route struct {
	topic string
	legs  []leg
}

// leg is one rule's part in a route.
type leg struct {
	rule  *sendRule
	route *route
	flow  *flow // nil where the template yields no group
	err   error // why there is no group
	// For "retained: once". Only what the kernel took counts as sent: what waits
	// may yet be lost with this process, and then its repetition must not have
	// been acknowledged.
	last  atomic.Uint64 // fingerprint of the last payload sent; 0 is none
	ready uint64        // that of the last one laid ready, in
	batch uint64        // this batch
	// For "on_down: latest", under the binding's mu.
	place  uint64 // number, from 1, of its last datagram in the binding's queue
	newest int64  // when the last one came that went to the disk, in Unix nanoseconds
}

// lose drops what this leg was to send.
func (l *leg) lose(why Reason, err error) { l.rule.drop(why, l.route.topic, err) }

// latest is the fingerprint of what was sent last, or lies ready in this batch.
func (l *leg) latest(batch uint64) uint64 {
	if l.batch == batch {
		return l.ready
	}
	return l.last.Load()
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
	leg     *leg
	print   uint64 // its fingerprint, where the rule asks for it
	message int32  // index in the batch
	dropped bool
}

func newSendPath(log *slog.Logger) *sendPath {
	return &sendPath{
		log:    log,
		routes: make(map[string]*route), flows: make(map[flowKey]*flow), held: make(map[int32]*holding),
	}
}

// handle carries a batch as far as it goes now. When it returns, the batch's
// memory is the session's again.
func (p *sendPath) handle(batch []session.Message) {
	began := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batches++
	p.began = began
	p.tells = p.log.Enabled(context.Background(), slog.LevelDebug)
	for i := range batch {
		r := p.route(batch[i].Topic)
		for j := range r.legs {
			p.gather(&batch[i], int32(i), &r.legs[j])
		}
	}
	for _, b := range p.dirty {
		p.flush(b, batch, began)
	}
	p.dirty, p.decoded = p.dirty[:0], p.decoded[:0]
	for i, h := range p.held {
		// The batch itself was counted as one reason to wait, so that a queue
		// that empties meanwhile cannot release a message still being flushed.
		batch[i].Hold = !h.settle()
	}
	clear(p.held)
	p.finished.Add(1)
}

// route finds the legs of the topic of a message.
func (p *sendPath) route(topic []byte) *route {
	r := p.lookup(topic)
	if len(r.legs) == 0 && p.noRule.Add(1) == 1 {
		p.log.Warn("no rule matches this message; if no rule ever did, the broker still keeps a subscription of an earlier configuration in this session",
			"topic", r.topic, "reason", DropNoRule.String())
	}
	return r
}

// lookup finds what is known of a topic. Callers hold mu.
func (p *sendPath) lookup(topic []byte) *route {
	if r := p.routes[string(topic)]; r != nil { // no allocation: the compiler looks the bytes up in place
		return r
	}
	if len(p.routes) >= maxRoutes {
		clear(p.routes)
		clear(p.flows)
	}
	r := &route{topic: string(topic)}
	p.targets = p.table.Lookup(r.topic, p.targets[:0])
	r.legs = make([]leg, len(p.targets))
	for i, t := range p.targets {
		rule := p.rules[t.Rule]
		l := &r.legs[i]
		l.rule, l.route, l.err = rule, r, t.Err
		if t.Err == nil {
			l.flow = p.flow(t.Group, rule.binding)
		}
	}
	if was := p.before[r.topic]; was != nil {
		r.inherit(was)
		delete(p.before, r.topic)
	}
	p.routes[r.topic] = r
	return r
}

func (p *sendPath) flow(group netip.AddrPort, b *binding) *flow {
	k := flowKey{group, b}
	f := p.flows[k]
	if f == nil {
		f = &flow{group: group, binding: b}
		p.flows[k] = f
	}
	return f
}

// gather decides whether a message goes down a leg, and lays its datagram ready.
func (p *sendPath) gather(m *session.Message, i int32, l *leg) {
	rule := l.rule
	rule.received.Add(1)
	payload, print := m.Payload, uint64(0)
	if rule.Retained == mapping.RetainedOnce {
		print = fingerprint(payload)
	}
	switch {
	case m.Retain && (rule.Retained == mapping.RetainedNever || print != 0 && print == l.latest(p.batches)):
		l.lose(DropRetained, nil)
		return
	case l.flow == nil:
		l.lose(DropBadGroup, l.err)
		return
	case m.Oversize:
		l.lose(DropOversize, multicast.ErrTooLong)
		return
	case rule.guard != nil && l.flow.made(rule.guard, m, p.began):
		l.lose(DropLoop, nil)
		return
	}
	if !rule.Payload.Raw() {
		from := len(p.decoded)
		decoded, err := rule.Payload.Decode(p.decoded, payload)
		if err != nil {
			l.lose(DropBadPayload, err)
			return
		}
		// Should append have moved to a larger array, the earlier payloads stay
		// alive in the smaller one for as long as their datagrams point there.
		p.decoded, payload = decoded, decoded[from:len(decoded):len(decoded)]
	}
	l.ready, l.batch = print, p.batches
	f := l.flow
	if rule.guard != nil {
		f.remember(rule.guard, payload, p.began)
	}
	if len(f.batch) == 0 {
		if len(f.binding.flows) == 0 {
			p.dirty = append(p.dirty, f.binding)
		}
		f.binding.flows = append(f.binding.flows, f)
	}
	f.batch = append(f.batch, datagram{payload: payload, leg: l, print: print, message: i})
}

// made says whether a message is one that a receive rule has made of a datagram of
// this very flow's group, and that the broker hands back to us.
func (f *flow) made(guard *memory, m *session.Message, now time.Time) bool {
	return guard.take(publishedTrace(f.binding.on.Load(), f.group, m.Topic, m.Payload), now)
}

// remember has the receive direction know a datagram that another bridge sends
// too, because the broker gave it the same message.
func (f *flow) remember(guard *memory, payload []byte, now time.Time) {
	guard.add(sentTrace(f.binding.on.Load(), f.group, payload), now)
}

// flush sends what was gathered for a binding, flow after flow, so that equal
// datagrams to one group follow each other, and queues what cannot leave now.
func (p *sendPath) flush(b *binding, batch []session.Message, began time.Time) {
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
	if b.socket != nil && b.queue.empty() && len(b.backlog) == 0 && !b.owing {
		var err error
		n, err = sendSurely(b.socket, b.out, acknowledged(b.meta, batch), b.refused)
		p.latency.observe(time.Since(began), uint64(countTaken(b.meta[:n])))
		if p.tells {
			p.tell(b, n)
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
		b.enqueue(b.out[n+i].Group, d, m, began, p.holding(d.message, m))
	}
	b.wake()
	clear(b.meta) // keeps no message alive
	clear(b.out)
	b.meta, b.out = b.meta[:0], b.out[:0]
}

// acknowledged says whether any of the datagrams is of a message that is.
func acknowledged(ds []datagram, batch []session.Message) bool {
	for i := range ds {
		if batch[ds[i].message].QoS > 0 {
			return true
		}
	}
	return false
}

// tell logs each of the first n datagrams of a binding, for log.level debug.
func (p *sendPath) tell(b *binding, n int) {
	for i := range b.meta[:n] {
		if d := &b.meta[i]; !d.dropped {
			p.log.Debug("sent", "rule", d.leg.rule.Name, "topic", d.leg.route.topic, "group", b.out[i].Group,
				"source", b.socket.LocalAddr(), "interface", b.source.Interface, "bytes", len(d.payload))
		}
	}
}

// countTaken counts datagrams the kernel took, a run of one rule at a time.
func countTaken(ds []datagram) (taken int) {
	for i := 0; i < len(ds); {
		rule, n, bytes := ds[i].leg.rule, 0, 0
		for ; i < len(ds) && ds[i].leg.rule == rule; i++ {
			if !ds[i].dropped {
				n++
				bytes += len(ds[i].payload)
				ds[i].leg.last.Store(ds[i].print)
			}
		}
		rule.took(n, bytes)
		taken += n
	}
	return taken
}

// holding is what keeps message i of the batch from being acknowledged.
// A QoS 0 message has nothing to acknowledge and none.
func (p *sendPath) holding(i int32, m *session.Message) *holding {
	if m.QoS == 0 {
		return nil
	}
	h := p.held[i]
	if h == nil {
		h = &holding{ack: m.Ack}
		h.left.Store(1)
		p.held[i] = h
	}
	return h
}

// holding counts the datagrams of one message that wait in queues, and the batch
// that is still putting them there.
type holding struct {
	left atomic.Int32
	ack  interface{ Done() } // a session.Ack
}

// settle takes one off, and says whether nothing is left.
func (h *holding) settle() bool { return h.left.Add(-1) == 0 }

var fingerprintSeed = maphash.MakeSeed()

// fingerprint tells payloads apart; it is never 0.
func fingerprint(payload []byte) uint64 {
	if h := maphash.Bytes(fingerprintSeed, payload); h != 0 {
		return h
	}
	return 1
}
