package session

import (
	"math/rand/v2"
	"slices"
)

// A queuedMessage is a publication of QoS 1 or 2 that is kept until it is acknowledged.
type queuedMessage struct {
	frame    []byte // as it is written; nil once the broker has acknowledged it for good
	slab     *slab  // that the frame lies in
	origin   Origin
	payload  int      // bytes, with the topic and the properties that were asked for
	qos      byte     // as asked for
	retain   bool     // likewise
	protocol Protocol // of the frame
	state    state
	copied   bool       // a copy was asked for; see rescue.go
	code     ReasonCode // of notTaken
	told     bool       // its Origin was told that the broker has it, out of its turn; see poison.go
	tries    uint8      // how often it was deferred
	renewed  bool       // and it was not written since
	awaiting uint8      // QoS 2: how many, with it, awaited a PUBREC when it was written; see window.go
}

// publication is what the frame says.
func (m *queuedMessage) publication() *Publication {
	_, topic, props, payload := publishParts(m.frame, &form{protocol: m.protocol})
	return &Publication{Topic: topic, Payload: payload, QoS: m.qos, Retain: m.retain, Properties: props, Origin: m.origin}
}

// state is how far the broker has answered.
type state byte

const (
	unanswered state = iota
	deferred         // the broker refuses it for now; see quota.go
	released         // QoS 2: PUBREC came, so that PUBREL is ours to send [MQTT-4.3.3-1]
	delivered        // PUBACK came, or PUBCOMP
	givenUp          // the broker closes the connection over it
	barred           // it is given up for its topic; see refusedtopics.go
	notTaken         // the broker refuses it with a reason code, or it is too large for it
)

// settled reports whether nothing more is to come.
func (s state) settled() bool { return s >= delivered }

// A slab holds the frames of messages that follow each other. The ring empties in
// order, so it is soon free as a whole, and used again: a busy rule makes no
// garbage.
type slab struct {
	b     []byte
	inUse int  // messages whose frames lie in it
	open  bool // more are to follow
}

// room is how many bytes it has left.
func (s *slab) room() int { return cap(s.b) - len(s.b) }

const (
	slabSize = 64 << 10
	maxFrame = slabSize / 4 // in a slab; a longer one has its own
	maxFree  = 16           // slabs
)

// ring keeps messages in their order. They are numbered; a number is never used
// again, and says which packet identifier the message has:
//
//	head        next                       written       tail
//	 │ in flight │ of an earlier connection │ never written│
//	 │           │ to be written again      │              │
//
// On a connection that is not catching up, next and written are one.
type ring struct {
	ids                       idRange
	messages                  []queuedMessage // of number n: messages[n % len(messages)]; the length is a power of two
	head, next, written, tail uint64
	unwritten                 int // bytes of those that were never written

	slab *slab   // that the next frame goes to; nil at first
	free []*slab // empty ones
}

// minRing is the length of a ring at first, and keptRing up to which it stays as
// long as it once had to be.
const (
	minRing  = 64
	keptRing = 2048
)

// newRing numbers from a random start. Identifiers repeat after 32,768 messages (1024
// of QoS 2), and a persistent session may still hold, from a process before this one, a
// QoS 2 message between PUBREC and PUBREL: the broker would take a new message with its
// identifier for a repetition [MQTT-4.3.3-2]. A process that always began with the same
// number, and was restarted again and again, would always meet what it had left behind.
func newRing(ids idRange) ring {
	start := rand.Uint64N(ids.n)
	return ring{ids: ids, messages: make([]queuedMessage, minRing), head: start, next: start, written: start, tail: start}
}

func (r *ring) at(n uint64) *queuedMessage { return &r.messages[n&uint64(len(r.messages)-1)] }

// message makes one of a publication. It has no packet identifier yet.
func (r *ring) message(p *Publication, f *form) queuedMessage {
	return r.messageIn(r.slabFor(&r.slab, publishSize(p, f), slabSize), p, f)
}

func (r *ring) messageIn(s *slab, p *Publication, f *form) queuedMessage {
	from := len(s.b)
	s.b = appendPublish(s.b, p, 0, f)
	s.inUse++
	return queuedMessage{
		frame: s.b[from:len(s.b):len(s.b)], slab: s, origin: p.Origin, payload: p.Size(), qos: p.QoS, retain: p.Retain, protocol: f.protocol,
	}
}

// reform writes the frame of a message, which it releases, anew in another form, into a slab that
// is being filled. DUP is set by rewind.
func (r *ring) reform(m *queuedMessage, f *form, filling **slab, of int) {
	p := m.publication()
	next := r.messageIn(r.slabFor(filling, publishSize(p, f), of), p, f)
	if m.qos > 0 {
		identify(next.frame, frameID(m.frame))
	}
	r.release(m.slab)
	m.frame, m.slab, m.protocol = next.frame, next.slab, next.protocol
}

// push appends a message, which it copies, and which gets its packet identifier.
func (r *ring) push(m *queuedMessage) {
	if r.tail-r.head == uint64(len(r.messages)) {
		r.resize(2 * len(r.messages))
	}
	identify(m.frame, r.ids.of(r.tail))
	r.unwritten += len(m.frame)
	*r.at(r.tail) = *m
	r.tail++
}

// slabFor gives a slab that has room for a frame: the one that is being filled, or another one in
// its place, of so many bytes.
func (r *ring) slabFor(filling **slab, size, of int) *slab {
	if size > maxFrame {
		return newSlab(size)
	}
	if *filling != nil && (*filling).room() >= size {
		return *filling
	}
	r.close(filling)
	*filling = r.open(max(size, of))
	return *filling
}

func newSlab(size int) *slab { return &slab{b: slices.Grow([]byte(nil), size)} }

// open begins to fill a slab of so many bytes, an empty one if that is what there is.
func (r *ring) open(size int) (s *slab) {
	if n := len(r.free); size >= slabSize && n > 0 {
		s, r.free = r.free[n-1], r.free[:n-1]
	} else {
		s = newSlab(size)
	}
	s.open = true
	return s
}

// close ends the filling of a slab, if there is one.
func (r *ring) close(filling **slab) {
	s := *filling
	if s == nil {
		return
	}
	*filling, s.open = nil, false
	r.reuse(s)
}

// release takes a message out of its slab.
func (r *ring) release(s *slab) {
	s.inUse--
	r.reuse(s)
}

// reuse has a slab in which nothing is left be filled anew.
func (r *ring) reuse(s *slab) {
	if s.inUse > 0 || cap(s.b) != slabSize {
		return
	}
	s.b = s.b[:0]
	if !s.open && len(r.free) < maxFree {
		r.free = append(r.free, s)
	}
}

// pop takes the message at the head. A ring that an outage made large gets small
// again. The message's frame is overwritten by the next push.
func (r *ring) pop() (p queuedMessage) {
	p, *r.at(r.head) = *r.at(r.head), queuedMessage{}
	r.release(p.slab)
	if r.head >= r.written {
		r.unwritten -= len(p.frame)
	}
	r.head++
	r.next = max(r.next, r.head)
	r.written = max(r.written, r.head)
	if n := uint64(len(r.messages)); n > keptRing && r.tail-r.head < n/8 {
		r.resize(len(r.messages) / 4)
	}
	return p
}

func (r *ring) resize(size int) {
	old := r.messages
	r.messages = make([]queuedMessage, size)
	for n := r.head; n < r.tail; n++ {
		*r.at(n) = old[n&uint64(len(old)-1)]
	}
}

// find gives the message that an acknowledgement is for: one that was written, on
// this connection or another, and is not done with.
func (r *ring) find(id uint16) (n uint64, ok bool) {
	if !r.ids.has(id) {
		return 0, false
	}
	n = r.head + (uint64(id)-r.head)&(r.ids.n-1)
	return n, n < r.written
}

// rewind begins a new connection: all that was written before is to be written
// again, in the same order and with the same identifiers [MQTT-4.4.0-1], and
// marked as a repetition [MQTT-3.3.1-1].
func (r *ring) rewind() {
	for n := r.head; n < r.written; n++ {
		if p := r.at(n); p.frame != nil && !p.renewed && p.state != deferred {
			p.frame[0] |= dupFlag
		}
	}
	r.next = r.head
}
