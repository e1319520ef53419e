package session

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// The way of a publication to the broker, in the order of the functions below.
// Many goroutines publish; there is no goroutine between them and the connection:
//
//  1. add          encodes it: QoS 0 into the buffer that is written next, QoS 1
//     and 2 into the ring, where it stays until step 6
//  2. publish      of the connection: the same goroutine writes all that waits, or finds
//     another one writing, which will see what was added (write.go)
//  3. nextWrite    gives the writer what may be written now
//  4. wrote        QoS 0 is done: its Origin is told
//  5. acknowledge  the reader of the connection has PUBACK, PUBREC or PUBCOMP
//  6. popSettled   what is acknowledged, or given up, leaves the ring in order; its
//     Origin is told
//
// Around it, by the goroutine of Run: attach begins a connection, detach ends it,
// and stop ends everything.
//
// Two locks: mu is held for moments, and never while an Origin is told; notifyMu is
// held from the moment when an outcome is known until the Origin knows it, which keeps
// the order. Who holds the connection's writeLock may take notifyMu, and who holds
// notifyMu may take mu.
type outbox struct {
	notifyMu    sync.Mutex
	completions completions // under notifyMu

	mu         sync.Mutex
	spaceFreed sync.Cond // pending was taken, or there is a new connection or none
	conn       *mqttConn // the connection, while there is one
	stopped    bool

	pending []byte      // frames of QoS 0 that wait to be written
	runs    []run       // whose they are
	crowd   map[any]int // bytes of each Publication.Queue in the second half of pending

	flows       [2]flow       // publications of QoS 1, and of QoS 2
	mostAtOnce  uint64        // of both together, by the configuration
	maxInFlight uint64        // of both together, on this connection
	reserved    chan struct{} // the status has the only place that the broker gives; closed once that is free. nil: it has not
	form        form          // of the frames in pending and in the flows
	first       int           // the flow whose turn comes first
	pace        pace
	aliases     *aliases // of this connection; nil: none are used
	mayAlias    bool
	givesUp     bool // what the broker does not take for long

	refused refusedTopics
	qos0    qos0Trials

	watching bool // for late acknowledgements; see rescue.go
	timer    *time.Timer

	takenAgain  func(topic string) // is told of a topic that the broker takes again
	notAccepted func(notAccepted)  // is told of a message that it refuses

	outstanding atomic.Int64  // publications whose Origins were not told yet
	published   atomic.Uint64 // publications that the broker has
	unmatched   atomic.Uint64 // of these, those that nobody has subscribed to, as it says
}

// maxPending bounds the bytes of QoS 0 that wait to be written; a larger frame
// waits alone. More would leave the processor's cache before it is written.
const maxPending = 256 << 10

func newOutbox(maxInFlight int) *outbox {
	o := &outbox{takenAgain: func(string) {}, notAccepted: func(notAccepted) {}, mostAtOnce: uint64(maxInFlight), maxInFlight: uint64(maxInFlight), flows: [2]flow{newFlow(qos1IDs, maxInFlight), newFlow(qos2IDs, min(maxInFlight, qos2Window))}}
	o.spaceFreed.L = &o.mu
	return o
}

// add takes publications, and returns the connection over which they may leave at once.
func (o *outbox) add(batch []Publication) *mqttConn {
	c, gaveUp := o.addEach(batch)
	if gaveUp {
		o.tellGivenUp()
	}
	return c
}

// addEach also reports whether some of them are given up for their topic.
func (o *outbox) addEach(batch []Publication) (c *mqttConn, gaveUp bool) {
	o.outstanding.Add(int64(len(batch)))
	var checked []byte // the topic that was found valid last: often the next one's too
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range batch {
		p := &batch[i]
		if !same(checked, p.Topic) || p.QoS > 2 || publishRest(p, &o.form) > maxRest {
			if !p.valid() {
				o.refuse(p, ErrInvalid)
				continue
			}
			checked = p.Topic
		}
		switch {
		case o.stopped:
			o.refuse(p, ErrStopped)
		case o.form.maxPacket > 0 && publishSize(p, &o.form) > o.form.maxPacket:
			o.refuse(p, &NotAcceptedError{Code: reasonTooLarge})
		case p.QoS > 0:
			f := &o.flows[p.QoS-1]
			m, n := f.enter(p, &o.form)
			if len(o.refused.topics) > 0 && o.refused.bars(p.Topic, f, n) {
				m.state = barred
				gaveUp = true
			}
			if !o.watching {
				o.watch()
			}
		case o.qos0Refused(p.Topic):
			o.refuse(p, ErrTopicRefused)
		case o.waitForSpace(p):
			o.pending = appendPublish(o.pending, p, 0, &o.form)
			o.runs = extend(o.runs, p.Origin, len(p.Payload))
			o.try(p.Topic)
		case o.stopped:
			o.refuse(p, ErrStopped)
		default:
			o.refuse(p, ErrNotConnected)
		}
	}
	return o.conn, gaveUp
}

// same reports whether two slices are one.
func same(a, b []byte) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

// waitForSpace waits until a frame of QoS 0 may be appended. It is false when there
// is no connection, or none any more. Callers hold mu, which is free meanwhile.
func (o *outbox) waitForSpace(p *Publication) bool {
	size := publishSize(p, &o.form)
	for c := o.conn; ; {
		switch {
		case o.conn != c || c == nil:
			return false
		case !o.qos0.holds(p.Topic) && o.takeSpace(p.Queue, size):
			return true
		}
		o.mu.Unlock()
		c.publishNow() // else everybody might wait for somebody to write
		o.mu.Lock()
		if o.conn == c {
			if !o.qos0.holds(p.Topic) && o.takeSpace(p.Queue, size) {
				return true
			}
			o.spaceFreed.Wait()
		}
	}
}

// takeSpace reports whether a frame of QoS 0 may be appended. Of the second half of the space
// none gets more than it leaves to the others: a broker that takes less than one rule has
// for it does not keep those that have little waiting.
func (o *outbox) takeSpace(queue any, size int) bool {
	filled := len(o.pending) + size
	switch {
	case len(o.pending) == 0, filled <= maxPending/2:
		return true
	case o.crowd[queue]+size > maxPending-filled:
		return false
	case o.crowd == nil:
		o.crowd = make(map[any]int)
	}
	o.crowd[queue] += size
	return true
}

// refuse tells of a publication that is not taken. Callers hold mu, which is free
// meanwhile.
func (o *outbox) refuse(p *Publication, why error) {
	o.mu.Unlock()
	o.notifyMu.Lock()
	if errors.Is(why, ErrRefused) {
		o.completions.gaveUp(p, p.Size(), why)
	} else {
		o.completions.lost(run{p.Origin, 1, p.Size()}, why)
	}
	o.notify()
	o.notifyMu.Unlock()
	o.mu.Lock()
}

// pubAck is a PUBACK, PUBREC or PUBCOMP.
type pubAck struct {
	kind byte
	code ReasonCode
	id   uint16
}

// acknowledge enters answers of the broker; reasons are its words, by identifier. release is
// called for each PUBREL that is due. opened reports whether more may be written than before, and stray is how many
// answers fit nothing.
//
// One that does is not held against the broker: MQTT 3.1.1 says
// nothing about it, and a broker that has answered twice, or late, is known to
// happen; only without end it may not be (maxStray). A PUBREC is always answered [MQTT-4.3.3-1]: an earlier process may have
// left its message at the broker, which waits for the PUBREL to let it go.
func (o *outbox) acknowledge(answers []pubAck, reasons map[uint16]string, release func(id uint16) error) (opened bool, stray int, err error) {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	var told toTell
	for _, a := range answers {
		if !o.enter(a, reasons, release, &told) {
			stray++
		}
	}
	o.settleAnswered()
	for i := range o.flows { // each leaves the other room
		opened = opened || o.flows[i].next < o.writableEnd(i)
	}
	o.mu.Unlock()
	o.notify()
	for _, topic := range told.again {
		o.takenAgain(topic)
	}
	for _, r := range told.refused {
		o.notAccepted(r)
	}
	return opened, stray, told.err
}

// toTell is what has become of a batch of answers, to be told when mu is not held any more.
type toTell struct {
	again   []string // topics on which the broker takes messages again
	refused []notAccepted
	err     error // of release
}

// enter enters an answer. It is false if that fits nothing. Callers hold notifyMu and mu.
func (o *outbox) enter(a pubAck, reasons map[uint16]string, release func(id uint16) error, told *toTell) bool {
	f := o.flow(a.id)
	n, ok := f.find(a.id)
	topic := ""
	if ok && len(o.refused.topics) > 0 {
		topic = f.at(n).topic()
	}
	if a.code.refuses() && a.kind != typePubcomp {
		if !ok || !o.refusedBy(f, n, a.kind, a.code) {
			return false
		}
		o.qos0.tookOther = true
		told.refused = append(told.refused, notAccepted{f.at(n).topic(), a.code, reasons[a.id], f.at(n).state == deferred})
		return true
	}
	if a.kind == typePubrec && told.err == nil && (!ok || n < f.next) {
		told.err = release(a.id) // one that is to be written again gets it in its turn
	}
	if !ok && a.kind == typePubcomp {
		f.leftover.released(a.id)
	}
	if !ok || !f.answered(n, a.kind) {
		return false
	}
	if a.code == reasonNoSubscribers {
		o.unmatched.Add(1)
	}
	o.qos0.tookOther = true
	if o.refused.taken(topic) {
		told.again = append(told.again, topic)
	}
	if other := o.beside(f); other.poison.suspect {
		other.poison.took++
	}
	return true
}

// settleAnswered takes out what has been answered, and lets in what has room now. Callers hold notifyMu and mu.
func (o *outbox) settleAnswered() {
	for i := range o.flows {
		f := &o.flows[i]
		if f.quota.inTrouble() {
			f.writeDeferred(time.Now())
		}
		o.popSettled(f)
		if f.head == f.tail {
			f.quota = quota{}
		}
		o.tellBeside(f)
	}
	o.flows[1].grow()
	o.tellReserved()
}

// notAccepted is a message that the broker refuses, and what it says.
type notAccepted struct {
	topic  string
	code   ReasonCode
	reason string
	later  bool // it is to have it again
}

// refusedBy enters a PUBACK or PUBREC that refuses a message: that is done with, section 4.3.3
// [MQTT-4.3.3-4], or deferred. It is false if the answer does not fit its state.
func (o *outbox) refusedBy(f *flow, n uint64, kind byte, code ReasonCode) bool {
	m := f.at(n)
	if m.state != unanswered || kind == typePubrec && m.qos != 2 {
		return false
	}
	if code != reasonQuota || !f.postpone(n, o) {
		m.state, m.code = notTaken, code
	}
	f.acknowledged(n)
	return true
}

// answered enters an answer to a message. It is false if that does not fit its state. A
// broker that knows no QoS 2 may take such a message for one of QoS 1, and answer PUBACK
// (RabbitMQ 3.10): it has it.
func (f *flow) answered(n uint64, kind byte) bool {
	if f.quota.inTrouble() && kind != typePubcomp && f.at(n).state == unanswered {
		f.tookOne(n)
	}
	switch p := f.at(n); {
	case kind == typePubrec && p.qos == 2 && p.state == unanswered:
		p.state = released
		f.provenWindow = max(f.provenWindow, uint64(p.awaiting))
	case kind == typePuback && p.state == unanswered, kind == typePubcomp && p.state == released:
		p.state, p.frame = delivered, nil
	default:
		return false
	}
	f.acknowledged(n)
	return true
}

// popSettled takes out of a ring what is delivered or given up, and has nothing before it
// that is not. Callers hold notifyMu and mu.
func (o *outbox) popSettled(f *flow) {
	for f.head < f.tail && f.at(f.head).state.settled() {
		o.pop(f, nil)
		if f.turns.len > 0 {
			f.admit() // what follows may have been given up as well
		}
	}
}

// pop takes the message at the head out of a ring; why is why it is lost, unless what
// became of it is known. Callers hold notifyMu and mu.
func (o *outbox) pop(f *flow, why error) {
	switch m := f.at(f.head); m.state {
	case delivered:
		why = nil // the broker has it, if not in its turn
	case givenUp:
		why = ErrRefused
	case barred:
		why = ErrTopicRefused
	case notTaken:
		why = &NotAcceptedError{Code: m.code}
	}
	if errors.Is(why, ErrRefused) {
		p := *f.at(f.head).publication()
		p.Topic, p.Payload, p.Properties = bytes.Clone(p.Topic), bytes.Clone(p.Payload), bytes.Clone(p.Properties)
		o.completions.gaveUp(&p, f.at(f.head).payload, why)
		f.pop()
		f.poison.popped()
		return
	}
	m := f.pop()
	if why != nil {
		m.rescue()
	}
	if !m.told {
		o.completions.add(run{m.origin, 1, m.payload}, why)
	}
}

// attach begins a connection, which has passed its handshake. present says that
// the broker remembers the session.
func (o *outbox) attach(c *mqttConn, present bool) {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	if f := &o.flows[1]; !present {
		// A QoS 2 message between PUBREC and PUBCOMP must not be published again in its
		// session [MQTT-4.3.3-1]. But that is gone, and if it went before the PUBREL came, so
		// is the message: brokers may hand it on only then (figure 4.3, method A), as
		// mosquitto does. Twice is better than not at all.
		for n := f.head; n < f.written; n++ {
			if p := f.at(n); p.state == released {
				p.state = unanswered
			}
		}
	}
	o.agree(&c.terms)
	for i := range o.flows {
		o.flows[i].rewriteEnd = o.flows[i].written
		o.flows[i].rewind()
		o.flows[i].renewDeferred()
		o.flows[i].attached()
		o.popSettled(&o.flows[i]) // what this broker does not take
	}
	o.flows[1].leftover.begin(present)
	o.qos0.begin()
	o.first = 0
	o.conn, o.reserved = c, nil
	if o.aliases = nil; o.mayAlias {
		o.aliases = newAliases(c.terms.aliases, o.form.maxPacket)
	}
	o.mu.Unlock()
	o.notify()
	c.acks.wakeWriter()
}

// agree has publications be as the broker takes them on a connection that begins. Callers hold
// notifyMu and mu.
func (o *outbox) agree(t *terms) {
	o.maxInFlight = o.mostAtOnce
	if t.inFlight > 0 {
		o.maxInFlight = min(o.maxInFlight, uint64(max(t.inFlight-1, 1))) // [MQTT-3.3.4-9]; the status has one more, or reserves this one
	}
	for i := range o.flows {
		o.flows[i].perConnection = t.inFlight > 0
	}
	if to := t.form(); o.form != to {
		o.form = to
		for i := range o.flows {
			o.flows[i].reform(&o.form)
		}
	}
}

// detach ends a connection, whose goroutines have ended: what was pending is lost, and
// of what is in the rings copies are made.
func (o *outbox) detach(c *mqttConn, why error) {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	if o.conn != c {
		o.mu.Unlock()
		return // it was never attached
	}
	for _, r := range o.runs {
		o.completions.lost(r, why)
	}
	o.conn, o.pending, o.runs, o.crowd = nil, nil, nil, nil
	o.pace.since = time.Time{}
	o.qos0.end()
	o.spaceFreed.Broadcast()
	o.mu.Unlock()
	o.notify()
	o.rescueAll()
}

// stop ends the publishing for good.
func (o *outbox) stop() {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	o.stopped = true
	if o.timer != nil {
		o.timer.Stop()
	}
	if o.pace.timer != nil {
		o.pace.timer.Stop()
	}
	for i := range o.flows {
		for f := &o.flows[i]; f.head < f.tail; f.admit() {
			o.pop(f, ErrStopped)
		}
	}
	o.mu.Unlock()
	o.notify()
}
