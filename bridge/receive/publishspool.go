package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
)

// What the broker cannot take now, of QoS 1 and 2. The way of a message, in the
// order of the functions below:
//
//	encode (path.go)
//	  1 offer   into the spool's pending messages, in memory, while the broker is away
//	            or queues fill up, and until all is published that is in the spool
//	  2 spill   from memory to the disk
//	  3 pump    one goroutine for all rules, while there is a connection: the
//	            front of what each has on disk, published
//	  4 Published   of a batch: the broker has it, and the disk may forget it
//	  5 finish  little is left on disk: what comes now stays in memory, and
//	            goes on from there
//
// All of a rule goes through the spool while any of it does, so its order is kept. Of what
// goes straight, and the broker does not acknowledge, there are copies (copies.go).
type publishSpool struct {
	path   *Path
	rule   atomic.Pointer[Rule] // that takes it now
	budget *account.RuleBudget  // that of its rules
	queue  *spill.Queue
	copies atomic.Pointer[copies] // of what this process has handed to the session; see copies.go
	full   atomic.Bool            // there was no room for the copy that was asked for last

	state   atomic.Int32 // of the states below; changed under mu, but from direct to spilling
	waiting atomic.Int64 // how many are pending: who asks must not wait for mu, which is held while the broker is slow

	mu             sync.Mutex
	pendingWatched bool // what is pending is looked at in a while
	pending        []pendingMessage
}

// The states: where the next message goes.
const (
	direct    = iota // to the session
	spilling         // to the disk
	finishing        // to memory, to wait for the rest on disk
)

// pendingMessage is a message with memory of its own.
type pendingMessage struct {
	at             time.Time
	topic, payload []byte
	flags          byte   // as the record on disk has it
	loopKey        string // likewise
}

// The flags of a record: the quality of service, and whether the broker is to
// retain the message.
const (
	flagsQoS    = 3
	flagsRetain = 4
)

func flagsOf(qos byte, retain bool) byte {
	if retain {
		return qos | flagsRetain
	}
	return qos
}

func newPublishSpool(p *Path) *publishSpool {
	return &publishSpool{path: p, budget: p.budget.ForRule(), queue: p.spill.New(p.WakePump)}
}

// kept says what a rule is to package spill.
func (r *Rule) kept() spill.Rule {
	is := []string{r.Topic.String(), r.Interface}
	for _, g := range r.Groups {
		is = append(is, g.String())
	}
	return spill.Rule{Name: r.Name, Is: spill.Identity(is...), MaxAge: r.path.maxAge, Losses: &r.Counters}
}

// findOnDisk has what is on disk published, which may not have been there.
func (s *publishSpool) findOnDisk() {
	if s.queue.Len() > 0 {
		s.state.CompareAndSwap(direct, spilling)
	}
}

// onDisk is how many messages there are, with the copies.
func (s *publishSpool) onDisk() int { return s.queue.Len() + s.copied() }

// flowing reports whether the broker takes messages as they come: there is a
// connection, and no more waits for it than half of what is kept for that.
func (p *Path) flowing() bool {
	return p.online.Load() && p.budget.OfReceived() <= p.budget.Size()/8
}

// offer reports whether a message goes into the spool, and puts it there. b is the
// batch it would be published with.
func (s *publishSpool) offer(t *ruleTopic, payload []byte, a *arrival, b *batch) bool {
	if s.state.Load() == direct && s.path.flowing() {
		return false
	}
	s.path.flush(b) // what came before goes first
	s.mu.Lock()
	defer s.mu.Unlock()
	switch flowing := s.path.flowing(); {
	case !flowing:
		s.state.Store(spilling)
	case s.state.Load() == direct:
		return false
	}
	s.add(t, payload, a)
	s.spill()
	s.watchPending()
	return true
}

// add puts a message behind the pending ones, or where there is no room in memory
// on disk at once. Callers hold mu.
func (s *publishSpool) add(t *ruleTopic, payload []byte, a *arrival) {
	r := s.rule.Load()
	p := pendingMessage{at: a.At, topic: t.name, payload: payload, flags: flagsOf(r.QoS, r.Retain)}
	if t.returns.Load() {
		p.loopKey = loopKey{a.on, a.Group}.String()
	}
	if !s.budget.Acquire(len(payload)) {
		s.state.Store(spilling)
		s.spill()
		if len(s.pending) > 0 || !s.queue.Append(p.record(), s.stored) {
			r.failures.Add(1)
			r.dropFull(a)
		}
		return
	}
	p.payload = bytes.Clone(payload)
	s.pending = append(s.pending, p)
	s.waiting.Store(int64(len(s.pending)))
}

// spill moves the pending messages to the disk, as far as that takes it. Callers hold mu.
func (s *publishSpool) spill() {
	n := 0
	for ; n < len(s.pending) && s.state.Load() == spilling; n++ {
		p := &s.pending[n]
		if !s.queue.Append(p.record(), s.stored) {
			break
		}
		s.budget.Release(1, len(p.payload))
	}
	clear(s.pending[:n])
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
	}
	s.waiting.Store(int64(len(s.pending)))
}

func (p *pendingMessage) record() spool.Record {
	return spool.Record{Age: time.Since(p.at), Topic: p.topic, Payload: p.payload, Flags: p.flags, Key: p.loopKey}
}

// loopKey is where a message comes back as a datagram, by a rule on a cycle: the loop
// guard has to know it when it is published, which may be much later.
type loopKey struct {
	on    int32 // index of the interface
	group netip.AddrPort
}

func (k loopKey) String() string { return fmt.Sprintf("%d %s", k.on, k.group) }

// expectBack has the loop guard know a message that is about to be published.
func (s *publishSpool) expectBack(m *session.Publication, key string, now time.Time) {
	var k loopKey
	on, group, _ := strings.Cut(key, " ")
	index, err := strconv.ParseInt(on, 10, 32)
	if err == nil {
		k.group, err = netip.ParseAddrPort(group)
	}
	if guard := s.path.dedup; err == nil && guard != nil {
		guard.Add(loopguard.PublishedDigest(int32(index), k.group, m.Topic, m.Payload), now)
	}
}

// stored is called by the spool when a message is safe, or why it is not.
func (s *publishSpool) stored(err error) {
	if err != nil {
		s.rule.Load().unsaved(1, err)
	}
	s.roomAgain()
}

// roomAgain spills what there is room for again.
func (s *publishSpool) roomAgain() {
	// Whoever has the lock spills too, and may be waiting for a slow broker, which must
	// not keep the disk from others.
	if s.mu.TryLock() {
		s.spill()
		s.mu.Unlock()
	}
	s.path.settled.Notify()
	s.path.WakePump()
}

// WakePump wakes the pump.
func (p *Path) WakePump() {
	select {
	case p.pumpWake <- struct{}{}:
	default:
	}
}

// Pump publishes what is on disk, while there is a connection, and trims the copies.
func (p *Path) Pump(ctx context.Context) {
	trim := func() {
		if p.untrimmed.Swap(false) {
			p.working.Load().trim()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.pumpWake:
		}
		trim()
		for p.online.Load() && ctx.Err() == nil && p.round(ctx, p.working.Load().spools, trim) {
			trim()
		}
	}
}

// roundBytes bounds what one round of the pump holds in memory, as far as it can
// be known before: it is looked at between two rules.
const roundBytes = 4 << 20

// round publishes from the front of what each rule has on disk, and waits until
// the broker has it. It reports whether there was anything.
func (p *Path) round(ctx context.Context, spools []*publishSpool, trim func()) (any bool) {
	var batches []*inflightBatch
	bytes := 0
	for _, s := range spools {
		if s.state.Load() == direct || bytes > roundBytes {
			continue
		}
		f := s.readBatch()
		any = any || f.front.Lost > 0
		if len(f.publications) == 0 {
			any = s.finish() || any
			continue
		}
		bytes += f.bytes
		batches = append(batches, f)
		p.publisher.PublishBatch(f.publications)
	}
	for _, f := range batches {
		defer f.front.Remove(0)
	}
	for _, f := range batches {
		any = true
		if !p.await(ctx, f, trim) || f.stopped {
			return false // it stays on disk, and is published again another time
		}
		f.commit()
	}
	return any
}

// await waits until the broker has a batch. It is false if ctx ends before.
func (p *Path) await(ctx context.Context, f *inflightBatch, trim func()) bool {
	for {
		select {
		case <-f.done:
			return true
		case <-p.pumpWake:
			trim()
		case <-ctx.Done():
			return false
		}
	}
}

// inflightBatch is a part of what is on disk, on its way to the broker.
type inflightBatch struct {
	spool        *publishSpool
	front        spill.Batch
	publications []session.Publication
	bytes        int
	done         chan struct{}
	stopped      bool // the session has ended; valid when done is closed

	left atomic.Int64
}

// inflightSize is how many messages a rule publishes at a time, at most.
const inflightSize = 256

// readBatch reads from the front of what is on disk.
func (s *publishSpool) readBatch() *inflightBatch {
	f := &inflightBatch{spool: s, done: make(chan struct{})}
	var records [inflightSize]spool.Record
	// What another rule had when the round began may just be on its way for that.
	f.front, _ = s.queue.TryFront(records[:])
	for _, record := range f.front.Records {
		m := session.Publication{Topic: record.Topic, Payload: record.Payload,
			QoS: record.Flags & flagsQoS, Retain: record.Flags&flagsRetain != 0, Origin: f}
		if record.Key != "" {
			s.expectBack(&m, record.Key, time.Now())
		}
		f.publications = append(f.publications, m)
		f.bytes += len(record.Payload)
	}
	f.left.Store(int64(len(f.publications)))
	return f
}

// Published implements session.Origin: the broker has the next n messages.
func (f *inflightBatch) Published(n, bytes int) {
	f.spool.rule.Load().published.Add(uint64(n))
	f.finish(n)
}

// Lost implements session.Origin: the next n messages will not reach the broker,
// at least not by this session.
func (f *inflightBatch) Lost(n, bytes int, err error) {
	r := f.spool.rule.Load()
	if errors.Is(err, session.ErrStopped) {
		f.stopped = true // not lost: still on disk
	} else {
		r.unpublished(n, err)
	}
	f.finish(n)
}

func (f *inflightBatch) finish(n int) {
	if f.left.Add(-int64(n)) == 0 {
		close(f.done)
	}
	f.spool.path.settled.Notify()
}

// commit lets the disk forget what the broker has.
func (f *inflightBatch) commit() {
	f.front.Remove(len(f.publications))
	f.spool.finish()
}

// empty reports whether nothing waits in memory, and the session has nothing of which there
// are copies.
func (s *publishSpool) empty() bool { return s.waiting.Load() == 0 && s.copied() == 0 }

// finish ends the spooling if nothing is left on disk: the pending messages go on, and what
// comes after it goes straight. If little is left, what comes now waits for it. It
// reports whether the spooling has ended.
func (s *publishSpool) finish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.queue.Len()
	switch {
	case s.state.Load() == direct:
		return false
	case left <= spill.LowWater && s.path.flowing():
		s.state.Store(finishing)
	default:
		s.state.Store(spilling)
	}
	if left > 0 || s.state.Load() == spilling {
		s.spill()
		s.watchPending()
		return false
	}
	batch := make([]session.Publication, len(s.pending))
	for i, p := range s.pending {
		batch[i] = session.Publication{Topic: p.topic, Payload: p.payload, QoS: p.flags & flagsQoS, Retain: p.flags&flagsRetain != 0, Origin: s.rule.Load()}
	}
	s.path.publisher.PublishBatch(batch)
	s.pending = nil
	s.waiting.Store(0)
	s.state.Store(direct)
	s.findOnDisk() // should a reload just have given it more
	s.path.settled.Notify()
	return true
}

// lateTail is how long a message may wait in memory for the rest on disk. If it takes
// longer the broker does not answer, and a kill would take the message.
const lateTail = 750 * time.Millisecond

// watchPending sees to it that none waits for longer. Callers hold mu.
func (s *publishSpool) watchPending() {
	if s.state.Load() != finishing || len(s.pending) == 0 || s.pendingWatched {
		return
	}
	s.pendingWatched = true
	time.AfterFunc(lateTail-time.Since(s.pending[0].at), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pendingWatched = false
		if len(s.pending) > 0 && time.Since(s.pending[0].at) >= lateTail {
			s.state.Store(spilling)
			s.spill()
		}
		s.watchPending()
	})
}

// spillNow moves the pending messages to the disk: the connection has ended.
func (s *publishSpool) spillNow() {
	if s.waiting.Load() == 0 || !s.mu.TryLock() {
		return // who has the lock spills or publishes them
	}
	defer s.mu.Unlock()
	s.state.Store(spilling)
	s.spill()
}

// expireOld drops what is too old on disk while the broker is away.
func (s *publishSpool) expireOld() {
	s.mu.Lock()
	s.spill() // should the disk have had no room when something last came
	s.mu.Unlock()
	if !s.path.online.Load() { // else the pump does it
		s.queue.Expire()
	}
}

// spillAll moves the pending messages to the disk for good; it reports whether nothing is left.
func (s *publishSpool) spillAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.CompareAndSwap(finishing, spilling)
	s.spill()
	return len(s.pending) == 0
}
