package session

import "time"

// What only the ring has is lost when the program is killed, or the power goes. So
// where an Origin can keep a copy elsewhere (Rescuer) it is asked to
//
//   - when a connection has ended, of all that is not acknowledged;
//   - when acknowledgements are late: on a line that died without a word, or from a
//     broker that stands still;
//   - at the end of the session.
//
// The session goes on publishing its own: with the identifier that the broker knows
// [MQTT-4.4.0-1], so that it can tell a repetition of QoS 2.

// lookEvery is how often acknowledgements are looked for while there are any to come,
// and late after how many looks one is late: a message is 750 ms to 1 s old then. To
// note how far the ring goes at each look takes less than the time of each message.
const (
	lookEvery = 250 * time.Millisecond
	late      = 3
)

// looks are the numbers up to which there were messages at each of the last looks.
type looks [late]uint64

// look notes how far they go now, and gives the number up to which they are late; or, with
// soon, up to which they were there at the last look.
func (l *looks) look(end uint64, soon bool) (limit uint64) {
	limit = l[0]
	if soon {
		limit = l[late-1]
	}
	copy(l[:], l[1:])
	l[late-1] = end
	return limit
}

// watch begins to look. Callers hold mu.
func (o *outbox) watch() {
	o.watching = true
	for i := range o.flows {
		f := &o.flows[i]
		for j := range f.looks {
			f.looks[j] = max(f.copied, f.head)
		}
	}
	if o.timer == nil {
		o.timer = time.AfterFunc(lookEvery, o.rescueLate)
	} else {
		o.timer.Reset(lookEvery)
	}
}

// rescueLate has copies made of what is late. It comes again unless there is nothing to look
// for.
func (o *outbox) rescueLate() {
	o.mu.Lock()
	for i := range o.flows {
		f := &o.flows[i]
		if f.queued = max(0, f.queued-1); f.turns.len > 0 {
			f.queued = late // what comes from a queue to the ring has waited before
		}
		f.limit = f.looks.look(f.tail, f.queued > 0)
		for _, q := range f.turns.order {
			if q.limit = q.looks.look(q.end, true); q.copied < q.limit {
				f.limit = notYet // what is before it goes to the disk before it
			}
		}
	}
	o.mu.Unlock()
	o.rescue()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watching = false
	for i := range o.flows {
		f := &o.flows[i]
		o.watching = o.watching || f.turns.len > 0 || max(f.copied, f.head) < f.tail
	}
	if o.watching = o.watching && !o.stopped; o.watching {
		o.timer.Reset(lookEvery)
	}
}

// rescueAtOnce is how many copies are made while publishers have to wait.
const rescueAtOnce = 256

// rescueAll has copies made of all that is not acknowledged.
func (o *outbox) rescueAll() {
	o.mu.Lock()
	for i := range o.flows {
		f := &o.flows[i]
		f.limit = notYet
		for _, q := range f.turns.order {
			q.limit = q.end
		}
	}
	o.mu.Unlock()
	o.rescue()
}

// rescue has copies made of what is numbered below the limits.
func (o *outbox) rescue() {
	for more := true; more; {
		o.mu.Lock()
		left := rescueAtOnce
		for i := range o.flows {
			o.flows[i].rescue(&left)
		}
		o.mu.Unlock()
		more = left == 0
	}
}

// rescue has copies made of as many as are left. What waits for its turn is behind all that
// is in the ring: of each queue the copies are in its order. Callers hold the outbox's mu.
func (f *flow) rescue(left *int) {
	for f.copied = max(f.copied, f.head); f.copied < min(f.limit, f.tail); f.copied++ {
		if !f.at(f.copied).copy(left) {
			return
		}
	}
	for _, q := range f.turns.order {
		for ; q.copied < q.limit; q.copied++ {
			if !q.at(q.copied).copy(left) {
				return
			}
		}
	}
}

// copy is rescue, at most once and while there are any left. It is false if that is to be
// tried again.
func (m *queuedMessage) copy(left *int) bool {
	if m.copied {
		return true
	}
	if *left == 0 {
		return false
	}
	*left--
	m.copied = m.rescue()
	return m.copied
}

// rescue has a copy made of a message that the broker may not have, or not for its
// subscribers yet: of QoS 2 it keeps one back until the PUBREL comes, which another
// process would not know to send. It is false if that is to be tried again.
func (m *queuedMessage) rescue() bool {
	r, ok := m.origin.(Rescuer)
	if !ok || m.state == delivered {
		return true
	}
	from, ok := r.Rescue(m.publication())
	if ok {
		m.origin = from
	}
	return ok
}
