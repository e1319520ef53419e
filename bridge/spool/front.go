package spool

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// frontBytes bounds what one Front returns, unless a single record is larger.
const frontBytes = 1 << 20

// Lost counts the records that Front left out and removed.
type Lost struct {
	Expired int // older than the age allowed
	Damaged int // not as they were written: a bad disk
}

// Front fills dst with the oldest records that are on disk and not removed, and
// returns how many they are. While the spool cannot be used those come too that wait
// for that: a disk that is gone for good keeps nothing back. Fewer than len(dst) does not mean that there are no
// more; none does. They share no memory with the spool. Asked again without
// Remove, it returns the same ones again.
//
// Records older than maxAge, unless it is 0, and damaged ones are left out,
// removed, and counted in lost. No change of the time of day makes a record older or
// younger.
func (q *Queue) Front(dst []Record, maxAge time.Duration) (n int, lost Lost) {
	q.mu.Lock()
	f := front{queue: q, dst: dst, now: q.spool.time.now(), maxAge: maxAge}
	q.taken = nil
	if len(dst) > 0 {
		q.spool.view(f.read)
		q.spool.readPending(&f)
	}
	removed := f.lost.Expired + f.lost.Damaged
	if removed > 0 {
		q.head = f.head
		q.count(-removed, -f.lostBytes)
	}
	q.taken = f.taken
	q.mu.Unlock()
	if removed > 0 {
		q.spool.removeMore(q)
	}
	return len(f.taken), f.lost
}

// A front is one call of Front.
type front struct {
	queue  *Queue
	dst    []Record
	now    time.Duration // on the timeline
	maxAge time.Duration

	next      uint64 // the number after the last that was looked at
	full      bool   // no more is to be taken
	taken     []place
	bytes     int64
	memory    []byte // where the records are copied to
	head      uint64 // after those that are lost
	lost      Lost
	lostBytes int64
}

func (f *front) read(tx *bolt.Tx) {
	bucket := tx.Bucket(f.queue.bucket)
	if bucket == nil {
		return
	}
	c := bucket.Cursor()
	start := binary.BigEndian.AppendUint64(nil, f.queue.head)
	for k, v := c.Seek(start); k != nil && !f.full; k, v = c.Next() {
		if number(k) >= numberLast {
			panic(fmt.Sprintf("queue %s: % x is not the number of a record", f.queue.name, k))
		}
		f.queue.spool.file.touched.Add(int64(len(v)))
		f.take(number(k), v)
	}
}

// readPending goes on with what waits in memory while the spool cannot be used.
func (s *Spool) readPending(f *front) {
	if s.Err() == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.pending.entries) && !f.full; i++ {
		e := &s.pending.entries[i]
		if e.queue == f.queue && e.err == nil && e.number >= max(f.next, f.queue.head) {
			f.take(e.number, s.pending.memory[e.start:e.end])
		}
	}
}

// take takes one record, which lies in memory of others. It stops at a record that
// is to be left out if there are others before it: so what is left out is always at
// the head, and counted once.
func (f *front) take(number uint64, value []byte) {
	last := ""
	if n := len(f.taken); n > 0 {
		last = f.dst[n-1].Key
	}
	size := recordSize(value)
	r, at, err := decodeRecord(value, last)
	r.Came, r.Age = at-f.queue.spool.shifted(), max(f.now-at, 0)
	if expired := err == nil && f.maxAge > 0 && r.Age > f.maxAge; expired || err != nil {
		if f.full = len(f.taken) > 0; f.full {
			return
		}
		if expired {
			f.lost.Expired++
		} else {
			f.lost.Damaged++
		}
		f.next, f.head, f.lostBytes = number+1, number+1, f.lostBytes+size
		return
	}
	r.Topic, r.Payload = f.copy(r.Topic), f.copy(r.Payload)
	f.dst[len(f.taken)] = r
	f.taken = append(f.taken, place{number, size})
	f.next, f.bytes = number+1, f.bytes+size
	f.full = len(f.taken) == len(f.dst) || f.bytes >= frontBytes
}

// copy copies b to memory that several records share.
func (f *front) copy(b []byte) []byte {
	if cap(f.memory)-len(f.memory) < len(b) {
		const most = 64 << 10
		f.memory = make([]byte, 0, max(len(b), min(most, len(b)*(len(f.dst)-len(f.taken)))))
	}
	start := len(f.memory)
	f.memory = append(f.memory, b...)
	return f.memory[start:len(f.memory):len(f.memory)]
}
