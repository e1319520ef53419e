package session

import (
	"bytes"
	"time"
)

// A broker of MQTT 5 may refuse a message because too much comes just now: quota exceeded (0x97), as Azure
// Event Grid and EMQX do. That will pass, so such a message is not lost as others that are refused (outbox.go,
// refusedBy), but deferred:
//
//  1. It stays where it is in the ring, and nothing more of its flow is written for a while. What is on
//     its way is answered meanwhile.
//  2. Then a few are written, from the oldest on: those that were deferred, as new messages with their
//     identifiers, and what follows them. With each that the broker takes there may be more.
//  3. If it refuses one again the next pause is longer.
//
// One that was refused quotaTries times is given up as any other that is refused, unless nothing ever is
// (Options.GiveUpAfter): it may be the one that the quota is for.
//
// What was on its way behind a deferred message may be taken before it. A later message on its topic is
// overtaken so by an older one, which does no harm to what is counted or measured, but would to what is kept
// as the state of things: so a retained message is given up once the broker has taken a newer one on its topic.

const (
	// The pause before deferred messages are written again doubles from firstQuotaPause up to
	// maxQuotaPause while the broker takes none.
	firstQuotaPause = time.Second
	maxQuotaPause   = time.Minute

	// quotaWindow is how many messages are written after a pause.
	quotaWindow = 16

	// quotaTries is how often one message may be refused.
	quotaTries = 10
)

// quota is what is known of that for a flow. It is guarded by the outbox's mu.
type quota struct {
	window   uint64    // how many messages may be on their way; 0: there is no trouble
	since    time.Time // when that began
	pause    time.Duration
	until    time.Time // the end of the pause; zero: there is none
	deferred int       // messages of that state
}

// inTrouble reports whether the broker has refused messages for its quota, and has not taken as many since.
func (q *quota) inTrouble() bool { return q.window > 0 }

// postpone has a message be written again later, if it may be. Callers hold mu.
func (f *flow) postpone(n uint64, o *outbox) bool {
	m := f.at(n)
	if m.tries++; m.tries >= quotaTries {
		if m.tries = quotaTries; o.givesUp {
			return false
		}
	}
	m.state = deferred
	q := &f.quota
	q.deferred++
	if q.until.IsZero() {
		now := time.Now()
		if !q.inTrouble() {
			q.since = now
		}
		q.pause = min(max(2*q.pause, firstQuotaPause), maxQuotaPause)
		q.until = now.Add(q.pause)
		time.AfterFunc(q.pause, o.quotaDue)
	}
	q.window = quotaWindow
	return true
}

// tookOne notes that the broker has taken the message with a number.
func (f *flow) tookOne(n uint64) {
	q := &f.quota
	if q.deferred > 0 {
		f.giveUpOvertaken(n)
	}
	if !q.until.IsZero() {
		return // it was on its way before
	}
	if q.pause, q.window = 0, 2*q.window; q.window > f.mostWindow && q.deferred == 0 {
		*q = quota{}
	}
}

// giveUpOvertaken gives up what is deferred, retained, and older than a message on its topic that the
// broker has taken.
func (f *flow) giveUpOvertaken(by uint64) {
	_, topic, _, _ := publishParts(f.at(by).frame, &form{protocol: f.at(by).protocol})
	for n := f.head; n < by; n++ {
		m := f.at(n)
		if m.state != deferred || !m.retain {
			continue
		}
		if _, older, _, _ := publishParts(m.frame, &form{protocol: m.protocol}); bytes.Equal(older, topic) {
			m.state, m.code = notTaken, reasonQuota
			f.quota.deferred--
		}
	}
}

// quotaDue is the end of a pause.
func (o *outbox) quotaDue() {
	o.mu.Lock()
	for i := range o.flows {
		o.flows[i].writeDeferred(time.Now())
	}
	c := o.conn
	o.mu.Unlock()
	if c != nil {
		c.acks.wakeWriter()
	}
}

// writeDeferred has what is deferred be written again, if the pause is over and nothing is on its way.
func (f *flow) writeDeferred(now time.Time) {
	q := &f.quota
	if q.until.IsZero() || now.Before(q.until) {
		return
	}
	for n := f.head; n < f.next; n++ {
		if s := f.at(n).state; s == unanswered || s == released {
			return // its answer comes here again
		}
	}
	f.renewDeferred()
	f.next, q.until = f.head, time.Time{}
}

// renewDeferred makes new messages of those that are deferred: the broker has done with what it has
// refused, so that they are no repetitions (MQTT 5, section 3.3.1.1).
func (f *flow) renewDeferred() {
	for n := f.head; f.quota.deferred > 0 && n < f.written; n++ {
		if m := f.at(n); m.state == deferred {
			m.state, m.renewed = unanswered, true
			m.frame[0] &^= dupFlag
			f.quota.deferred--
		}
	}
}

// quotaSince is since when the broker has refused messages for its quota; zero: it has not.
func (o *outbox) quotaSince() (since time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.flows {
		if t := o.flows[i].quota.since; since.IsZero() || !t.IsZero() && t.Before(since) {
			since = t
		}
	}
	return since
}
