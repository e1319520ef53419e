package receive

import (
	"bytes"
	"fmt"
	"sync"

	"topicast/bridge/account"
	"topicast/mapping"
)

// What a rule does that looks into datagrams: it takes some of them only (when), there are
// several messages in each (split), or their topic stands in them. A rule that does none of
// it never comes here.

// maxParts is how many messages a datagram brings that is split.
const maxParts = 1024

// inspectsPayload reports whether a rule needs the payload of a datagram to decide about it.
func inspectsPayload(r *mapping.ReceiveRule) bool {
	return !r.When.IsZero() || r.Split != mapping.SplitNone || r.Topic.VariesByPayload()
}

// look is what carry is for a rule that looks into datagrams: it carries each message of one.
func (t *ruleTopic) look(payload []byte, a *arrival, b *batch) {
	r := t.rule
	if r.Split == mapping.SplitNone {
		t.lookAt(payload, a, b)
		return
	}
	n := 0
	for message, rest, ok := r.Split.Next(payload); ok; message, rest, ok = r.Split.Next(rest) {
		if n++; n <= maxParts {
			t.lookAt(message, a, b)
		}
	}
	switch {
	case n == 0:
		r.lose(account.ReasonEmpty, nil, a, payload, nil)
	case n > maxParts:
		r.loseMany(account.ReasonOversize, uint64(n-maxParts), "datagram", a.String(), errTooManyParts)
	}
}

// lookAt carries one message of a datagram.
func (t *ruleTopic) lookAt(message []byte, a *arrival, b *batch) {
	r := t.rule
	if !r.When.Matches(message, &a.Arrival, r.Name) {
		r.lose(account.ReasonWhen, t.knownName(), a, message, nil)
		return
	}
	r.notice(account.MomentOf(b.now))
	if r.Topic.VariesByPayload() {
		if t = r.topicIn(message, a, b); t == nil {
			return
		}
	}
	t.carry(message, a, b)
}

var errTooManyParts = fmt.Errorf("a datagram is split into %d messages at most", maxParts)

// knownName is the topic, where it does not depend on the message; else nil.
func (t *ruleTopic) knownName() []byte {
	if t.rule.Topic.VariesByPayload() {
		return nil
	}
	return t.name
}

// topicIn is the topic of a message, where that depends on it; nil: there is none, and that is
// counted.
func (r *Rule) topicIn(message []byte, a *arrival, b *batch) *ruleTopic {
	var err error
	if b.topic, err = r.Topic.AppendOf(b.topic[:0], message, &a.Arrival, r.Name); err != nil {
		why := account.ReasonBadTopic
		if e, is := err.(*mapping.TopicError); is && e.Missing {
			why = account.ReasonField
		}
		r.drop(why, nil, a, message, err)
		return nil
	}
	return r.inPayloads.find(r, b.topic, account.MomentOf(b.now))
}

// payloadTopics are the topics of a rule that stand in its datagrams: the current ones, and the
// previous, which are forgotten when there is no room for others, unless they come again.
// Forgetting costs time only.
type payloadTopics struct {
	mu          sync.Mutex // comes before the rule's
	now, before map[string]*ruleTopic
	cost        [2]int // what these take, without what account adds for each
	pacings     uint64 // of the path, as the topics were found
	room        *account.RuleBudget
}

// maxPayloadTopicBytes bounds what is remembered of topics that stand in datagrams, of all
// rules. A quarter is kept for these, each the same part.
const maxPayloadTopicBytes = 8 << 20

// find finds a topic. It keeps nothing of name.
func (m *payloadTopics) find(r *Rule, name []byte, now int64) *ruleTopic {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pacings := r.path.pacings.Load(); pacings != m.pacings {
		m.forgetAll()
		m.pacings = pacings
	}
	if t := m.now[string(name)]; t != nil && !t.gone.Load() {
		return t
	}
	t := m.before[string(name)]
	if t == nil || t.gone.Load() {
		t = r.topicFor(bytes.Clone(name), now)
	}
	if m.now[string(name)] != nil { // its place was another's
		m.now[string(name)] = t
		return t
	}
	cost := 3*len(name) + topicCost
	if !m.room.Acquire(cost) {
		m.release(m.before, m.cost[1])
		m.now, m.before = nil, m.now
		m.cost = [2]int{0, m.cost[0]}
		if !m.room.Acquire(cost) {
			m.release(m.before, m.cost[1])
			m.before, m.cost[1] = nil, 0
			if !m.room.Acquire(cost) {
				return t
			}
		}
	}
	if m.now == nil {
		m.now = make(map[string]*ruleTopic)
	}
	m.now[string(name)] = t
	m.cost[0] += cost
	return t
}

func (m *payloadTopics) release(topics map[string]*ruleTopic, cost int) {
	m.room.Release(len(topics), cost)
}

// forgetAll forgets all, and gives their room back. Callers hold mu.
func (m *payloadTopics) forgetAll() {
	m.release(m.now, m.cost[0])
	m.release(m.before, m.cost[1])
	m.now, m.before, m.cost = nil, nil, [2]int{}
}
