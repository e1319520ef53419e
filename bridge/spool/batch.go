package spool

import (
	"math"
	"time"
)

// A batch is what is committed together: records in the order they were
// appended, and between them, in their place, the appends that were refused.
type batch struct {
	entries []entry
	slabs   [][]byte // in which the encoded records lie
	bytes   int64    // what the records count
	memory  int64    // and what the entries take
}

type entry struct {
	queue  *Queue
	number uint64
	frame  []byte // encoded, but for what only its place in a file tells
	bytes  int64  // what it counts
	err    error  // refused, or not written
	done   func(error)
	copied bool // it is one of a record that was there before
	gone   bool // removed before it was written
}

// memory is about what it takes.
func (e *entry) memory() int64 { return e.bytes + entryCost }

func (b *batch) add(q *Queue, number uint64, r *Record, at time.Duration, bytes int64, done func(error)) {
	copied := r.Came != 0
	if copied {
		q.spool.copying++
	}
	frame := appendFrame(b.room(r.frameLength(q.name), &q.spool.slabs), q.name, r, at)
	b.bytes += bytes
	b.enter(entry{queue: q, number: number, frame: frame, bytes: bytes, copied: copied, done: done})
}

func (b *batch) enter(e entry) {
	b.memory += e.memory()
	b.entries = append(b.entries, e)
}

func (b *batch) refuse(q *Queue, err error, done func(error)) {
	b.enter(entry{queue: q, err: err, done: done})
}

// emptied is the batch without its entries, and with what they lay in if that is not
// too much to keep. Callers have given its slabs away.
func (b *batch) emptied() batch {
	const keep = 1 << 13
	if cap(b.entries) > keep {
		return batch{}
	}
	clear(b.entries) // let go of what they point to
	return batch{entries: b.entries[:0]}
}

// shift moves its records on the timeline.
func (b *batch) shift(by time.Duration) {
	for _, e := range b.entries {
		if e.err == nil {
			shift(e.frame, by)
		}
	}
}

// first is the least number of a record of q; the largest that there is, if it has
// none.
func (b *batch) first(q *Queue) uint64 {
	for _, e := range b.entries {
		if e.queue == q && e.err == nil {
			return e.number
		}
	}
	return math.MaxUint64
}

// renumber adds to the numbers of the records of q.
func (b *batch) renumber(q *Queue, larger uint64) {
	for i := range b.entries {
		if e := &b.entries[i]; e.queue == q {
			e.number += larger
		}
	}
}

// before puts other entries after its own.
func (b *batch) before(others *batch) {
	b.slabs = append(b.slabs, others.slabs...)
	b.entries = append(b.entries, others.entries...)
	b.bytes += others.bytes
	b.memory += others.memory
}

// waits reports whether a record is to be written: it is neither refused nor gone.
func (e *entry) waits() bool { return e.err == nil && !e.gone }

// written takes note that all that waits is on disk. Callers hold the spool's mutex.
func (b *batch) written() {
	for i := range b.entries {
		if e := &b.entries[i]; e.waits() {
			e.decided()
		}
	}
}

// decided takes note that a record is on disk, or never will be. Callers hold the spool's
// mutex.
func (e *entry) decided() {
	if s := e.queue.spool; e.copied {
		e.copied = false
		if s.copying--; s.copying == 0 {
			s.release()
		}
	}
}

// markRemoved takes note of the records that were removed before they were written.
// Callers hold the spool's mutex.
func (b *batch) markRemoved() {
	for i := range b.entries {
		if e := &b.entries[i]; e.waits() && e.number < e.queue.head {
			e.gone = true
			b.bytes -= e.bytes
			e.decided()
		}
	}
}

// split parts the entries that are decided, which are done with, from those that are
// not, which keep the slabs.
func (b *batch) split() (decided batch) {
	left := b.entries[:0]
	for _, e := range b.entries {
		if !e.waits() {
			b.memory -= e.memory()
			decided.entries = append(decided.entries, e)
		} else {
			left = append(left, e)
		}
	}
	clear(b.entries[len(left):])
	b.entries = left
	return decided
}

// refuseAll decides the entries that are not yet: they are refused. Callers hold the
// spool's mutex.
func (b *batch) refuseAll(why error) {
	for i := range b.entries {
		if e := &b.entries[i]; e.waits() {
			e.queue.count(-1, -e.bytes)
			e.err = why
			e.decided()
		}
	}
	b.bytes = 0
}
