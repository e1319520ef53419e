package receive

import (
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/tap"
	"topicast/mapping"
)

// topicState is what is to be known of a topic where a rule publishes on it only now
// and then (every), or only what is new (on_change). All rules that publish on the
// topic share it, those of a configuration before included: what one has published
// counts for the others.
type topicState struct {
	paced  atomic.Bool // a rule with every or on_change publishes on it
	shared atomic.Bool // by more than one goroutine: messages are handed over within mu, so that the last one here is the last one there
	users  int         // topics of rules that share it; under the path's statesMu

	// mu is held while a message of the topic is decided on, and in flush and where it
	// is shared until the session has it. It comes before the locks of breaker, loop
	// test and publish spool; a loop test of a rule without every and on_change, whose topic
	// takes mu only to tell, comes before it.
	mu     sync.Mutex
	last   publishedState
	at     time.Time        // of the last message
	latest *waitingDatagram // every: what waits, of whichever rule
	timer  *time.Timer
}

// publishedState is what on_change compares a datagram with: not the message, for an
// envelope has the time in it.
type publishedState struct {
	fingerprint uint64 // of the payload and of how it is encoded; 0: none
	retained    bool   // the broker keeps it
	assured     bool   // QoS 1 or 2
	by          *receiveTotals
	failures    uint64 // by's, when it was published
}

func (r *Rule) paced() bool { return r.OnChange || r.Every > 0 }

// state finds what is known of a topic, for one more user.
func (p *Path) state(topic []byte, r *Rule) *topicState {
	p.statesMu.Lock()
	defer p.statesMu.Unlock()
	s := p.states[string(topic)]
	switch {
	case s != nil && s.users == 0:
		p.unused--
	case s == nil:
		if p.states == nil {
			p.states = make(map[string]*topicState)
		}
		s = new(topicState)
		p.states[string(topic)] = s
	}
	s.users++
	if s.users > 1 || len(r.memberships) > 1 {
		s.shared.Store(true)
	}
	if r.paced() || p.pacing.on(string(topic)) {
		s.paced.Store(true)
	}
	return s
}

// pacing are the topics that rules with every or on_change may publish on.
type pacing struct {
	fixed   map[string]bool
	varying []mapping.Topic
}

// maxVarying bounds what each new topic is compared with. Beyond it, all topics are
// taken for such.
const maxVarying = 64

func newPacing(rules []*Rule) pacing {
	p := pacing{fixed: make(map[string]bool)}
	for _, r := range rules {
		switch {
		case !r.paced():
		case r.Topic.Varies():
			p.varying = append(p.varying, r.Topic)
		default:
			p.fixed[r.Topic.String()] = true
		}
	}
	return p
}

func (p *pacing) on(topic string) bool {
	return p.fixed[topic] || len(p.varying) > maxVarying ||
		slices.ContainsFunc(p.varying, func(t mapping.Topic) bool { return t.Matches(topic) })
}

// setPacing has the topics that are known already learn of the rules of another table.
func (p *Path) setPacing(next pacing) {
	p.statesMu.Lock()
	defer p.statesMu.Unlock()
	if !reflect.DeepEqual(p.pacing, next) {
		p.pacings.Add(1)
	}
	p.pacing = next
	for topic, s := range p.states {
		if !s.paced.Load() && next.on(topic) {
			s.paced.Store(true)
		}
	}
}

// paces reports whether a rule with every or on_change may publish on a topic.
func (p *Path) paces(topic []byte) bool {
	p.statesMu.Lock()
	defer p.statesMu.Unlock()
	return p.pacing.on(string(topic))
}

// remembers reports whether anything is known of a topic, by whichever rule.
func (p *Path) remembers(topic []byte) bool {
	p.statesMu.Lock()
	defer p.statesMu.Unlock()
	return p.states[string(topic)] != nil
}

// forgetState takes a topic off the state that it used, which is forgotten if no other rule
// uses it.
func (p *Path) forgetState(t *ruleTopic) {
	p.statesMu.Lock()
	defer p.statesMu.Unlock()
	if t.state.users--; t.state.users == 0 {
		delete(p.states, string(t.name))
	}
}

// maxUnused bounds the states of topics that no rule uses.
const maxUnused = 1 << 15

// release takes topics off the states that they used, when their rule goes. Those states
// stay, as rules of the next table may publish on the same topics, within maxUnused.
func (p *Path) release(topics map[string]*ruleTopic) {
	p.statesMu.Lock()
	defer p.statesMu.Unlock()
	for _, t := range topics {
		if t.state.users--; t.state.users == 0 {
			p.unused++
		}
	}
	if p.unused > maxUnused {
		maps.DeleteFunc(p.states, func(_ string, s *topicState) bool { return s.users == 0 })
		p.unused = 0
	}
}

// lock is the topic as it is remembered now, with its state's mu held, or one without a state.
func (t *ruleTopic) lock(now int64) *ruleTopic {
	for t.state != nil {
		t.state.mu.Lock()
		if !t.gone.Load() {
			t.touch(now)
			return t
		}
		t.state.mu.Unlock()
		t = t.rule.topicFor(t.name, now)
	}
	return t
}

// mayWait reports whether a datagram may wait for its time. Those of new topics, which
// anybody can make up, do not while the rule takes much of the memory for what waits: they
// are published.
func (t *ruleTopic) mayWait() bool {
	return t.known.Load() || t.rule.budget.Used() <= t.rule.path.budget.Size()/16
}

// limitRate lets a datagram go on if its time has come and it is new. One that came too
// soon waits, and takes the place of one that waits already.
func (t *ruleTopic) limitRate(payload []byte, fingerprint uint64, a *arrival, b *batch) {
	t = t.lock(account.MomentOf(b.now))
	s := t.state
	if s == nil {
		t.rule.passes(t)
		t.pass(payload, fingerprint, a, b)
		return
	}
	defer s.mu.Unlock()
	s.supersede()
	if next := s.at.Add(t.rule.Every); t.rule.Every > 0 && b.now.Before(next) {
		if t.mayWait() {
			if s.latest = t.keep(payload, a); s.latest != nil {
				t.rule.report(tap.Waiting, t.name, a, payload, "", "for its time: every")
				s.wake(next.Sub(b.now))
			}
			return
		}
		t.rule.passes(t)
	}
	if !s.isNew(t, payload, fingerprint, a, b.now) {
		return
	}
	t.pass(payload, fingerprint, a, b)
	if s.shared.Load() {
		t.rule.path.flush(b)
	}
}

// supersede drops what waits: the latest wins. Callers hold mu.
func (s *topicState) supersede() {
	if s.latest != nil {
		s.latest.release()
		w := s.latest
		w.topic.rule.lose(account.ReasonSuperseded, w.topic.name, &w.arrival, w.payload, nil)
		s.latest = nil
	}
}

// isNew reports whether a payload is to be published, and takes it for published if so.
// Callers hold mu.
func (s *topicState) isNew(t *ruleTopic, payload []byte, fingerprint uint64, a *arrival, now time.Time) bool {
	if t.rule.OnChange && s.last.covers(t.rule, fingerprint) {
		t.rule.lose(account.ReasonUnchanged, t.name, a, payload, nil)
		return false
	}
	s.published(t.rule, fingerprint, now)
	return true
}

// covers reports whether what was published last does for this payload of a rule as
// well: the same bytes, kept by the broker and assured as the rule wants it, and not
// lost on the way.
func (l *publishedState) covers(r *Rule, fingerprint uint64) bool {
	return l.fingerprint == r.encodedPrint(fingerprint) && (l.retained || !r.Retain) && (l.assured || r.QoS == 0) && l.by.failures.Load() == l.failures
}

// encodedPrint makes equal payloads differ that different encodings make of them.
func (r *Rule) encodedPrint(fingerprint uint64) uint64 {
	if fingerprint += uint64(r.Encoding) * 0x9e3779b97f4a7c15; fingerprint != 0 {
		return fingerprint
	}
	return 1
}

// published takes note of a message. Callers hold mu.
func (s *topicState) published(r *Rule, fingerprint uint64, now time.Time) {
	s.last = publishedState{r.encodedPrint(fingerprint), r.Retain, r.QoS > 0, r.receiveTotals, r.failures.Load()}
	s.at = now
}

func (s *topicState) wake(after time.Duration) {
	if s.timer == nil {
		s.timer = time.AfterFunc(after, func() { s.flush(nil) })
	} else {
		s.timer.Reset(after)
	}
}

// flush publishes what waits, if anything does, of a rule; nil is any.
func (s *topicState) flush(of *Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.latest
	if w == nil || of != nil && w.topic.rule != of {
		return
	}
	p := w.topic.rule.path
	b := p.newBatch()
	defer p.publish(b) // before the next can go
	s.latest = nil
	w.release()
	if fingerprint := loopguard.Fingerprint(w.payload); s.isNew(w.topic, w.payload, fingerprint, &w.arrival, b.now) {
		w.topic.pass(w.payload, fingerprint, &w.arrival, b)
	}
}

// note informs the rules that share the topic of a message of a rule that has neither
// every nor on_change: it is the last one, and what waits is older.
func (t *ruleTopic) note(payload []byte, a *arrival, b *batch) {
	t = t.lock(account.MomentOf(b.now))
	s := t.state
	if s == nil {
		t.encode(payload, a, b)
		return
	}
	defer s.mu.Unlock()
	s.supersede()
	s.published(t.rule, loopguard.Fingerprint(payload), b.now)
	t.encode(payload, a, b)
	t.rule.path.flush(b)
}
