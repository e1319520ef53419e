package spool

import (
	"io"
	"sync"
	"time"
)

// frontBytes bounds what one Front returns, unless a single record is larger.
const frontBytes = 1 << 20

// Lost counts the records that Front left out and removed.
type Lost struct {
	Expired int // older than the age allowed
	Damaged int // not there, or not as they were written: a bad disk
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
	s := q.spool
	s.swap.RLock()
	defer s.swap.RUnlock()
	f := front{queue: q, dst: dst, now: s.time.now(), maxAge: maxAge}
	s.mu.Lock()
	q.taken, f.next = nil, q.head
	s.mu.Unlock()
	if len(dst) > 0 && q.Len() > 0 {
		f.readDisk()
		f.readPending()
	}
	s.mu.Lock()
	missing := f.lost.Expired + f.lost.Damaged - len(f.left)
	if missing+len(f.left) > 0 {
		q.count(-missing, 0)
		s.remove(q, f.left, f.head)
	}
	q.taken = f.taken
	s.mu.Unlock()
	if missing+len(f.left) > 0 {
		s.signal()
	}
	return len(f.taken), f.lost
}

// A front is one call of Front.
type front struct {
	queue  *Queue
	dst    []Record
	now    time.Duration // on the timeline
	maxAge time.Duration

	next   uint64 // the number after the last that was looked at
	full   bool   // no more is to be taken
	taken  []place
	bytes  int64
	memory []byte  // where the records are copied to
	left   []place // what is lost of those that are in the index
	head   uint64  // after those that are lost
	lost   Lost
}

// readers are those that nobody uses.
var readers = sync.Pool{New: func() any { return new(reader) }}

// readDisk reads what is on disk, some at a time.
func (f *front) readDisk() {
	s, q := f.queue.spool, f.queue
	if s.store == nil {
		return
	}
	r := readers.Get().(*reader)
	defer readers.Put(r)
	for from := (cursor{}); !f.full; {
		s.mu.Lock()
		g, places, next := s.store.some(q, &from, len(f.dst)-len(f.taken))
		size := int64(0)
		if g != nil {
			size = g.size
		}
		s.mu.Unlock()
		if g == nil {
			f.missing(next)
			return
		}
		r.open(g, size, places)
		for _, at := range places {
			frame, _, ok := r.frame(int64(at))
			switch {
			case ok:
				f.take(&frame)
			case noMoreFiles(r.failed):
				f.full = true
				s.lookAgain()
			case r.failed != nil && r.failed != io.EOF && f.first() && s.spared(): // EOF: it was cut
				f.full = true
			default:
				f.damaged()
			}
			if f.full {
				return
			}
		}
	}
}

// readPending goes on with what waits in memory while the spool cannot be used.
func (f *front) readPending() {
	s := f.queue.spool
	if s.Err() == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.pending.entries) && !f.full; i++ {
		// Those in front of it may be under way to the disk just now.
		if e := &s.pending.entries[i]; e.queue == f.queue && e.err == nil && e.number == f.next {
			frame, _ := decodeFrame(e.frame)
			frame.number = e.number
			f.take(&frame)
		}
	}
}

// first reports whether nothing is in front of what is left out now. If there is, it is
// left for the next call: so what is left out is always at the head, and counted once.
func (f *front) first() bool {
	f.full = f.full || len(f.taken) > 0
	return !f.full
}

// missing leaves out what is not there, up to a number.
func (f *front) missing(next uint64) {
	if next > f.next && f.first() {
		f.lost.Damaged += int(next - f.next)
		f.next, f.head = next, next
	}
}

// damaged leaves out the next one, which is there and cannot be read.
func (f *front) damaged() {
	if f.first() {
		f.lost.Damaged++
		f.left = append(f.left, place{number: f.next})
		f.next++
		f.head = f.next
	}
}

// take takes one record, which lies in memory of others.
func (f *front) take(r *frame) {
	if f.missing(r.number); f.full {
		return
	}
	at := place{r.number, r.size(), r.length}
	age := max(f.now-r.at, 0)
	if f.maxAge > 0 && age > f.maxAge {
		if f.first() {
			f.lost.Expired++
			f.left = append(f.left, at)
			f.next, f.head = r.number+1, r.number+1
		}
		return
	}
	to := &f.dst[len(f.taken)]
	*to = Record{Came: r.at - f.queue.spool.shifted(), Age: age, Flags: r.flags}
	if n := len(f.taken); n > 0 && f.dst[n-1].Key == string(r.key) {
		to.Key = f.dst[n-1].Key
	} else {
		to.Key = string(r.key)
	}
	to.Topic, to.Payload = f.copy(r.topic), f.copy(r.payload)
	f.taken = append(f.taken, at)
	f.next, f.bytes = r.number+1, f.bytes+at.bytes
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
