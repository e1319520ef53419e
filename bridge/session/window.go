package session

import "time"

// Publications of QoS 1 and of QoS 2 flow beside each other, each in its order, which
// is all that MQTT asks for: messages of one topic and one quality of service
// [MQTT-4.6.0-6]. One of QoS 1 may overtake one of QoS 2 on the same topic, never
// another of QoS 1.
//
// They are apart because brokers bound how many messages of QoS 2 a client may have on
// its way to them: MQTT 3.1.1 has no Receive Maximum with which to say so before, and no
// reason code to say so after. mosquitto (2.0.16 and later, Debian's 2.0.11) counts each
// from its PUBLISH to its PUBREL and takes max_inflight_messages, which is 20 unless its
// configuration says otherwise. What is more it acknowledges and drops, in silence; with
// max_queued_messages 0 it closes the connection then. Of QoS 1 it counts none, yet does
// the same to one that comes while the count is full, so that 19 are all that is safe.
//
// One that takes fewer and is silent cannot be found out: options.MaxInFlight, which
// bounds both flows together, has to be set for it. A broker that closes instead is
// found out: each connection that it closes with more of them unanswered than were ever
// answered together halves the window. With QoS 1 beside them it has to be one less than
// what was answered. It may also have closed for another reason, as a restart: so a window
// that is used, and answered, grows again by one after a time, which doubles with each
// connection that ends so.

// qos2Window is how many publications of QoS 2 may be on their way at first. They are
// counted up to PUBCOMP, so never fewer than the broker counts.
const qos2Window = 19

// A flow is the publications of one quality of service. It is guarded by the
// outbox's mu.
type flow struct {
	ring
	poison       poisonSearch
	quota        quota
	provenWindow uint64 // QoS 2: the most that awaited a PUBREC together, and got it
	mostWindow   uint64 // the window at first
	growAfter    time.Duration
	growAt       time.Time // when a window that is smaller grows
	rewriteEnd   uint64    // the number up to which they had been written when this connection began
	leftover     leftover  // QoS 2
	copied       uint64    // the number up to which there are copies of them, as far as there can be; see rescue.go

	limit uint64 // the number up to which there are to be any
	looks looks

	perConnection bool // the broker counts those of this connection alone: it has said how many it takes

	queued int // above 0: at one of the last looks something waited for its turn

	turns turns // what waits for its turn to come to the ring
}

func newFlow(ids idRange, window int) flow {
	f := flow{ring: newRing(ids), poison: newPoisonSearch(uint64(window)), mostWindow: uint64(window)}
	f.copied = f.head
	return f
}

// flow gives the flow whose identifier an answer has; where it is none's, find says so.
func (o *outbox) flow(id uint16) *flow {
	if qos2IDs.has(id) {
		return &o.flows[1]
	}
	return &o.flows[0]
}

// beside is the other flow.
func (o *outbox) beside(f *flow) *flow {
	if f == &o.flows[0] {
		return &o.flows[1]
	}
	return &o.flows[0]
}

// inFlight is how many publications were written, on this connection or before, and are
// not done.
func (o *outbox) inFlight() (n uint64) {
	for i := range o.flows {
		n += o.flows[i].inFlight()
	}
	return n
}

// inFlight is how many of them are of this flow. Beside a suspect it is one at a time. With a
// Receive Maximum only those count that were written on this connection [MQTT-4.9.0-2].
func (f *flow) inFlight() uint64 {
	switch {
	case f.poison.suspect:
		return 1
	case f.perConnection, f.quota.inTrouble():
		return f.next - f.head
	}
	return f.written - f.head
}

// writableEnd is the number up to which publications of a flow may be written: as far as its
// window reaches, and the other flow leaves room. Where both are under suspicion, one
// message is given to the broker alone, not one of each. What was written of QoS 2 on
// earlier connections goes before all of QoS 1: the broker's count may still be full
// of it, unless one is given to it alone.
func (o *outbox) writableEnd(i int) uint64 {
	f, other := &o.flows[i], &o.flows[1-i]
	if !f.quota.until.IsZero() || o.reserved != nil {
		return f.next
	}
	again := o.flows[1].head < o.flows[1].rewriteEnd && !o.flows[1].poison.alone
	if i == 0 && again || i == 1 && !again && f.poison.alone && other.poison.alone && other.head < other.tail {
		return f.next
	}
	if f.poison.other > 0 {
		return f.poison.other + 1
	}
	room := o.maxInFlight - min(other.inFlight(), o.maxInFlight)
	window := min(f.poison.window, room)
	if f.quota.inTrouble() {
		window = min(window, f.quota.window)
	}
	return min(f.tail, f.head+window)
}

// appendWritable appends what may be written, up to the number end and a length of limit,
// at least one where nothing was appended since from; with aliases where there are any.
func (f *flow) appendWritable(b []byte, from, limit int, end uint64, with *aliases) []byte {
	for ; f.next < end; f.next++ {
		p := f.at(f.next)
		size := ackSize // of a PUBREL
		if p.state == unanswered {
			size = len(p.frame)
		}
		if len(b) > from && len(b)+size > limit {
			break
		}
		switch p.state {
		case unanswered:
			switch {
			case p.qos == 2 && f.poison.alone:
				p.awaiting = 1
			case p.qos == 2:
				p.awaiting = f.unanswered() + 1
			}
			if with == nil {
				b = append(b, p.frame...)
			} else {
				b = with.append(b, p.frame)
			}
			p.renewed = false
		case released:
			b = appendAck(b, typePubrel, f.ids.of(f.next))
		}
		if f.next >= f.written {
			f.unwritten -= len(p.frame)
		}
	}
	f.written = max(f.written, f.next)
	f.admit()
	return b
}

// reserve has no publication of QoS 1 or 2 written on a connection until unreserve is called. The channel is
// closed once none is on its way.
func (o *outbox) reserve(c *mqttConn) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	free := make(chan struct{})
	if o.conn != c { // nothing is written on it
		close(free)
		return free
	}
	o.reserved = free
	o.tellReserved()
	return free
}

// tellReserved closes the channel, if it is time. Callers hold mu.
func (o *outbox) tellReserved() {
	if o.reserved == nil || o.inFlight() > 0 {
		return
	}
	select {
	case <-o.reserved:
	default:
		close(o.reserved)
	}
}

// unreserve has publications written again.
func (o *outbox) unreserve(c *mqttConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == c {
		o.reserved = nil
	}
}

// unanswered is how many publications that were written on this connection await
// their first answer.
func (f *flow) unanswered() (n uint8) {
	for i := f.head; i < f.next; i++ {
		if f.at(i).state == unanswered {
			n++
		}
	}
	return n
}

// shrink makes the window of QoS 2 smaller after a connection that the broker closed
// while more of them awaited an answer than it ever answered. It returns how many
// those were, and the new window; 0 where there were not.
func (o *outbox) shrink() (were, window int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &o.flows[1]
	if f.poison.alone {
		return 0, 0
	}
	n := uint64(f.mostAwaiting())
	beside := o.flows[0].head < o.flows[0].next
	switch {
	case n < 2 || n < f.provenWindow, n == f.provenWindow && !beside:
		return 0, 0
	case n == f.provenWindow:
		f.provenWindow--
		f.poison.full = f.provenWindow
	default:
		f.poison.full = max(f.provenWindow, n/2)
	}
	f.poison.window = min(f.poison.window, f.poison.full)
	f.growAfter = min(max(2*f.growAfter, firstGrow), maxGrow)
	f.growAt = time.Now().Add(f.growAfter)
	return int(n), int(f.poison.full)
}

// How long a smaller window stays as it is: at first, and at most, as each try to find
// that the broker takes no more costs a connection.
const (
	firstGrow = time.Minute
	maxGrow   = 24 * time.Hour
)

// grow makes a window that was made smaller one larger, where the broker has answered as
// many as it has, and for long enough. Callers hold mu.
func (f *flow) grow() {
	s := &f.poison
	if s.full >= f.mostWindow || f.provenWindow < s.full || time.Now().Before(f.growAt) {
		return
	}
	if s.window == s.full {
		s.window++
	}
	s.full++
	f.growAt = time.Now().Add(f.growAfter)
	if s.full == f.mostWindow {
		f.growAfter = 0
	}
}

// mostAwaiting is the most that awaited their first answer together when the last of those
// that still do was written.
func (f *flow) mostAwaiting() (most uint8) {
	for i := f.head; i < f.next; i++ {
		if p := f.at(i); p.state == unanswered {
			most = max(most, p.awaiting)
		}
	}
	return most
}
