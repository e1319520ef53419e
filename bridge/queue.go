package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
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
	leg     *leg
	print   uint64
	holding *holding // nil: QoS 0
	since   time.Time
}

// queue is first in, first out.
type queue struct {
	items []waiting
	head  int
}

func (q *queue) empty() bool      { return q.head == len(q.items) }
func (q *queue) len() int         { return len(q.items) - q.head }
func (q *queue) push(w waiting)   { q.items = append(q.items, w) }
func (q *queue) front() []waiting { return q.items[q.head:] }
func (q *queue) pop() (w waiting) {
	w = q.items[q.head]
	q.items[q.head] = waiting{}
	q.head++
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

// enqueue keeps a copy of a datagram until it can leave. A QoS 0 message waits
// for a busy socket, but not for a source that is away: it would be late by then.
// Callers hold mu.
func (b *binding) enqueue(group netip.AddrPort, d *datagram, qos byte, since time.Time, h *holding) {
	if qos == 0 && b.socket == nil {
		d.leg.lose(DropPending, errors.New(b.reason))
		return
	}
	for !b.room.take(len(d.payload)) {
		// QoS 0 makes room, the oldest first.
		if qos != 0 || b.queue.empty() || b.queue.front()[0].holding != nil {
			d.leg.lose(DropQueueFull, fmt.Errorf("queue.size: %d bytes are waiting in all", b.room.bytes.Load()))
			return
		}
		w := b.queue.pop()
		b.room.give(1, len(w.payload))
		w.leg.lose(DropQueueFull, nil)
	}
	if h != nil {
		h.left.Add(1)
	}
	b.queue.push(waiting{group: group, payload: append([]byte(nil), d.payload...), leg: d.leg, print: d.print, holding: h, since: since})
	b.drain()
}

// drain sees to it that the queue is emptied while there is a socket. Callers
// hold mu.
func (b *binding) drain() {
	if b.draining || b.socket == nil || b.queue.empty() {
		return
	}
	b.draining = true
	b.drains.Go(b.run)
}

// drainBatch is how many waiting datagrams one call to the kernel is given: few
// enough that the reader, which needs the same lock, does not wait long.
const drainBatch = 64

// bufferPatience is how long the kernel may have no room for one datagram, and
// bufferPause how long to leave it alone in between.
const (
	bufferPatience = time.Second
	bufferPause    = 2 * time.Millisecond
)

// run empties the queue in order, and ends when it is empty or the socket gone.
func (b *binding) run() {
	out := make([]multicast.Datagram, 0, drainBatch)
	for {
		s, done, err := b.drainOnce(out)
		for _, h := range done {
			h.ack.Done() // outside the lock that the reader takes
		}
		switch {
		case s == nil:
			return
		case errors.Is(err, multicast.ErrNoBuffer):
			_ = sleep(b.ctx, bufferPause)
		case err != nil:
			_ = s.Wait(b.ctx) // what ails the socket shows at the next send
		}
		if b.ctx.Err() != nil {
			b.mu.Lock()
			b.draining = false
			b.mu.Unlock()
			return
		}
	}
}

// drainOnce sends from the front of the queue. It returns the socket it used,
// nil when there is no more to do; the messages that are done; and what keeps the
// next datagram.
func (b *binding) drainOnce(out []multicast.Datagram) (s socket, done []*holding, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue.empty() || b.socket == nil {
		b.draining = false
		return nil, nil, nil
	}
	front := b.queue.front()
	front = front[:min(len(front), drainBatch)]
	for i := range front {
		out = append(out, multicast.Datagram{Group: front[i].group, Payload: front[i].payload})
	}
	s = b.socket
	var failed [drainBatch]bool
	var n int
	n, err = s.Send(out, func(i int, err error) {
		failed[i] = true
		front[i].leg.lose(reasonOf(err), err)
	})
	for i := range n {
		done = b.settle(b.queue.pop(), !failed[i], done)
	}
	if n > 0 {
		b.retried = time.Time{}
	}
	if errors.Is(err, multicast.ErrNoBuffer) && b.outOfPatience() {
		w := b.queue.pop()
		w.leg.lose(DropNoBuffer, err)
		done = b.settle(w, false, done)
	}
	if err != nil {
		b.stalled(err)
	}
	return s, done, err
}

// outOfPatience says whether the datagram in front has been refused room for
// too long. Callers hold mu.
func (b *binding) outOfPatience() bool {
	if b.retried.IsZero() {
		b.retried = time.Now()
	}
	if time.Since(b.retried) < bufferPatience {
		return false
	}
	b.retried = time.Time{}
	return true
}

// settle lets go of a datagram that has left, or never will, and adds its message
// to done if nothing else of it waits.
func (b *binding) settle(w waiting, sent bool, done []*holding) []*holding {
	b.room.give(1, len(w.payload))
	if sent {
		w.leg.rule.took(1, len(w.payload))
		w.leg.last.Store(w.print)
		b.lag.observe(time.Since(w.since), 1)
	}
	if w.holding != nil && w.holding.settle() {
		done = append(done, w.holding)
	}
	return done
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
