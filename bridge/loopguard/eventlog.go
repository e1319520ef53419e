package loopguard

import "time"

// eventKind says whose an event is: which part of the log it takes.
type eventKind uint8

const (
	ours       eventKind = iota // what we sent and published, and what of it came back to us
	ofKnown                     // what known peers said
	ofNewcomer                  // what others did
	eventKinds
)

// event is something that may come back, or an echo that has.
type event struct {
	until  time.Time
	digest Digest       // of what was sent
	of     *observation // nil: it was sent
	echo   bool
	kind   eventKind
}

// eventLog has the events, of each kind in the order of time. Half of its room is kept for
// ours, a quarter for what known peers say, and a quarter for what others do; each kind has
// what the others leave. So however many senders somebody makes up, they do not have it
// forget what we sent.
type eventLog struct {
	max     int
	kinds   [eventKinds]eventRing
	evicted uint64 // before their time
}

func newEventLog(most int) eventLog { return eventLog{max: most} }

func (l *eventLog) len() (n int) {
	for i := range l.kinds {
		n += l.kinds[i].len()
	}
	return n
}

func (l *eventLog) full() bool { return l.len() >= l.max }

// kept is how many events of a kind stay whatever the others do.
func (l *eventLog) kept(kind eventKind) int {
	if kind == ours {
		return l.max - 2*(l.max/4)
	}
	return l.max / 4
}

// evict takes out the oldest of a kind that has more than is kept for it, so that one has
// room: of its own kind, if that has its part, else of the one that has most beyond.
func (l *eventLog) evict(forOne eventKind) event {
	l.evicted++
	victim := forOne
	if n := l.kinds[forOne].len(); n == 0 || n < l.kept(forOne) {
		most := -1
		for kind := range eventKinds {
			if beyond := l.kinds[kind].len() - l.kept(kind); beyond > most && l.kinds[kind].len() > 0 {
				victim, most = kind, beyond
			}
		}
	}
	return l.pop(victim)
}

func (l *eventLog) append(e event)               { l.kinds[e.kind].append(e) }
func (l *eventLog) pop(kind eventKind) event     { return l.kinds[kind].pop() }
func (l *eventLog) oldest(kind eventKind) *event { return l.kinds[kind].oldest() }

// eventRing is a queue.
type eventRing struct {
	ring       []event // the length is a power of two
	head, tail uint64
}

func (r *eventRing) len() int { return int(r.tail - r.head) }

func (r *eventRing) at(i uint64) *event { return &r.ring[i&uint64(len(r.ring)-1)] }

func (r *eventRing) oldest() *event {
	if r.head == r.tail {
		return nil
	}
	return r.at(r.head)
}

func (r *eventRing) append(e event) {
	if r.len() == len(r.ring) {
		grown := eventRing{ring: make([]event, max(64, 2*len(r.ring))), head: r.head, tail: r.tail}
		for i := r.head; i < r.tail; i++ {
			*grown.at(i) = *r.at(i)
		}
		*r = grown
	}
	*r.at(r.tail) = e
	r.tail++
}

// maxIdleRing is how many places an empty queue keeps.
const maxIdleRing = 1024

func (r *eventRing) pop() event {
	e := *r.at(r.head)
	*r.at(r.head) = event{}
	r.head++
	if r.head == r.tail && len(r.ring) > maxIdleRing {
		r.ring = nil
	}
	return e
}
