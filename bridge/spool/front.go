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
// returns how many they are. Fewer than len(dst) does not mean that there are no
// more; none does. They share no memory with the spool. Asked again without
// Remove, it returns the same ones again.
//
// Records older than maxAge, unless it is 0, and damaged ones are left out,
// removed, and counted in lost.
func (q *Queue) Front(dst []Record, now time.Time, maxAge time.Duration) (n int, lost Lost) {
	q.mu.Lock()
	f := front{queue: q, dst: dst, now: now, maxAge: maxAge}
	q.taken = nil
	if len(dst) > 0 {
		q.spool.view(f.read)
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
	now    time.Time
	maxAge time.Duration

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
	for k, v := c.Seek(start); k != nil && len(f.taken) < len(f.dst) && f.bytes < frontBytes; k, v = c.Next() {
		if number(k) >= numberLast {
			panic(fmt.Sprintf("queue %s: % x is not the number of a record", f.queue.name, k))
		}
		if !f.take(number(k), v) {
			return
		}
	}
}

// take takes one record, which lies in the file's mapping, and says whether to
// go on. It stops at a record that is to be left out if there are others before
// it: so what is left out is always at the head, and counted once.
func (f *front) take(number uint64, value []byte) bool {
	last := ""
	if n := len(f.taken); n > 0 {
		last = f.dst[n-1].Key
	}
	size := recordSize(value)
	f.queue.spool.file.touched.Add(int64(len(value)))
	r, whole := decodeRecord(value, last)
	if expired := whole && f.maxAge > 0 && f.now.Sub(r.At) > f.maxAge; expired || !whole {
		if len(f.taken) > 0 {
			return false
		}
		if expired {
			f.lost.Expired++
		} else {
			f.lost.Damaged++
		}
		f.head, f.lostBytes = number+1, f.lostBytes+size
		return true
	}
	r.Topic, r.Payload = f.copy(r.Topic), f.copy(r.Payload)
	f.dst[len(f.taken)] = r
	f.taken = append(f.taken, place{number, size})
	f.bytes += size
	return true
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
