package bridge

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// budget is the memory that all queues together may hold (queue.size).
type budget struct {
	max      int64
	bytes    atomic.Int64
	messages atomic.Int64
}

// overhead is what a waiting datagram costs beside its payload.
const overhead = 128

func (b *budget) take(payload int) bool {
	n := int64(payload + overhead)
	if b.bytes.Add(n) > b.max {
		b.bytes.Add(-n)
		return false
	}
	b.messages.Add(1)
	return true
}

// give returns the room of n messages, whose payloads are so many bytes in all.
func (b *budget) give(n, payload int) {
	b.bytes.Add(-int64(payload + n*overhead))
	b.messages.Add(-int64(n))
}

// waiting is a datagram in a queue, with a payload of its own.
type waiting struct {
	group   netip.AddrPort
	payload []byte
	message []byte // the payload as it came, for the disk; nil: the same, or there is no disk
	leg     *leg
	print   uint64
	holding *holding // nil: QoS 0
	since   time.Time
	gone    bool // superseded: an empty place
}

// size is what it takes of the budget, beside the overhead.
func (w *waiting) size() int { return len(w.payload) + len(w.message) }

// original is the payload as it came.
func (w *waiting) original() []byte {
	if w.message != nil {
		return w.message
	}
	return w.payload
}

// queue is first in, first out. What it holds is numbered from 0.
type queue struct {
	items []waiting
	head  int
	gone  uint64 // how many were taken out: the number of the first that is left
}

func (q *queue) empty() bool      { return q.head == len(q.items) }
func (q *queue) len() int         { return len(q.items) - q.head }
func (q *queue) front() []waiting { return q.items[q.head:] }

// push appends, and says which number that is.
func (q *queue) push(w waiting) (number uint64) {
	q.items = append(q.items, w)
	return q.gone + uint64(q.len()-1)
}

// at is what has a number; nil if it is no longer there.
func (q *queue) at(number uint64) *waiting {
	if i := number - q.gone; i < uint64(q.len()) {
		return &q.front()[i]
	}
	return nil
}

func (q *queue) pop() (w waiting) {
	w = q.items[q.head]
	q.items[q.head] = waiting{}
	q.head++
	q.gone++
	switch {
	case q.head == len(q.items):
		q.items, q.head = nil, 0 // an emptied queue keeps no memory
	case q.head >= 1024 && q.head*2 >= len(q.items):
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return w
}
