package bridge

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// outlet is one topic of a receive rule, and what is to be known of it where the
// rule publishes only now and then (every), or only what is new (on_change).
type outlet struct {
	rule  *receiveRule
	topic []byte
	seed  uint64 // makes equal payloads of two topics differ

	echoes atomic.Bool // the broker may hand us our own message on it, for a group

	mu       sync.Mutex
	last     uint64        // fingerprint of the payload published last; 0: none
	failures uint64        // the rule's, when it was published
	next     time.Time     // every: not before
	latest   *heldDatagram // every: what waits for that time
	timer    *time.Timer
}

// heldDatagram is a datagram that waits, with a payload of its own. It counts
// against queue.size.
type heldDatagram struct {
	outlet  *outlet
	payload []byte
	arrival arrival
}

// keep copies a datagram that has to wait. nil: there is no room, and it is counted.
func (o *outlet) keep(payload []byte, a *arrival) *heldDatagram {
	room := o.rule.path.room
	if !room.take(len(payload)) {
		o.rule.drop(DropQueueFull, a, fmt.Errorf("queue.size: %d bytes are waiting in all", room.bytes.Load()))
		return nil
	}
	return &heldDatagram{outlet: o, payload: append([]byte(nil), payload...), arrival: *a}
}

// letGo is the end of the waiting.
func (h *heldDatagram) letGo() { h.outlet.rule.path.room.give(1, len(h.payload)) }

func (r *receiveRule) paced() bool { return r.OnChange || r.Every > 0 }

// due says whether a datagram is to be published now. One that came too soon
// waits, and takes the place of one that waits already.
func (o *outlet) due(payload []byte, print uint64, a *arrival, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.supersede()
	if o.rule.Every == 0 || !now.Before(o.next) {
		return o.news(print, now)
	}
	if o.latest = o.keep(payload, a); o.latest != nil {
		o.wake(o.next.Sub(now))
	}
	return false
}

// supersede drops what waits: the latest wins.
func (o *outlet) supersede() {
	if o.latest != nil {
		o.latest.letGo()
		o.latest = nil
		o.rule.lose(DropSuperseded, 1)
	}
}

// news says whether a payload is to be published, and takes it for published if so.
func (o *outlet) news(print uint64, now time.Time) bool {
	r := o.rule
	failures := r.failures.Load()
	if r.OnChange && print == o.last && failures == o.failures {
		r.lose(DropUnchanged, 1)
		return false
	}
	o.last, o.failures, o.next = print, failures, now.Add(r.Every)
	return true
}

func (o *outlet) wake(after time.Duration) {
	if o.timer == nil {
		o.timer = time.AfterFunc(after, o.flush)
	} else {
		o.timer.Reset(after)
	}
}

// flush publishes what waits, if anything does.
func (o *outlet) flush() {
	b := o.rule.path.newBatch()
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.rule.path.publish(b) // before the next can go
	w := o.latest
	if w == nil {
		return
	}
	o.latest = nil
	w.letGo()
	if print := fingerprint(w.payload); o.news(print, b.now) {
		o.pass(w.payload, print, &w.arrival, b)
	}
}
