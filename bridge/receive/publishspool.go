package receive

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/bridge/tap"
)

// What the broker cannot take now, of QoS 1 and 2. The way of a message:
//
//	encode (path.go)
//	  1 offer   into the spool's pending messages, in memory, while the broker is away
//	            or queues fill up, and until all is published that is in the spool
//	  2 spill   from memory to the disk
//	  3 pump    one goroutine for all rules, while there is a connection: the
//	            front of what each has on disk, published (pump.go)
//	  4 Published   of a batch: the broker has it, and the disk may forget it
//	  5 finish  little is left on disk: what comes now stays in memory, and
//	            goes on from there
//
// All of a rule goes through the spool while any of it does, so its order is kept. Of what
// goes straight, and the broker does not acknowledge, there are copies (copies.go).
type publishSpool struct {
	path       *Path
	rule       atomic.Pointer[Rule] // that takes it now
	budget     *account.RuleBudget  // that of its rules
	queue      *spill.Queue
	tell       func(error)               // stored, made once
	copies     atomic.Pointer[copies]    // of what this process has handed to the session; see copies.go
	busy       bool                      // of the pump: a batch is on its way
	discarding atomic.Pointer[time.Time] // what came before is to be discarded by the pump; nil: nothing is
	full       atomic.Bool               // there was no room for the copy that was asked for last

	state   atomic.Int32 // of the states below; changed under mu, but from direct to spilling
	waiting atomic.Int64 // how many are pending: readers must not wait for mu, which is held while the broker is slow

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
	properties     []byte
	flags          byte   // as the record on disk has it
	loopKey        string // where it comes back; "": it does not
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
	s := &publishSpool{path: p, budget: p.budget.ForRule(), queue: p.spill.New(p.WakePump)}
	s.tell = s.stored
	return s
}

// kept describes the rule for package spill. Only building a generation calls it.
func (r *Rule) kept() spill.Rule {
	if r.is == 0 {
		is := []string{r.Topic.String(), r.Interface}
		for _, g := range r.Groups {
			is = append(is, g.String())
		}
		if r.Port != 0 {
			is = append(is, r.Heard())
		}
		r.is = spill.Identity(is...)
	}
	return spill.Rule{Name: r.Name, Common: r.Common, Is: r.is, MaxAge: r.path.maxAge, Losses: &r.Counters}
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

// flowing is that of the path, or the rule has little waiting itself: less than half of what
// is kept for it. What others have waiting stands before nothing of it then, for the session
// has them take turns; by the disk it would stand behind what they write there.
func (s *publishSpool) flowing() bool {
	if s.path.flowing() {
		return true
	}
	kept, _ := s.path.budget.Kept()
	return s.path.online.Load() && s.budget.Used() <= kept/2
}

// offer reports whether a message goes into the spool, and puts it there. b is the
// batch it would be published with.
func (s *publishSpool) offer(t *ruleTopic, payload, properties []byte, a *arrival, b *batch) bool {
	if s.state.Load() == direct && s.flowing() {
		return false
	}
	s.path.flush(b) // what came before goes first
	s.mu.Lock()
	defer s.mu.Unlock()
	switch flowing := s.flowing(); {
	case !flowing:
		s.state.Store(spilling)
	case s.state.Load() == direct:
		return false
	}
	if s.add(t, payload, properties, a) && s.path.tap.On() {
		s.rule.Load().report(tap.Waiting, t.name, a, payload, "", s.whyWaiting())
	}
	s.spill()
	s.watchPending()
	return true
}

// add puts a message behind the pending ones, or where there is no room in memory
// on disk at once. It is false if there is none, and that is counted. Callers hold mu.
func (s *publishSpool) add(t *ruleTopic, payload, properties []byte, a *arrival) bool {
	r := s.rule.Load()
	p := pendingMessage{at: a.At, topic: t.name, payload: payload, properties: properties, flags: flagsOf(r.QoS, r.Retain)}
	if t.returns.Load() {
		p.loopKey = loopKey{a.on, a.To}.String()
	}
	if s.state.Load() == spilling && len(s.pending) == 0 && s.queue.Append(p.record(), s.tell) {
		return true // without a copy that is garbage at once
	}
	if !s.budget.Acquire(p.size()) {
		s.state.Store(spilling)
		s.spill()
		if len(s.pending) > 0 || !s.queue.Append(p.record(), s.tell) {
			r.failures.Add(1)
			r.dropFull(t.name, a, payload)
			return false
		}
		return true
	}
	p.payload, p.properties = bytes.Clone(payload), bytes.Clone(properties)
	s.pending = append(s.pending, p)
	s.waiting.Store(int64(len(s.pending)))
	return true
}

// spill moves the pending messages to the disk, as far as that takes it. Callers hold mu.
func (s *publishSpool) spill() {
	n := 0
	for ; n < len(s.pending) && s.state.Load() == spilling; n++ {
		p := &s.pending[n]
		if !s.queue.Append(p.record(), s.tell) {
			s.path.unspilled.Store(true)
			break
		}
		s.budget.Release(1, p.size())
	}
	clear(s.pending[:n])
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
	}
	s.waiting.Store(int64(len(s.pending)))
}

// size is how many bytes of the budget it takes.
func (p *pendingMessage) size() int {
	return len(p.topic) + len(p.payload) + len(p.properties) + pendingCost
}

// pendingCost is what it takes more than one that the session has: it lies in a slice that grows,
// with room for more.
const pendingCost = 72

// key is what the record says beside the message: where it comes back, and its properties.
func (p *pendingMessage) key() string {
	if len(p.properties) == 0 {
		return p.loopKey
	}
	return p.loopKey + propertiesMark + string(p.properties)
}

// propertiesMark stands between the two.
const propertiesMark = "\x00"

func (p *pendingMessage) record() spool.Record {
	return spool.Record{Age: time.Since(p.at), Topic: p.topic, Payload: p.payload, Flags: p.flags, Key: p.key()}
}

// loopKey is where a message comes back as a datagram, by a rule on a cycle: the loop
// guard has to know it when it is published, which may be much later.
type loopKey struct {
	on    int32 // index of the interface
	group netip.AddrPort
}

func (k loopKey) String() string { return fmt.Sprintf("%d %s", k.on, k.group) }

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

// empty reports whether nothing waits in memory, and the session has nothing of which there
// are copies.
func (s *publishSpool) empty() bool { return s.waiting.Load() == 0 && s.copied() == 0 }

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
		return // the holder of the lock spills or publishes them
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
