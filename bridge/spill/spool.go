package spill

import (
	"sync"
	"sync/atomic"

	"topicast/bridge/spool"
)

// A Spool is a spool that the rules of both directions share. A quarter of it is kept for
// them, the same part for each, and the rest is for whoever comes first: so no rule that is
// away for long takes all the room of one that is away for a moment. A rule that is the only
// one has all of it.
type Spool struct {
	*spool.Spool
	part   atomic.Int64 // bytes that are kept for each rule
	common atomic.Int64 // bytes for whoever comes first
	shared atomic.Int64 // bytes of these that are taken

	mu sync.Mutex // held while it is divided anew
	of []*Queues
}

// keptOf says which part of a spool is kept for the rules: one of so many.
const keptOf = 4

// Share has rules share a spool; nil: there is none.
func Share(on *spool.Spool) *Spool {
	if on == nil {
		return nil
	}
	s := &Spool{Spool: on}
	s.common.Store(on.MaxSize())
	return s
}

// divide shares the room out among the rules that there are.
func (s *Spool) divide() {
	s.mu.Lock()
	defer s.mu.Unlock()
	rules := int64(0)
	for _, q := range s.of {
		rules += int64(q.count())
	}
	part := s.MaxSize()
	if rules > 1 {
		part /= keptOf * rules
	}
	s.part.Store(part)
	s.common.Store(s.MaxSize() - rules*part)
	for _, q := range s.of {
		q.recount()
	}
}

func (s *Queues) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queues)
}

// recount finds out what the queues have beyond their parts.
func (s *Queues) recount() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.recount()
	}
	alone := int64(0)
	lone, _ := s.lone()
	for _, p := range lone {
		alone += p.Bytes()
	}
	s.o.Spool.shared.Add(alone - s.alone)
	s.alone = alone
}

// bytes is what the queue counts in the spool. Callers hold the Queues' mu.
func (q *Queue) bytes() (n int64) {
	for _, p := range q.parts {
		n += p.Bytes()
	}
	return n - q.twice
}

// recount takes note of how much the queue has beyond its part. Callers hold the Queues' mu.
func (q *Queue) recount() {
	on := q.of.o.Spool
	beyond := max(q.bytes()-on.part.Load(), 0)
	on.shared.Add(beyond - q.beyond)
	q.beyond = beyond
}

// hasRoom reports whether there is room for a record, and takes it if there is. Callers hold
// the Queues' mu.
func (q *Queue) hasRoom(r *spool.Record) bool {
	on, size := q.of.o.Spool, recordSize(r)
	if size > on.MaxSize() || on.Err() != nil {
		return true // which the spool finds out itself
	}
	beyond := max(q.bytes()+size-on.part.Load(), 0)
	more := beyond - q.beyond
	if on.shared.Add(more) > on.common.Load() && more > 0 {
		on.shared.Add(-more)
		return false
	}
	q.beyond = beyond
	return true
}

// recordSize is what a record counts.
func recordSize(r *spool.Record) int64 {
	return int64(len(r.Key) + len(r.Topic) + len(r.Payload) + spool.Overhead)
}
