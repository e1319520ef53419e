package spool

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// A Queue holds the records of one rule. Append may be called from any
// goroutine; Front and Remove from one at a time.
type Queue struct {
	spool  *Spool
	name   string
	bucket []byte

	records, bytes atomic.Int64 // pending records included

	// Of the committing goroutine.
	next uint64 // number of the next record
	goal uint64 // records before this one are to be removed from disk

	removing bool // is in the spool's removing; guarded by the spool's mutex

	mu    sync.Mutex
	head  uint64  // the first record that is not removed
	taken []place // what Front returned and Remove has not removed
}

// A place is where a record lies and what it counts.
type place struct {
	number uint64
	bytes  int64
}

// Append adds a copy of r to the queue. It never waits for the disk: done is
// called, from another goroutine, with nil when the record is safely on disk,
// and with an error when it will not be: [ErrFull], [ErrTooLong], [ErrClosed],
// or what the disk said. Calls of done are in the order of the Appends. done
// must not block, for nothing is written meanwhile; it may be nil.
//
// It is false, and nothing has happened, while more than 8 MiB wait for a disk that
// is too slow. A record may count 1 MiB, and no more than the spool may hold.
func (q *Queue) Append(r Record, done func(error)) bool {
	s := q.spool
	size := int64(r.encodedLen() - recordHeader + Overhead)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		if done != nil {
			go done(ErrClosed) // not from here: the caller may hold a lock that done takes
		}
		return true
	}
	var err error
	switch {
	case s.closing:
		err = ErrClosed
	case !r.fits() || size > maxRecord || size > s.maxSize || len(q.bucket) > maxName:
		err = fmt.Errorf("%w: %d bytes", ErrTooLong, size)
	case s.bytes.Load()+size > s.maxSize:
		err = ErrFull
	case s.pending.bytes+size > pendingMax:
		return false
	}
	if err == nil {
		q.count(1, size)
		s.pending.add(q, &r, size, done)
	} else if done != nil {
		s.pending.refuse(q, err, done)
	}
	s.signal()
	return true
}

// Len is the number of records in the queue, with those not yet on disk.
func (q *Queue) Len() int { return int(q.records.Load()) }

// Bytes is what they hold: keys, topics, payloads, and [Overhead] for each.
func (q *Queue) Bytes() int64 { return q.bytes.Load() }

// count adds to the numbers of the queue and the spool.
func (q *Queue) count(records int, bytes int64) {
	q.records.Add(int64(records))
	q.bytes.Add(bytes)
	q.spool.records.Add(int64(records))
	q.spool.bytes.Add(bytes)
}

// Remove removes the first n of the records that Front returned last. The disk
// follows later: after a crash they may be there again.
func (q *Queue) Remove(n int) {
	q.mu.Lock()
	n = min(max(n, 0), len(q.taken))
	if n == 0 {
		q.mu.Unlock()
		return
	}
	var bytes int64
	for _, p := range q.taken[:n] {
		bytes += p.bytes
	}
	q.head = q.taken[n-1].number + 1
	q.taken = q.taken[n:]
	q.count(-n, -bytes)
	q.mu.Unlock()
	q.spool.removeMore(q)
}

// removeMore tells the committing goroutine that q has records to remove.
func (s *Spool) removeMore(q *Queue) {
	s.mu.Lock()
	if !q.removing {
		q.removing = true
		s.removing = append(s.removing, q)
	}
	s.mu.Unlock()
	s.signal()
}
