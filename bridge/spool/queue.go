package spool

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// A Queue holds the records of one rule. Append may be called from any
// goroutine; Front and Remove from one at a time.
type Queue struct {
	spool *Spool
	name  string

	// Pending records included, and those that are lost, until Front has told of them.
	// Written under the spool's mutex.
	records, bytes atomic.Int64

	// Under the spool's mutex.
	next     uint64        // number of the next record; of those that are not kept it stays unused
	head     uint64        // the first record that is not removed
	last     time.Duration // when the last record came
	removing bool          // is in the spool's removing
	taken    []place       // what Front returned and Remove has not removed
}

// A place is a record that was read, what it counts, and how long it is on disk.
type place struct {
	number uint64
	bytes  int64
	length int
}

const maxName = math.MaxInt16

// Append adds a copy of r to the queue. It never waits for the disk: done is
// called, from another goroutine, with nil when the record is safely on disk, or
// removed, and with an error when it will not be: [ErrFull], [ErrTooLong] or
// [ErrClosed]. Calls of done are in the order of the Appends to a queue. done
// must not block, for nothing is written meanwhile; it may be nil.
//
// It is not ok, and nothing has happened, while 8 MiB wait for a disk that
// is too slow, and while the spool cannot be used ([Spool.Err]). A record may count 1 MiB, and no more than the spool may hold.
//
// came is when the record came, as it will say; 0: it is refused, as done is told.
func (q *Queue) Append(r Record, done func(error)) (came time.Duration, ok bool) {
	s := q.spool
	size := r.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		if done != nil {
			go done(ErrClosed) // not from here: the caller may hold a lock that done takes
		}
		return 0, true
	}
	var err error
	switch {
	case s.closing:
		err = ErrClosed
	case !r.fits() || size > maxRecord || size > s.maxSize || len(q.name) > maxName:
		err = fmt.Errorf("%w: %d bytes", ErrTooLong, size)
	case s.Err() != nil || !s.takes(size):
		return 0, false
	case s.bytes.Load()-s.copies.Load()+size > s.maxSize:
		err = ErrFull
	}
	if err == nil {
		came = q.came(&r)
		s.number(q)
		s.pending.add(q, q.next, &r, came+s.shifted(), size, done)
		s.undecided.Add(1)
		q.next++
		q.count(1, size)
	} else if done != nil {
		s.undecided.Add(1)
		s.pending.refuse(q, err, done)
	}
	s.signal()
	return came, true
}

// Takes reports whether what waits for the disk leaves room for a record that counts so many
// bytes; or the spool cannot be used, so that nothing is to be waited for.
func (s *Spool) Takes(bytes int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Err() != nil || s.takes(bytes)
}

// takes reports whether what waits leaves room for a record that counts so many bytes. Callers
// hold mu.
func (s *Spool) takes(bytes int64) bool {
	return s.pending.memory+s.writing+bytes+entryCost <= pendingMax
}

// Refuse has done told err, in its turn after what was appended before, of a record that the
// caller does not append. It is what Append does with one that it cannot take. It is not ok, and
// nothing has happened, while as much waits as may.
func (q *Queue) Refuse(err error, done func(error)) (ok bool) {
	s := q.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		go done(ErrClosed)
		return true
	case s.closing:
		err = ErrClosed
	case !s.takes(0):
		return false
	}
	s.undecided.Add(1)
	s.pending.refuse(q, err, done)
	s.signal()
	return true
}

// number has the next record of a queue of which nothing is known have a number that none
// had before. Callers hold mu.
func (s *Spool) number(q *Queue) {
	if q.Len() == 0 && s.store != nil && s.store.queues[q] == nil && q.next < s.store.first {
		q.next, q.head = s.store.first, s.store.first
	}
}

// atOnce is how far apart records may have come that a caller appends in the order
// in which they came, and that seem not to have: their ages are not taken at the
// same moment.
const atOnce = time.Second

// came is when a record came. No two that are new to the spool came at the same
// time. Callers hold the spool's mutex.
func (q *Queue) came(r *Record) time.Duration {
	if r.Came != 0 {
		return r.Came
	}
	came := q.spool.time.now() - q.spool.shifted() - r.Age
	if came <= q.last && came > q.last-atOnce {
		came = q.last + 1
	}
	q.last = max(q.last, came)
	return came
}

// Len is the number of records in the queue, with those not yet on disk.
func (q *Queue) Len() int { return int(q.records.Load()) }

// Bytes is what they hold: keys, topics, payloads, and [Overhead] for each.
func (q *Queue) Bytes() int64 { return q.bytes.Load() }

// count adds to the numbers of the queue and the spool. Callers hold the spool's mutex.
func (q *Queue) count(records int, bytes int64) {
	if q.records.Add(int64(records)) == 0 {
		bytes = -q.bytes.Load() // nobody knows what a record counts that cannot be read
	}
	q.bytes.Add(bytes)
	q.spool.records.Add(int64(records))
	q.spool.bytes.Add(bytes)
}

// Remove removes the first n of the records that Front returned last. The disk
// follows later: after a crash they may be there again.
func (q *Queue) Remove(n int) { q.removeFirst(n, false) }

// RemoveCopied is Remove of records that have just been appended again, as Front returned
// them. They stay on disk until their copies are.
func (q *Queue) RemoveCopied(n int) { q.removeFirst(n, true) }

func (q *Queue) removeFirst(n int, copied bool) {
	s := q.spool
	s.swap.RLock()
	s.mu.Lock()
	if n = min(max(n, 0), len(q.taken)); n > 0 {
		if copied && s.copying > 0 && s.store != nil {
			s.hold(q, q.taken[:n])
		}
		s.remove(q, q.taken[:n], q.taken[n-1].number+1)
		q.taken = q.taken[n:]
	}
	s.mu.Unlock()
	s.swap.RUnlock()
	if n > 0 {
		s.signal()
	}
}

// remove removes records in front of a queue, up to the one that is its head now, and has
// the committing goroutine know. Callers hold mu.
func (s *Spool) remove(q *Queue, places []place, head uint64) {
	for _, p := range places {
		if s.store != nil {
			s.store.remove(q, p)
		}
		q.count(-1, -p.bytes)
	}
	q.head = head
	if s.store != nil && s.store.queues[q] != nil {
		s.store.queues[q].head = head
	}
	s.noteLater(q)
	s.gone = s.gone || s.Err() != nil
}

// hold has the disk keep records that are to be removed until the copies of them that wait
// are there, too. Callers hold mu.
func (s *Spool) hold(q *Queue, places []place) {
	d := s.store.queues[q]
	if d == nil {
		return
	}
	if !d.held {
		d.held, d.settled = true, d.head
		s.held = append(s.held, q)
	}
	left := len(places)
	for _, g := range d.segments {
		if left <= 0 {
			break
		}
		g.held = true
		left -= int(g.index[q].n)
	}
}

// release lets go of what was held: the copies are on disk. Callers hold mu.
func (s *Spool) release() {
	if len(s.held) == 0 {
		return
	}
	for _, q := range s.held {
		if s.store != nil && s.store.queues[q] != nil {
			s.store.queues[q].held = false
		}
		s.noteLater(q)
	}
	s.held = nil
	if s.store != nil {
		for _, g := range s.store.segments {
			g.held = false
		}
	}
}

// noteLater has the committing goroutine note what is removed of a queue. Callers hold mu.
func (s *Spool) noteLater(q *Queue) {
	if !q.removing {
		q.removing = true
		s.removing = append(s.removing, q)
	}
}
