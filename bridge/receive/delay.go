package receive

import (
	"sync"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
)

// delayQueue keeps the datagrams of a rule on a cycle back for a moment, in their
// order: the same may just be coming from the broker, and then it was another
// bridge that sent them.
type delayQueue struct {
	path *Path

	releasing sync.Mutex // what is taken out first is published first

	mu      sync.Mutex
	waiting []*waitingDatagram
	running bool // a timer is set, or run at work
}

// push takes a datagram in.
func (q *delayQueue) push(t *ruleTopic, payload []byte, a *arrival, b *batch) {
	if q.path.loops.Delay == 0 {
		q.release(t, payload, a, b)
		return
	}
	w := t.keep(payload, a)
	if w == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
	if !q.running {
		q.running = true
		time.AfterFunc(q.path.loops.Delay, q.run)
	}
}

// run releases what has waited long enough.
func (q *delayQueue) run() {
	q.releasing.Lock()
	defer q.releasing.Unlock()
	b := q.path.newBatch()
	due, next := q.takeDue(b.now)
	q.releaseAll(due, b)
	if next >= 0 {
		time.AfterFunc(next, q.run)
	}
}

// flush releases all that waits.
func (q *delayQueue) flush() {
	q.releasing.Lock()
	defer q.releasing.Unlock()
	q.mu.Lock()
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	q.releaseAll(waiting, q.path.newBatch())
}

func (q *delayQueue) releaseAll(waiting []*waitingDatagram, b *batch) {
	for _, w := range waiting {
		w.release()
		q.release(w.topic, w.payload, &w.arrival, b)
	}
	q.path.publish(b)
}

// takeDue takes out what has waited long enough, and says when the next will have;
// below 0 if there is none.
func (q *delayQueue) takeDue(now time.Time) (due []*waitingDatagram, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.waiting) && now.Sub(q.waiting[n].arrival.At) >= q.path.loops.Delay {
		n++
	}
	due = q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting, q.running = nil, false
		return due, -1
	}
	return due, q.path.loops.Delay - now.Sub(q.waiting[0].arrival.At)
}

// release lets a datagram go on, unless another bridge has sent it because we sent
// or published the same.
func (q *delayQueue) release(t *ruleTopic, payload []byte, a *arrival, b *batch) {
	if q.path.dedup.HeardBefore(loopguard.SentDigest(a.on, a.To, payload), t.rule.number, a.source, b.now) {
		t.rule.lose(account.ReasonLoop, t.knownName(), a, payload, nil)
		return
	}
	if t.rule.inspectsPayload { // of the whole datagram it is known now that nobody here sent it
		t.look(payload, a, b)
		return
	}
	t.carry(payload, a, b)
}
