package spill

import (
	"sync/atomic"

	"topicast/bridge/spool"
)

// A Spool is a spool that the rules of both directions share. None takes more of it than
// mostOfFree times what is free then. So a rule that is away for long stops at 7/8 and leaves
// the rest to those that are away for a moment, each of which stops at 7/8 of that, however many
// rules there are; and where many are away for long each has as much as the others. A rule
// that is the only one has all.
type Spool struct {
	*spool.Spool
	rules atomic.Int64 // that use it
}

const mostOfFree = 7

// Share has rules share a spool; nil: there is none.
func Share(on *spool.Spool) *Spool {
	if on == nil {
		return nil
	}
	return &Spool{Spool: on}
}

// hasRoom reports whether there is room for one more record of a queue. Callers hold the
// Queues' mu.
func (q *Queue) hasRoom(r *spool.Record) bool {
	on, size := q.of.o.Spool, recordSize(r)
	if on.rules.Load() < 2 || size > on.MaxSize() || on.Err() != nil {
		return true // else the spool says so itself
	}
	used := size - q.twice
	for _, p := range q.pieces {
		used += p.Bytes()
	}
	free := on.MaxSize() - (on.Bytes() - on.Copies(0)) - size
	return used <= mostOfFree*free
}

// recordSize is what a record counts.
func recordSize(r *spool.Record) int64 {
	return int64(len(r.Key) + len(r.Topic) + len(r.Payload) + spool.Overhead)
}
