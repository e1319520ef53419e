package send

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
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

	lane       *lane           // where it waits
	line       *inLine         // there, if the rule has a rate
	prev, next *queuedDatagram // there
	number     uint64          // tells it from all others of its binding, from 1
}

// leavesBy has it go where a target does.
func (w *queuedDatagram) leavesBy(t *routeTarget) {
	w.group, w.rule, w.topic, w.sent = t.flow.group, t.rule, t.route.topic, t.sent
}

// drop counts it as lost.
func (w *queuedDatagram) drop(why account.Reason, err error) { w.rule.drop(why, w.topic, err) }

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

// queue is what waits in the memory of a binding. Each rule has a lane, and the lanes are sent
// from in turn: so a rule of which much waits, or whose datagrams are refused, delays no other.
type queue struct {
	lanes []*lane // that are not empty
	turn  int     // which of them is sent from first
	n     int     // how many datagrams wait, in all
	last  uint64  // number of the last one that came

	pacing pacing // of rules with a rate
}

// lane is what of one rule waits in the memory of one binding, first in, first out. The
// binding's mu guards it.
type lane struct {
	rule        *Rule
	at          **lane // where the rule has it, as long as something waits
	place       int    // in the queue's lanes
	room        account.Share
	first, last *queuedDatagram
	latest      map[string]*queuedDatagram // of on_down: latest, the last one of each topic
	refusal     refusal                    // what is known of the first
	lines       map[netip.AddrPort]*line   // of a rule with a rate, what waits for each target
	swept       *queuedDatagram            // up to here what can has gone to the disk, while nothing leaves; nil: nothing is known
}

// laneOf is the lane of one of the binding's rules. Callers hold mu.
func (b *binding) laneOf(r *Rule) *lane {
	at := &r.lane
	if r.binding != b {
		at = &r.diverted.lane
	}
	if *at == nil {
		*at = &lane{rule: r, at: at}
	}
	return *at
}

func (l *lane) empty() bool    { return l.first == nil }
func (q *queue) empty() bool   { return len(q.lanes) == 0 }
func (q *queue) len() int      { return q.n }
func (q *queue) place(l *lane) { l.place = len(q.lanes); q.lanes = append(q.lanes, l); *l.at = l }

// push appends.
func (q *queue) push(l *lane, w queuedDatagram) {
	q.last++
	w.lane, w.line, w.number, w.prev, w.next = l, nil, q.last, l.last, nil
	if l.empty() {
		q.place(l)
		l.first = &w
	} else {
		l.last.next = &w
	}
	l.last = &w
	q.n++
	l.rule.waiting.Add(1)
	l.rule.waitingBytes.Add(int64(w.size() + account.Overhead))
	if l.rule.KeepsLatest() {
		if l.latest == nil {
			l.latest = make(map[string]*queuedDatagram)
		}
		l.latest[w.topic] = &w
	}
	if l.rule.paced() {
		q.pacing.line(l, &w)
	}
}

// remove takes one out, wherever in its lane it is. A lane that is emptied keeps no memory.
func (q *queue) remove(w *queuedDatagram) {
	l := w.lane
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	if l.swept == w {
		l.swept = w.prev
	}
	if l.latest[w.topic] == w {
		delete(l.latest, w.topic)
	}
	w.prev, w.next = nil, nil
	if w.line != nil {
		q.pacing.unline(l, w)
	}
	q.n--
	l.rule.waiting.Add(-1)
	l.rule.waitingBytes.Add(-int64(w.size() + account.Overhead))
	if !l.empty() {
		return
	}
	last := q.lanes[len(q.lanes)-1]
	q.lanes[l.place], last.place = last, l.place
	q.lanes[len(q.lanes)-1] = nil
	if q.lanes = q.lanes[:len(q.lanes)-1]; len(q.lanes) == 0 {
		q.lanes = nil
	}
	l.latest, l.lines, *l.at = nil, nil, nil
}

// each calls f for each lane. f may empty it, and return false if the others are not to be
// looked at any more: then they come first the next time.
func (q *queue) each(f func(*lane) bool) {
	for i := len(q.lanes) - 1; i >= 0; i-- { // one that f has seen takes the place of one that it has emptied
		l := q.lanes[i]
		if f(l) {
			continue
		}
		if !l.empty() {
			q.lanes[0], q.lanes[i] = l, q.lanes[0]
			q.lanes[0].place, q.lanes[i].place = 0, i
		}
		return
	}
}

// eachDatagram calls f for each datagram, which it may remove.
func (q *queue) eachDatagram(f func(*queuedDatagram)) {
	q.each(func(l *lane) bool {
		for w := l.first; w != nil; {
			next := w.next
			f(w)
			w = next
		}
		return true
	})
}

// superseded reports whether only the latest of its topic is wanted, and that is another one.
func (w *queuedDatagram) superseded() bool {
	return w.rule.KeepsLatest() && w.lane.latest[w.topic] != w
}
