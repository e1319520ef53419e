package send

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
)

// queuedDatagram is a datagram in a queue, with a payload of its own.
type queuedDatagram struct {
	group   netip.AddrPort
	payload []byte
	message []byte // the payload as it came, for the disk; nil: the same, or there is no disk
	target  *routeTarget
	print   uint64
	ack     *pendingAck // nil: QoS 0
	since   time.Time
	gone    bool // superseded: an empty place
}

// uncount takes it out of what waits of its rule, if it is there at all.
func (w *queuedDatagram) uncount() {
	if !w.gone {
		w.target.rule.waiting.Add(-1)
		w.target.rule.waitingBytes.Add(-int64(w.size() + account.Overhead))
	}
}

// void leaves an empty place in the queue.
func (w *queuedDatagram) void() {
	w.uncount()
	*w = queuedDatagram{gone: true}
}

// size is what it takes of the budget, beside the overhead.
func (w *queuedDatagram) size() int { return len(w.payload) + len(w.message) }

// original is the payload as it came.
func (w *queuedDatagram) original() []byte {
	if w.message != nil {
		return w.message
	}
	return w.payload
}

// queue is first in, first out. What it holds is numbered from 0.
type queue struct {
	items []queuedDatagram
	head  int
	gone  uint64 // how many were taken out: the number of the first that is left
}

func (q *queue) empty() bool             { return q.head == len(q.items) }
func (q *queue) len() int                { return len(q.items) - q.head }
func (q *queue) front() []queuedDatagram { return q.items[q.head:] }

// push appends, and says which number that is.
func (q *queue) push(w queuedDatagram) (number uint64) {
	w.target.rule.waiting.Add(1)
	w.target.rule.waitingBytes.Add(int64(w.size() + account.Overhead))
	q.items = append(q.items, w)
	return q.gone + uint64(q.len()-1)
}

// at is what has a number; nil if it is no longer there.
func (q *queue) at(number uint64) *queuedDatagram {
	if i := number - q.gone; i < uint64(q.len()) {
		return &q.front()[i]
	}
	return nil
}

func (q *queue) pop() (w queuedDatagram) {
	w = q.items[q.head]
	w.uncount()
	q.items[q.head] = queuedDatagram{}
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
