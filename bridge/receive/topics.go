package receive

import (
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
)

// What is remembered of topics, where every, on_change or the loop guard needs it. Each rule
// has the same part of the memory for them, and the rest is for whoever comes first. Where
// topics are made of addresses, whoever forges senders makes up topics; so one that was used
// for a while is known, and stays, and new ones take the place of new ones. For what finds no
// place every and on_change do not apply: its datagrams are published as they come, in order,
// and counted.

// ruleTopic is one topic of a receive rule.
type ruleTopic struct {
	rule  *Rule
	name  []byte
	seed  uint64      // makes equal payloads of two topics differ
	state *topicState // nil: nothing is remembered of the topic, and if it is not gone, nothing needs to be

	test    atomic.Pointer[loopTest] // nil: none is under way
	returns atomic.Bool              // the broker may hand us our own message on it, for a group
	gone    atomic.Bool              // it is not, or not any more, among those that are remembered
	known   atomic.Bool              // it was used for a while
	used    account.Moment           // last, to about a second
	cost    int                      // bytes of the memory for topics
}

const (
	// maxTopicBytes bounds what is remembered of topics, of all rules.
	maxTopicBytes = 16 << 20
	// topicCost is what a topic takes, with account.Overhead, beside its name, of which there
	// are three copies.
	topicCost = 192
	// knownAfter is how long after its first use a topic is used again that is known.
	knownAfter = time.Second
	// topicIdle is how long a known topic is not used before another one may take its place.
	topicIdle = time.Hour
)

// topicMemory is what a rule remembers. The rule's mu guards it, but for what is atomic.
type topicMemory struct {
	all       map[string]*ruleTopic
	newcomers []*ruleTopic // in the order in which they came; some have become known
	known     []*ruleTopic // in the order in which they are looked at next
	room      *account.RuleBudget
	tested    map[string]*ruleTopic // others, while they are tested
	testing   atomic.Int32          // how many
	forgotten atomic.Uint64         // for others
	passed    atomic.Uint64         // datagrams for which every or on_change did not apply
}

// topicFor is a topic of a rule. Datagrams of several groups and senders may share one.
func (r *Rule) topicFor(topic []byte, now int64) *ruleTopic {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topics.all[string(topic)]; t != nil {
		return t
	}
	t := r.newTopic(topic, now)
	if !r.paced() && r.delay == nil && !r.path.paces(topic) {
		return t
	}
	if !r.Topic.Varies() { // it is the only one
		r.remember(t, 0)
		return t
	}
	cost := 3*len(topic) + topicCost
	for !r.topics.room.Acquire(cost) {
		if !r.makeRoom(now) {
			if r.path.remembers(topic) {
				r.remember(t, 0) // else another rule of the topic would take what it knows for the last
			} else {
				t.gone.Store(true)
			}
			return t
		}
	}
	r.remember(t, cost)
	return t
}

// testable is the topic of that name that is tested: of those of which nothing is remembered
// each sender has one of his own.
func (t *ruleTopic) testable() *ruleTopic {
	r := t.rule
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept := r.topics.all[string(t.name)]; kept != nil {
		return kept
	}
	if kept := r.topics.tested[string(t.name)]; kept != nil {
		return kept
	}
	if r.topics.tested == nil {
		r.topics.tested = make(map[string]*ruleTopic)
	}
	r.topics.tested[string(t.name)] = t
	r.topics.testing.Add(1)
	return t
}

// underTest is the topic of that name that is tested, if one is.
func (t *ruleTopic) underTest() *ruleTopic {
	r := t.rule
	if r.topics.testing.Load() == 0 {
		return t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if kept := r.topics.tested[string(t.name)]; kept != nil {
		return kept
	}
	return t
}

// testOver is called when no test of the topic has begun, or one is over.
func (t *ruleTopic) testOver() {
	r := t.rule
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.test.Load() == nil && r.topics.tested[string(t.name)] == t {
		delete(r.topics.tested, string(t.name))
		r.topics.testing.Add(-1)
	}
}

func (r *Rule) newTopic(topic []byte, now int64) *ruleTopic {
	t := &ruleTopic{rule: r, name: topic, seed: loopguard.Fingerprint(topic)}
	t.used.Put(now)
	t.returns.Store(r.delay != nil && r.path.returns(string(topic)))
	return t
}

// remember enters a topic. Callers hold mu.
func (r *Rule) remember(t *ruleTopic, cost int) {
	t.cost = cost
	t.state = r.path.state(t.name, r)
	if r.topics.all == nil {
		r.topics.all = make(map[string]*ruleTopic)
	}
	r.topics.all[string(t.name)] = t
	r.topics.newcomers = append(r.topics.newcomers, t)
}

// touch takes note that a topic is used.
func (t *ruleTopic) touch(now int64) {
	if time.Duration(now-t.used.Load()) >= knownAfter {
		t.used.Put(now)
		t.known.Store(true)
	}
}

// makeRoom forgets a topic: a new one, or one that was not used for long. It looks at a few
// only. Callers hold mu.
func (r *Rule) makeRoom(now int64) bool {
	m := &r.topics
	for range 4 {
		from := &m.newcomers
		if len(*from) == 0 {
			from = &m.known
		}
		if len(*from) == 0 {
			return false
		}
		t := (*from)[0]
		(*from)[0] = nil
		*from = (*from)[1:]
		switch {
		case t.known.Load() && time.Duration(now-t.used.Load()) < topicIdle:
			m.known = append(m.known, t)
		case r.forget(t):
			return true
		default:
			*from = append(*from, t)
		}
	}
	return false
}

// forget forgets a topic, unless something waits or is tested there, or is just being
// decided on. Callers hold the rule's mu.
func (r *Rule) forget(t *ruleTopic) bool {
	s := t.state
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	if t.test.Load() != nil || s.latest != nil && s.latest.topic == t {
		return false
	}
	t.gone.Store(true)
	r.path.forgetState(t)
	delete(r.topics.all, string(t.name))
	if t.cost > 0 {
		r.topics.room.Release(1, t.cost)
	}
	r.topics.forgotten.Add(1)
	return true
}

// passes counts a datagram for which every and on_change do not apply, as nothing can be
// remembered of its topic, and tells of the first.
func (r *Rule) passes(t *ruleTopic) {
	if r.topics.passed.Add(1) == 1 {
		r.Log.Warn("there are more topics than can be remembered; those without a place are published as they come, whatever every and on_change say",
			"rule", r.Name, "topic", string(t.name), "bytes", r.topics.room.Used())
	}
}

// Remembered is what a rule remembers.
type Remembered struct {
	Topics      int    `json:"topics,omitempty"`           // of which the last message is known
	TopicBytes  int64  `json:"topic_bytes,omitempty"`      // what they take
	Forgotten   uint64 `json:"topics_forgotten,omitempty"` // so far, for others
	Passed      uint64 `json:"passed,omitempty"`           // datagrams for which every or on_change did not apply, as there was no place for their topic
	Senders     int    `json:"senders,omitempty"`          // in all groups of the rule, those of other rules of a group included
	SenderBytes int64  `json:"sender_bytes,omitempty"`     // what they take
	Unmerged    uint64 `json:"unmerged,omitempty"`         // merge: datagrams of which a copy may have been published too, as there was no room or no place for their leg
}

// remembered is what the rule remembers now.
func (r *Rule) remembered() Remembered {
	r.mu.Lock()
	n := len(r.topics.all)
	r.mu.Unlock()
	m := Remembered{Topics: n, TopicBytes: r.topics.room.Used(), Forgotten: r.topics.forgotten.Load(), Passed: r.topics.passed.Load()}
	for _, of := range r.memberships {
		bytes := of.room.Used()
		m.SenderBytes += bytes
		m.Senders += int(bytes) / (senderSize(len(of.listeners.Load().rules)) + account.Overhead)
	}
	return m
}

// releaseTopics releases the topics of a rule that hears nothing any more.
func (r *Rule) releaseTopics() {
	r.inPayloads.mu.Lock()
	r.inPayloads.forgetAll()
	r.inPayloads.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.topics.all {
		if t.cost > 0 {
			r.topics.room.Release(1, t.cost)
		}
	}
	r.path.release(r.topics.all)
	r.topics.all, r.topics.newcomers, r.topics.known = nil, nil, nil
}
