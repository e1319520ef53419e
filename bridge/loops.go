package bridge

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Both directions at once must not feed each other. Four guards see to it, each
// where the ones before it cannot look:
//
//	own      a datagram that one of our own sockets sent is known by its source
//	         address and port. Exact, and always on: group to group on one host.
//	memory   rules that lie on a cycle of the table remember what they sent, heard
//	         and published. Of each, one may come back: to us our own publication,
//	         which the broker hands us again; and of each other source on the
//	         network the same datagram once, for another bridge sends what we send,
//	         and sends what we publish. It counts, so ON, OFF, ON all pass. A source
//	         that mostly says things of its own is no bridge, and is always heard: so
//	         a device may answer with the very bytes that it was sent.
//	hold     the other bridge may be faster than our own broker connection: a
//	         datagram of a rule on a cycle waits a little for its message (hold.go).
//	breaker  a cycle that no table shows, as it goes through rules of another
//	         program: the same payload for the same topic, over and over for three
//	         seconds, stops the rule. It cannot see a cycle that changes the payload
//	         each time, nor tell it from a device that says the same as often.

// Loops says how far the guards go.
type Loops struct {
	Guard   bool          // memory and hold; own is always on
	Memory  int           // how many datagrams and messages are remembered
	Time    time.Duration // and for how long
	Hold    time.Duration // how long a datagram of a rule on a cycle waits
	Breaker int           // how often a second, three seconds in a row, a rule may publish the same on one topic; 0: any number
}

// ownAddresses are the addresses and ports that our datagrams leave from.
type ownAddresses struct {
	now atomic.Pointer[map[netip.AddrPort]int] // never changed, only replaced

	mu sync.Mutex
}

func (o *ownAddresses) has(a netip.AddrPort) bool {
	known := o.now.Load()
	return known != nil && (*known)[a] > 0
}

// lingering is how long the address of a closed socket stays known: for as long
// as datagrams of its own may lie in a receive buffer.
const lingering = 10 * time.Second

func (o *ownAddresses) add(a netip.AddrPort) { o.change(a, 1) }

func (o *ownAddresses) remove(a netip.AddrPort) {
	time.AfterFunc(lingering, func() { o.change(a, -1) })
}

// change counts, for a socket may be reopened on the same port.
func (o *ownAddresses) change(a netip.AddrPort, by int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := make(map[netip.AddrPort]int)
	if known := o.now.Load(); known != nil {
		maps.Copy(next, *known)
	}
	if next[a] += by; next[a] == 0 {
		delete(next, a)
	}
	o.now.Store(&next)
}

// trace is the fingerprint of something that may come back.
type trace uint64

// sentTrace is that of a datagram to a group by an interface.
func sentTrace(on int32, group netip.AddrPort, payload []byte) trace {
	return newTrace(on, group, nil, payload)
}

// publishedTrace is that of a message on a topic, made of such a datagram.
func publishedTrace(on int32, group netip.AddrPort, topic, payload []byte) trace {
	return newTrace(on, group, topic, payload)
}

func newTrace(on int32, group netip.AddrPort, topic, payload []byte) trace {
	var h maphash.Hash
	h.SetSeed(fingerprintSeed)
	address := group.Addr().As16()
	var head [28]byte
	n := copy(head[:], address[:])
	binary.LittleEndian.PutUint16(head[n:], group.Port())
	binary.LittleEndian.PutUint32(head[n+2:], uint32(on))
	binary.LittleEndian.PutUint32(head[n+6:], uint32(len(topic)))
	h.Write(head[:])
	h.Write(topic)
	h.Write(payload)
	return trace(h.Sum64())
}

// memory knows what may come back, by whom, how often, and for how long.
type memory struct {
	max  int
	time time.Duration

	mu       sync.Mutex
	marks    map[trace]*mark
	ring     []memo // in the order of their time; the length is a power of two
	head     uint64
	tail     uint64
	speakers map[netip.Addr]*speaker
}

// mark is what is known of one trace. Whatever we sent each other bridge may send
// once as well; and whatever we heard of one source, each of the others.
type mark struct {
	sent  int
	heard []hearing
}

// hearing is what one rule heard of one source.
type hearing struct {
	by        *receiveRule
	from      netip.Addr
	originals int // heard of it, and not known
	echoes    int // heard of it, and known
}

// memo is a mark's part in the order of time.
type memo struct {
	trace trace
	until time.Time
	by    *receiveRule // nil: sent
	from  netip.Addr
}

// speaker is what was learnt of a source: whether it says things of its own, as
// devices do, or only what others said, as bridges do.
type speaker struct{ originals, echoes int }

const (
	maxSpeakers = 1 << 12
	// maxEvidence bounds what is counted for and against a speaker, so that the
	// judgement can change.
	maxEvidence = 64
)

func newMemory(o Loops) *memory {
	return &memory{max: o.Memory, time: o.Time, marks: make(map[trace]*mark), speakers: make(map[netip.Addr]*speaker)}
}

// add expects a trace to come back: once to us, or once of each other bridge.
func (m *memory) add(t trace, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(now)
	m.mark(t).sent++
	m.note(memo{trace: t, until: now.Add(m.time)})
}

// take says whether a trace that only comes back to us has come back.
func (m *memory) take(t trace, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(now)
	return m.marks[t] != nil && m.known(t, nil, netip.Addr{})
}

// hear says whether a rule hears a trace of a source because another bridge has
// sent it too. What is new is remembered, for other bridges will.
func (m *memory) hear(t trace, by *receiveRule, from netip.Addr, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire(now)
	s := m.speakers[from]
	if s == nil {
		if len(m.speakers) >= maxSpeakers {
			clear(m.speakers)
		}
		s = new(speaker)
		m.speakers[from] = s
	}
	known := m.marks[t] != nil && m.known(t, by, from)
	if s.learn(known); known && s.originals <= s.echoes {
		return true
	}
	m.mark(t).hearing(by, from).originals++
	m.note(memo{t, now.Add(m.time), by, from})
	return false
}

// learn counts what is heard of a speaker: what it says of its own speaks for a
// device, what others said before, for a bridge.
func (s *speaker) learn(known bool) {
	if known {
		s.echoes++
	} else {
		s.originals++
	}
	if s.echoes+s.originals > maxEvidence {
		s.echoes, s.originals = s.echoes/2, s.originals/2
	}
}

// known says whether a trace may come of a source once more, and takes it for come.
func (m *memory) known(t trace, by *receiveRule, from netip.Addr) bool {
	k := m.marks[t]
	h := k.hearing(by, from)
	if h.echoes >= k.expected(h) {
		return false
	}
	h.echoes++
	return true
}

// expected is how often a trace may come of a source in all.
func (k *mark) expected(of *hearing) int {
	n := k.sent
	for i := range k.heard {
		if h := &k.heard[i]; h.by == of.by && h.from != of.from {
			n += h.originals
		}
	}
	return n
}

func (k *mark) hearing(by *receiveRule, from netip.Addr) *hearing {
	for i := range k.heard {
		if h := &k.heard[i]; h.by == by && h.from == from {
			return h
		}
	}
	k.heard = append(k.heard, hearing{by: by, from: from})
	return &k.heard[len(k.heard)-1]
}

func (m *memory) mark(t trace) *mark {
	k := m.marks[t]
	if k == nil {
		k = new(mark)
		m.marks[t] = k
	}
	return k
}

// note puts a memo behind the others. Beyond the limit the oldest is forgotten.
func (m *memory) note(x memo) {
	if m.tail-m.head == uint64(m.max) {
		m.forget()
	}
	if m.tail-m.head == uint64(len(m.ring)) {
		m.grow()
	}
	m.ring[m.tail&uint64(len(m.ring)-1)] = x
	m.tail++
}

func (m *memory) expire(now time.Time) {
	for m.head < m.tail && m.ring[m.head&uint64(len(m.ring)-1)].until.Before(now) {
		m.forget()
	}
}

// forget drops the oldest memo. Equal traces are one as good as another, so what
// came back stands for the oldest.
func (m *memory) forget() {
	x := m.ring[m.head&uint64(len(m.ring)-1)]
	m.head++
	k := m.marks[x.trace]
	if x.by == nil {
		k.sent--
	} else {
		k.hearing(x.by, x.from).originals--
	}
	left := k.sent
	for i := range k.heard {
		h := &k.heard[i]
		left += h.originals
		if expected := x.by == nil || h.by == x.by && h.from != x.from; expected && h.echoes > 0 {
			h.echoes--
		}
	}
	if left == 0 {
		delete(m.marks, x.trace)
	}
}

func (m *memory) grow() {
	old := m.ring
	m.ring = make([]memo, max(64, 2*len(old)))
	for i := m.head; i < m.tail; i++ {
		m.ring[i&uint64(len(m.ring)-1)] = old[i&uint64(len(old)-1)]
	}
}

// breaker stops a rule that publishes the same over and over.
type breaker struct {
	limit int // a second; 0: none

	mu    sync.Mutex
	start time.Time     // of the second that is counted
	over  bool          // the limit was passed within it
	hot   int           // seconds in a row in which it was
	votes *[64]vote     // nil until the first message
	until time.Time     // the rule rests until then
	rest  time.Duration // how long it rested last
}

// hotSeconds is how long a rule may pass its limit: a burst ends by itself.
const hotSeconds = 3

// A vote is the fingerprint that leads in its part of all fingerprints, and its
// lead: one that makes up most of a storm wins, whatever comes between.
type vote struct {
	print uint64
	lead  int32
}

// How long a rule that ran away rests: longer each time, unless it has behaved
// for as long as the longest rest in between.
const (
	minRest = 10 * time.Second
	maxRest = 10 * time.Minute
)

// resting says until when the rule rests; the zero time if it does not.
func (b *breaker) resting(now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) {
		return b.until
	}
	return time.Time{}
}

// admit says whether a message may go on, and if not, whether it is the one that
// opens the breaker.
func (b *breaker) admit(print uint64, now time.Time) (ok, opens bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) {
		return false, false
	}
	b.tick(now)
	v := &b.votes[print%uint64(len(b.votes))]
	switch {
	case v.print == print:
		v.lead++
	case v.lead == 0:
		*v = vote{print, 1}
	default:
		v.lead--
	}
	if int(v.lead) > b.limit && !b.over {
		b.over = true
		b.hot++
	}
	if b.hot < hotSeconds {
		return true, false
	}
	b.open(now)
	return false, true
}

// tick begins a new second.
func (b *breaker) tick(now time.Time) {
	switch gone := now.Sub(b.start); {
	case b.votes == nil:
		b.votes = new([64]vote)
	case gone < time.Second:
		return
	case gone >= 2*time.Second || !b.over:
		b.hot = 0
	}
	b.start, b.over = now, false
	clear(b.votes[:])
}

// open has the rule rest.
func (b *breaker) open(now time.Time) {
	if now.Sub(b.until) > maxRest {
		b.rest = 0
	}
	b.rest = min(max(minRest, 2*b.rest), maxRest)
	b.until = now.Add(b.rest)
	b.start, b.hot, b.over = now, 0, false
	clear(b.votes[:])
}
