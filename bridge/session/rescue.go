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
	var limits [2]uint64
	for i := range o.flows {
		f := &o.flows[i]
		limits[i] = f.looks[0]
		copy(f.looks[:], f.looks[1:])
		f.looks[late-1] = f.tail
	}
	o.mu.Unlock()
	o.rescue(limits)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watching = false
	for i := range o.flows {
		f := &o.flows[i]
		o.watching = o.watching || max(f.copied, f.head) < f.tail
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
	var limits [2]uint64
	for i := range o.flows {
		limits[i] = o.flows[i].tail
	}
	o.mu.Unlock()
	o.rescue(limits)
}

// rescue has copies made of what is numbered below the limits.
func (o *outbox) rescue(limits [2]uint64) {
	for more := true; more; {
		o.mu.Lock()
		more = o.rescueSome(limits)
		o.mu.Unlock()
	}
}

// rescueSome has copies made of some, and reports whether to call it again. Callers hold mu.
func (o *outbox) rescueSome(limits [2]uint64) (more bool) {
	left := rescueAtOnce
	for i := range o.flows {
		f := &o.flows[i]
		for f.copied = max(f.copied, f.head); f.copied < limits[i]; f.copied++ {
			if left == 0 {
				return true
			}
			left--
			if !f.at(f.copied).rescue() {
				break
			}
		}
	}
	return false
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
