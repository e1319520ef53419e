package session

import "time"

// A topic on which the broker takes no message of ours costs a search for each message
// (poison.go), and would do so for ever. So a topic that barAfter messages were given up on
// is barred: what comes on it later is given up at once, with ErrTopicRefused, in its turn
// among the others of its quality of service. Now and then a message on it is given to the
// broker all the same, to see whether it takes it now (a probe). If the broker acknowledges
// that, the topic is as any other. If it closes the connection while it has it, that
// message is given up too, and the next probe is later: one connection each, not a search.

const (
	// barAfter is how many messages on a topic are given up one by one; once may be chance.
	barAfter = 2

	// firstTopicProbe is when a message on a barred topic is given to the broker. The time
	// doubles each time that it is in vain, up to maxTopicProbe.
	firstTopicProbe = 10 * time.Second
	maxTopicProbe   = 5 * time.Minute

	// probeSpacing is the least time from a probe that was in vain to the next one, of
	// whichever topic.
	probeSpacing = 10 * time.Second

	// maxRefusedTopics bounds the topics that are remembered, and maxRefusedTopic the bytes
	// of each: a message on a longer one is searched for each time.
	maxRefusedTopics = 256
	maxRefusedTopic  = 1 << 10
)

// refusedTopics are those that messages were given up on. It is guarded by the outbox's mu.
type refusedTopics struct {
	topics  map[string]*refusedTopic
	probe   topicProbe
	notTill time.Time // the next probe
}

type refusedTopic struct {
	name    string
	times   int           // messages that were given up one by one
	last    time.Time     // when the last of them was, or a probe
	pause   time.Duration // to the next probe, once it is barred
	probeAt time.Time

	doubtful bool // the broker took nothing else; of QoS 0
}

func (t *refusedTopic) barred() bool { return t.times >= barAfter }

// topicProbe is the message that is to show whether the broker takes a topic again. It stays
// in the ring until the broker has acknowledged it, or closed the connection.
type topicProbe struct {
	topic *refusedTopic // nil: there is none
	flow  *flow
	n     uint64
}

// bars reports whether a message that has just become number n of a flow is to be given up
// for its topic. One that waits for its turn yet is no probe.
func (r *refusedTopics) bars(topic []byte, f *flow, n uint64) bool {
	t := r.topics[string(topic)]
	if t == nil || !t.barred() {
		return false
	}
	now := time.Now()
	if n != notYet && r.probe.topic == nil && !now.Before(t.probeAt) && !now.Before(r.notTill) {
		r.probe = topicProbe{t, f, n}
		return false
	}
	return true
}

// givenUp notes that a message on a topic was. It reports whether the topic is barred from now on.
func (r *refusedTopics) givenUp(topic string) (barred bool) {
	if len(topic) > maxRefusedTopic {
		return false
	}
	t := r.topics[topic]
	if t == nil {
		if r.topics == nil {
			r.topics = make(map[string]*refusedTopic)
		}
		r.makeRoom()
		t = &refusedTopic{name: topic}
		r.topics[topic] = t
	}
	t.times++
	if t.last = time.Now(); t.barred() {
		t.later()
	}
	return t.times == barAfter
}

// later sets the time of the next probe.
func (t *refusedTopic) later() {
	t.last = time.Now()
	longest := maxTopicProbe
	if t.doubtful {
		longest = maxDoubtfulProbe
	}
	t.pause = min(max(2*t.pause, firstTopicProbe), longest)
	t.probeAt = t.last.Add(t.pause)
}

// makeRoom forgets the topic that was refused the longest ago, if there are too many.
func (r *refusedTopics) makeRoom() {
	if len(r.topics) < maxRefusedTopics {
		return
	}
	var oldest *refusedTopic
	for _, t := range r.topics {
		if t != r.probe.topic && (oldest == nil || t.last.Before(oldest.last)) {
			oldest = t
		}
	}
	delete(r.topics, oldest.name)
}

// taken notes that the broker has acknowledged a message on a topic. It reports whether that
// was barred.
func (r *refusedTopics) taken(topic string) (again bool) {
	t := r.topics[topic]
	if t == nil {
		return false
	}
	delete(r.topics, topic)
	if r.probe.topic == t {
		r.probe = topicProbe{}
	}
	return t.barred()
}

// bar gives up what waits on a topic. Callers hold mu.
func (o *outbox) bar(topic string) {
	for i := range o.flows {
		f := &o.flows[i]
		for n := f.head; n < f.tail; n++ {
			if m := f.at(n); m.state == unanswered && m.topic() == topic {
				m.state = barred
			}
		}
		for _, q := range f.turns.order {
			for n := q.first; n < q.end; n++ {
				if m := q.at(n); m.topic() == topic {
					m.state = barred
				}
			}
		}
	}
}

// probeFailed gives up the probe that the broker had when it closed a connection, and returns
// its topic; "": it had none.
func (o *outbox) probeFailed() (topic string) {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	r := &o.refused
	if p := r.probe; p.topic != nil && p.n < p.flow.next && p.flow.at(p.n).state == unanswered {
		topic = p.topic.name
		p.topic.later()
		r.notTill = time.Now().Add(probeSpacing)
		r.probe = topicProbe{}
		p.flow.at(p.n).state = barred
		o.popSettled(p.flow)
	}
	o.mu.Unlock()
	o.notify()
	return topic
}

// tellGivenUp tells of messages that add has given up, as far as it is their turn.
func (o *outbox) tellGivenUp() {
	o.notifyMu.Lock()
	defer o.notifyMu.Unlock()
	o.mu.Lock()
	for i := range o.flows {
		o.popSettled(&o.flows[i])
	}
	o.mu.Unlock()
	o.notify()
}
