package send

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/session"
)

// queuedDatagram is a datagram in a queue, with a payload of its own.
type queuedDatagram struct {
	to          netip.AddrPort
	payload     []byte
	message     []byte // the payload as it came, for the disk; nil: the same, or there is no disk
	rule        *Rule
	topic       string          // nothing else of its route, which may be forgotten meanwhile
	sent        *lastsent.Entry // nil: the rule does not ask for it
	fingerprint uint64
	ack         *pendingAck // nil: QoS 0
	since       time.Time
	goodFor     expiry
	reply       *reply // nil: nobody has said where answers are to go
	// properties are those of the message that its target depends on, should another table or the disk
	// ask for that again.
	properties session.Properties

	in         *ruleQueue      // where it waits
	entry      *targetEntry    // there, if the rule has a rate
	prev, next *queuedDatagram // there
	number     uint64          // tells it from all others of its binding, from 1
}

// leavesBy has it go where a target does.
func (w *queuedDatagram) leavesBy(t *routeTarget) {
	w.to, w.rule, w.topic, w.sent = t.flow.to, t.rule, t.route.topic, t.sent
}

// doubt notes that it may have left, though it does not count as sent.
func (w *queuedDatagram) doubt() {
	if w.sent != nil {
		w.sent.Doubt()
	}
}

// drop counts it as lost.
func (w *queuedDatagram) drop(why account.Reason, err error) {
	w.rule.drop(why, w.subject(), err)
}

// queuedBytes is what a datagram and its pendingAck take beside topic and payload, and beyond
// account.Overhead.
const queuedBytes = 64

// size is what it takes of the budget, beside the overhead.
func (w *queuedDatagram) size() int {
	return queuedBytes + len(w.topic) + len(w.payload) + len(w.message) + w.reply.size() + len(w.properties)
}

// original is the payload as it came.
func (w *queuedDatagram) original() []byte {
	if w.message != nil {
		return w.message
	}
	return w.payload
}

// queue holds the datagrams that wait in the memory of a binding. Each rule has a queue of its own,
// and they are served in turn (round robin): so a rule of which many datagrams wait, or whose
// datagrams are refused, delays no other.
type queue struct {
	rules    []*ruleQueue // that are not empty
	turn     int          // which of them is sent from first
	n        int          // how many datagrams wait, in all
	forHosts int          // of these, for hosts that are not reachable
	last     uint64       // number of the last one that came

	pacing pacing // of rules with a rate
}

// ruleQueue holds the datagrams of one rule that wait in the memory of one binding, first in, first
// out; where the rule sends to hosts, each host has one. Guarded by the binding's mu.
type ruleQueue struct {
	rule        *Rule
	host        *host          // nil: all targets of the rule share it
	at          **ruleQueue    // where the rule has it, as long as something waits
	index       int            // in queue.rules
	n           int            // how many datagrams wait in it
	room        *account.Share // of the rule
	own         account.Share  // where that is not all that the rule has
	first, last *queuedDatagram
	latest      map[string]*queuedDatagram      // of on_down: latest, the last one of each topic
	refusal     refusal                         // what is known of the first
	targets     map[netip.AddrPort]*targetQueue // of a rule with a rate, what waits for each target
	swept       *queuedDatagram                 // up to here what can has gone to the disk, while nothing leaves; nil: nothing is known
}

// queueOf returns the queue of one of the binding's rules, that of the host if h is one. Callers hold mu.
func (b *binding) queueOf(r *Rule, h *host) *ruleQueue {
	at := &r.waitingIn
	if h != nil {
		at = &h.waitingIn
	} else if r.binding != b {
		at = &r.diverted.queue
	}
	if *at == nil {
		l := &ruleQueue{rule: r, host: h, at: at}
		if l.room = &l.own; h != nil {
			l.room = &r.room
		}
		return l
	}
	return *at
}

func (l *ruleQueue) empty() bool        { return l.first == nil }
func (l *ruleQueue) waitsForHost() bool { return !l.host.reachable() && !l.rule.paced() }
func (q *queue) empty() bool            { return len(q.rules) == 0 }
func (q *queue) len() int               { return q.n }
func (q *queue) add(l *ruleQueue)       { l.index = len(q.rules); q.rules = append(q.rules, l); *l.at = l }

// push appends.
func (q *queue) push(l *ruleQueue, w queuedDatagram) {
	q.last++
	w.in, w.entry, w.number, w.prev, w.next = l, nil, q.last, l.last, nil
	if l.empty() {
		q.add(l)
		l.first = &w
	} else {
		l.last.next = &w
	}
	l.last = &w
	q.n++
	l.n++
	if l.waitsForHost() {
		q.forHosts++
	}
	l.rule.waiting.Add(1)
	l.rule.waitingBytes.Add(int64(w.size() + account.Overhead))
	if l.rule.KeepsLatest() {
		if l.latest == nil {
			l.latest = make(map[string]*queuedDatagram)
		}
		l.latest[w.topic] = &w
	}
	if l.rule.paced() {
		q.pacing.push(l, &w)
	}
}

// remove removes a datagram, wherever in its queue it is. A queue that becomes empty keeps no memory.
func (q *queue) remove(w *queuedDatagram) {
	l := w.in
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
	if w.entry != nil {
		q.pacing.remove(l, w)
	}
	q.n--
	l.n--
	if l.waitsForHost() {
		q.forHosts--
	}
	l.rule.waiting.Add(-1)
	l.rule.waitingBytes.Add(-int64(w.size() + account.Overhead))
	if !l.empty() {
		return
	}
	last := q.rules[len(q.rules)-1]
	q.rules[l.index], last.index = last, l.index
	q.rules[len(q.rules)-1] = nil
	if q.rules = q.rules[:len(q.rules)-1]; len(q.rules) == 0 {
		q.rules = nil
	}
	l.latest, l.targets, *l.at = nil, nil, nil
}

// other returns another host's queue of the same rule; nil: there is none.
func (q *queue) other(l *ruleQueue) *ruleQueue {
	for _, o := range q.rules {
		if l.host != nil && o.rule == l.rule && o.host != nil {
			return o
		}
	}
	return nil
}

// each calls f for each rule's queue. f may empty it, and return false to end: then the others come
// first the next time.
func (q *queue) each(f func(*ruleQueue) bool) {
	for i := len(q.rules) - 1; i >= 0; i-- { // one that f has seen takes the place of one that it has emptied
		l := q.rules[i]
		if f(l) {
			continue
		}
		if !l.empty() {
			q.rules[0], q.rules[i] = l, q.rules[0]
			q.rules[0].index, q.rules[i].index = 0, i
		}
		return
	}
}

// eachDatagram calls f for each datagram, which it may remove.
func (q *queue) eachDatagram(f func(*queuedDatagram)) {
	q.each(func(l *ruleQueue) bool {
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
	return w.rule.KeepsLatest() && w.in.latest[w.topic] != w
}
