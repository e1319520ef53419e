package bridge

import (
	"sync"
	"time"
)

// hold keeps the datagrams of a rule on a cycle back for a moment, in their
// order: the same may just be coming from the broker, and then it was another
// bridge that sent them.
type hold struct {
	path *receivePath

	releasing sync.Mutex // what is taken out first is published first

	mu      sync.Mutex
	waiting []*heldDatagram
	running bool // a timer is set, or run at work
}

// push takes a datagram in.
func (h *hold) push(o *outlet, payload []byte, a *arrival, b *batch) {
	if h.path.loops.Hold == 0 {
		h.release(o, payload, a, b)
		return
	}
	w := o.keep(payload, a)
	if w == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = append(h.waiting, w)
	if !h.running {
		h.running = true
		time.AfterFunc(h.path.loops.Hold, h.run)
	}
}

// run lets go what has waited long enough.
func (h *hold) run() {
	h.releasing.Lock()
	defer h.releasing.Unlock()
	b := h.path.newBatch()
	due, next := h.take(b.now)
	h.releaseAll(due, b)
	if next >= 0 {
		time.AfterFunc(next, h.run)
	}
}

// flush lets go all that waits.
func (h *hold) flush() {
	h.releasing.Lock()
	defer h.releasing.Unlock()
	h.mu.Lock()
	waiting := h.waiting
	h.waiting = nil
	h.mu.Unlock()
	h.releaseAll(waiting, h.path.newBatch())
}

func (h *hold) releaseAll(waiting []*heldDatagram, b *batch) {
	for _, w := range waiting {
		w.letGo()
		h.release(w.outlet, w.payload, &w.arrival, b)
	}
	h.path.publish(b)
}

// take takes out what has waited long enough, and says when the next will have;
// below 0 if there is none.
func (h *hold) take(now time.Time) (due []*heldDatagram, next time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.waiting) && now.Sub(h.waiting[n].arrival.At) >= h.path.loops.Hold {
		n++
	}
	due = h.waiting[:n:n]
	if h.waiting = h.waiting[n:]; len(h.waiting) == 0 {
		h.waiting, h.running = nil, false
		return due, -1
	}
	return due, h.path.loops.Hold - now.Sub(h.waiting[0].arrival.At)
}

// release lets a datagram go on, unless another bridge has sent it because we sent
// or published the same.
func (h *hold) release(o *outlet, payload []byte, a *arrival, b *batch) {
	if h.path.memory.hear(sentTrace(a.on, a.Group, payload), o.rule, a.Source.Addr(), b.now) {
		o.rule.lose(DropLoop, 1)
		return
	}
	o.carry(payload, a, b)
}
