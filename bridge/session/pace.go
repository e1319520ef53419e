package session

import (
	"math"
	"time"
)

// Some brokers count the messages of a client: AWS IoT takes 100 a second on a connection, and drops or
// ends the connection over what is beyond. What is published faster than [Options.MaxRate] waits where all
// waits that the broker does not take at once: QoS 0 in the memory for it, QoS 1 and 2 in the ring, the
// queues behind it and, as it gets late, on disk. So nothing is dropped for it, the order is kept, and
// those that are written again on a new connection count as the broker counts them.
//
// All else of MQTT is written at once: acknowledgements, PUBREL, SUBSCRIBE, PINGREQ, and the status of
// this session, one message for each connection.

// paceAhead is how late the writer may be and still catch up: as much as timers and other goroutines have
// it wait. So in a second of any begin there is one message more than the rate and a hundredth of it, at the most.
const paceAhead = 10 * time.Millisecond

// maxRate is the highest rate. A timer is too late for a higher one, and the line is what bounds it.
const maxRate = 100_000

// lanes are what is paced: QoS 0, and the two flows. They take turns.
const lanes = 3

// unpaced is for as many as there are.
var unpaced = [lanes]uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64}

// pace is how fast messages are written. It is guarded by the outbox's mu.
type pace struct {
	every time.Duration // from one message to the next; 0: as fast as the broker takes them
	next  time.Time     // when the next may be written
	turn  int           // the lane whose turn it is
	armed bool          // the timer is set
	timer *time.Timer
	since time.Time // since when there is always something that waits for it; zero: there is nothing
}

func newPace(rate int) pace {
	if rate == 0 {
		return pace{}
	}
	return pace{every: time.Second / time.Duration(rate)}
}

// share says how many messages of each lane may be written now, of those that could be.
func (p *pace) share(could [lanes]uint64, now time.Time) (may [lanes]uint64) {
	if now.Before(p.next) {
		return may
	}
	n := 1 + uint64(min(now.Sub(p.next), paceAhead)/p.every)
	for idle := 0; n > 0 && idle < lanes; p.turn = (p.turn + 1) % lanes {
		if could[p.turn] > may[p.turn] {
			may[p.turn]++
			n--
			idle = 0
		} else {
			idle++
		}
	}
	return may
}

// spent says that so many messages are written.
func (p *pace) spent(n uint64, now time.Time) {
	if n == 0 {
		return
	}
	if earliest := now.Add(-paceAhead); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(time.Duration(n) * p.every)
}

// waitForPace has the writer woken when the next message may be written. Callers hold mu.
func (o *outbox) waitForPace(now time.Time) {
	p := &o.pace
	if p.since.IsZero() {
		p.since = now
	}
	if p.armed {
		return
	}
	p.armed = true
	if wait := p.next.Sub(now); p.timer == nil {
		p.timer = time.AfterFunc(wait, o.paceDue)
	} else {
		p.timer.Reset(wait)
	}
}

// paceDue wakes the writer.
func (o *outbox) paceDue() {
	o.mu.Lock()
	o.pace.armed = false
	c := o.conn
	o.mu.Unlock()
	if c != nil {
		c.acks.wakeWriter()
	}
}

// pacedSince is since when something always waits for the pace; zero: nothing does.
func (o *outbox) pacedSince() time.Time {
	if o.pace.every == 0 { // it never changes
		return time.Time{}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pace.since
}
