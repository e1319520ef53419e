package receive

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"topicast/bridge/loopguard"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
)

// Steps 3 to 5 of the way of a message that the broker cannot take now (publishspool.go).

// WakePump wakes the pump.
func (p *Path) WakePump() {
	select {
	case p.pumpWake <- struct{}{}:
	default:
	}
}

// Pump publishes what is on disk, while there is a connection, and trims the copies. Each rule
// has one batch on its way at a time, and waits for no other's: a message that the broker
// does not take holds up its own rule.
func (p *Path) Pump(ctx context.Context) {
	var inflight []*inflightBatch
	defer func() {
		for _, f := range inflight {
			f.spool.busy = false
			f.front.Remove(0) // it stays on disk, and is published again another time
		}
	}()
	for more := false; ; {
		if !more {
			select {
			case <-ctx.Done():
				return
			case <-p.pumpWake:
			}
		}
		if p.unspilled.Swap(false) {
			p.spillAgain()
		}
		if p.untrimmed.Swap(false) {
			p.working.Load().trim()
		}
		inflight = slices.DeleteFunc(inflight, (*inflightBatch).settled)
		if p.discards.Swap(false) {
			p.discard(inflight)
		}
		more = false
		if p.online.Load() && ctx.Err() == nil {
			inflight, more = p.launch(inflight, p.working.Load().spools)
		}
	}
}

// SpillAgain has the disk tried again for what it turned away: nothing need tell that it is well.
func (p *Path) SpillAgain() {
	if p.unspilled.Load() {
		p.WakePump()
	}
}

// spillAgain moves to the disk what it has turned away, for it had too much of others.
func (p *Path) spillAgain() {
	for _, s := range p.working.Load().allSpools() {
		if s.waiting.Load() > 0 {
			s.mu.Lock()
			s.spill()
			s.mu.Unlock()
		}
	}
}

// inflightBytes bounds what the batches on their way hold in memory, as far as it can be
// known before: it is looked at between two rules. Those that are left out are the first the
// next time. inflightCost is what a message takes there, and in the session, beside its payload.
const (
	inflightBytes = 2 << 20
	inflightCost  = 384
)

// inflightSize is how many messages a rule publishes at a time, at most.
const inflightSize = 256

// inflightShare is how many messages each of so many rules publishes at a time: all of them have
// some on their way, so that none waits for what the broker does not take of another. It is of
// one half of the room. The other is for those that have little left, which so do not wait until
// the others have as little.
func inflightShare(rules int) int {
	return min(max(inflightBytes/2/inflightCost/max(rules, 1), 1), inflightSize)
}

// inflightMore is how many messages more a rule publishes that has so many on disk, where others
// have so many more on their way already.
func inflightMore(left, others int) int {
	if left > spill.LowWater {
		return 0
	}
	return max(inflightBytes/2/inflightCost-others, 0) / 4
}

// launch publishes from the front of what each rule has on disk that has no batch on its
// way. It reports whether to look again at once.
func (p *Path) launch(inflight []*inflightBatch, spools []*publishSpool) (now []*inflightBatch, more bool) {
	bytes, rules, beyond := 0, 0, 0
	for _, f := range inflight {
		bytes += f.bytes
		beyond += f.beyond
	}
	for _, s := range spools {
		if s.state.Load() != direct {
			rules++
		}
	}
	first, share := p.pumpFirst, inflightShare(rules)
	for i := range spools {
		at := (first + i) % len(spools)
		s := spools[at]
		if s.state.Load() == direct || s.busy {
			continue
		}
		if bytes > inflightBytes {
			p.pumpFirst = at
			break
		}
		f := s.readBatch(min(share+inflightMore(s.queue.Len(), beyond), inflightSize))
		more = more || f.front.Lost > 0
		if len(f.publications) == 0 {
			more = s.finish() || more
			continue
		}
		f.beyond = max(len(f.publications)-share, 0)
		bytes, beyond = bytes+f.bytes, beyond+f.beyond
		s.busy = true
		inflight = append(inflight, f)
		p.publisher.PublishBatch(f.publications)
	}
	return inflight, more
}

// inflightBatch is a part of what is on disk, on its way to the broker.
type inflightBatch struct {
	spool        *publishSpool
	front        spill.Batch
	publications []session.Publication
	bytes        int
	beyond       int  // messages beyond the share of the rule
	stopped      bool // the session has ended; valid when none is left

	left atomic.Int64 // that the session has told nothing of
}

// readBatch reads from the front of what is on disk, so many messages at most.
func (s *publishSpool) readBatch(most int) *inflightBatch {
	f := &inflightBatch{spool: s}
	// What another rule had when the round began may just be on its way for that.
	f.front, _ = s.queue.TryFront(make([]spool.Record, max(min(most, s.queue.Len()), 1)))
	f.publications = make([]session.Publication, 0, len(f.front.Records))
	for _, record := range f.front.Records {
		m := session.Publication{Topic: record.Topic, Payload: record.Payload,
			QoS: record.Flags & flagsQoS, Retain: record.Flags&flagsRetain != 0, Origin: f, Queue: s.budget}
		key, properties, has := strings.Cut(record.Key, propertiesMark)
		if has {
			m.Properties = session.ReadProperties([]byte(properties))
		}
		if key != "" {
			s.expectBack(&m, key, time.Now())
		}
		f.publications = append(f.publications, m)
		f.bytes += len(record.Topic) + len(record.Payload) + len(m.Properties) + inflightCost
		s.rule.Load().reportSpooled(m.Topic, m.Payload, record.Age)
	}
	f.left.Store(int64(len(f.publications)))
	return f
}

// expectBack has the loop guard know a message that is about to be published.
func (s *publishSpool) expectBack(m *session.Publication, key string, now time.Time) {
	var k loopKey
	on, group, _ := strings.Cut(key, " ")
	index, err := strconv.ParseInt(on, 10, 32)
	if err == nil {
		k.group, err = netip.ParseAddrPort(group)
	}
	if guard := s.path.dedup; err == nil && guard != nil && s.path.returns(string(m.Topic)) {
		guard.Add(loopguard.PublishedDigest(int32(index), k.group, m.Topic, m.Payload), now)
	}
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

// Refused implements session.Refuser. Until the message is kept elsewhere the batch is not
// done, and stays on disk.
func (f *inflightBatch) Refused(m *session.Publication, why error) {
	f.left.Add(1)
	f.spool.rule.Load().refused(m, why, func() { f.finish(1) })
}

func (f *inflightBatch) finish(n int) {
	if f.left.Add(-int64(n)) == 0 {
		f.spool.path.WakePump()
	}
	f.spool.path.settled.Notify()
}

// settled reports whether the session has told of all of a batch; then the disk forgets it,
// unless the session has ended.
func (f *inflightBatch) settled() bool {
	if f.left.Load() > 0 {
		return false
	}
	f.spool.busy = false
	switch {
	case f.stopped:
		f.front.Remove(0)
	default:
		f.front.Remove(len(f.publications))
		f.spool.finish()
	}
	return true
}

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
	case left <= spill.LowWater && s.flowing():
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
		s.rule.Load().reportSpooled(p.topic, p.payload, time.Since(p.at))
		batch[i] = session.Publication{Topic: p.topic, Payload: p.payload, QoS: p.flags & flagsQoS, Retain: p.flags&flagsRetain != 0, Properties: p.properties, Origin: s.rule.Load(), Queue: s.budget}
		if p.loopKey != "" {
			s.expectBack(&batch[i], p.loopKey, time.Now())
		}
	}
	s.budget.Release(0, len(batch)*pendingCost)
	s.path.publisher.PublishBatch(batch)
	s.pending = nil
	s.waiting.Store(0)
	s.state.Store(direct)
	s.findOnDisk() // should a reload just have given it more
	s.path.settled.Notify()
	return true
}
