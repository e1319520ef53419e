package send

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/mapping"
)

// queuedDatagram is a datagram in a queue, with a payload of its own.
type queuedDatagram struct {
	group   netip.AddrPort
	payload []byte
	message []byte // the payload as it came, for the disk; nil: the same, or there is no disk
	rule    *Rule
	topic   string          // nothing else of its route, which may be forgotten meanwhile
	sent    *lastsent.Entry // nil: the rule does not ask for it
	print   uint64
	ack     *pendingAck // nil: QoS 0
	since   time.Time
	gone    bool // superseded: an empty place
}

// leavesBy has it go where a target does.
func (w *queuedDatagram) leavesBy(t *routeTarget) {
	w.group, w.rule, w.topic, w.sent = t.flow.group, t.rule, t.route.topic, t.sent
}

// drop counts it as lost.
func (w *queuedDatagram) drop(why account.Reason, err error) { w.rule.drop(why, w.topic, err) }

// uncount takes it out of what waits of its rule, if it is there at all.
func (w *queuedDatagram) uncount() {
	if !w.gone {
		w.rule.waiting.Add(-1)
		w.rule.waitingBytes.Add(-int64(w.size() + account.Overhead))
	}
}

// queuedBytes is what a datagram and its pendingAck take beside topic and payload, and beyond
// account.Overhead.
const queuedBytes = 64

// size is what it takes of the budget, beside the overhead.
func (w *queuedDatagram) size() int {
	return queuedBytes + len(w.topic) + len(w.payload) + len(w.message)
}

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

	latest map[waitingTopic]uint64 // of rules with on_down: latest, the number of the last one of each topic
}

// waitingTopic is a topic of a rule, of which something waits.
type waitingTopic struct {
	rule  *Rule
	topic string
}

func (q *queue) empty() bool             { return q.head == len(q.items) }
func (q *queue) len() int                { return len(q.items) - q.head }
func (q *queue) front() []queuedDatagram { return q.items[q.head:] }

// push appends, and says which number that is.
func (q *queue) push(w queuedDatagram) (number uint64) {
	w.rule.waiting.Add(1)
	w.rule.waitingBytes.Add(int64(w.size() + account.Overhead))
	q.items = append(q.items, w)
	number = q.gone + uint64(q.len()-1)
	if w.rule.OnDown == mapping.OnDownLatest {
		if q.latest == nil {
			q.latest = make(map[waitingTopic]uint64)
		}
		q.latest[waitingTopic{w.rule, w.topic}] = number
	}
	return number
}

// last is the last one of a topic of a rule with on_down: latest; nil: there is none.
func (q *queue) last(r *Rule, topic string) *queuedDatagram {
	if number, ok := q.latest[waitingTopic{r, topic}]; ok {
		return q.at(number)
	}
	return nil
}

// superseded reports whether only the latest of its topic is wanted, and that is another one.
func (q *queue) superseded(w *queuedDatagram) bool {
	return w.rule.OnDown == mapping.OnDownLatest && q.last(w.rule, w.topic) != w
}

// void leaves an empty place.
func (q *queue) void(w *queuedDatagram) {
	q.forget(w)
	w.uncount()
	*w = queuedDatagram{gone: true}
}

// forget takes one out of latest, if it is there.
func (q *queue) forget(w *queuedDatagram) {
	if !w.gone && w.rule.OnDown == mapping.OnDownLatest && q.last(w.rule, w.topic) == w {
		delete(q.latest, waitingTopic{w.rule, w.topic})
	}
}

// at is what has a number; nil if it is no longer there.
func (q *queue) at(number uint64) *queuedDatagram {
	if i := number - q.gone; i < uint64(q.len()) {
		return &q.front()[i]
	}
	return nil
}

func (q *queue) pop() (w queuedDatagram) {
	q.forget(&q.items[q.head])
	w = q.items[q.head]
	w.uncount()
	q.items[q.head] = queuedDatagram{}
	q.head++
	q.gone++
	switch {
	case q.head == len(q.items):
		q.items, q.head, q.latest = nil, 0, nil // an emptied queue keeps no memory
	case q.head >= 1024 && q.head*2 >= len(q.items):
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return w
}
