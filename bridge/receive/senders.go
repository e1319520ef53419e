package receive

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/mapping"
)

// What a reader remembers of senders: which rules take their datagrams, to which topics. It
// is nothing where no rule asks who sent a datagram. Forgetting costs time only: it is
// found out again at the next datagram.

// senderState is what is known of one sender.
type senderState struct {
	digest  uint64 // loopguard.SourceDigest of its address
	actions []ruleAction
}

// ruleAction is what one rule does with the datagrams of a sender.
type ruleAction struct {
	rule  *Rule
	topic *ruleTopic     // nil: its datagrams go no further,
	why   account.Reason // for this reason
	err   error
	seed  uint64 // what tells its topic from others, for merge
}

// current is the topic, or what has taken its place since it was forgotten.
func (a *ruleAction) current(now int64) *ruleTopic {
	if a.topic.gone.Load() {
		a.topic = a.rule.topicFor(a.topic.name, now)
	}
	return a.topic
}

const (
	// maxSenderBytes bounds what is remembered of senders, of all groups. A quarter is kept
	// for the memberships, each the same part.
	maxSenderBytes = 4 << 20
	// What a sender takes, and each rule of his.
	senderCost = 32
	actionCost = 96
)

// senderSize is what a sender takes where so many rules listen.
func senderSize(rules int) int { return senderCost + actionCost*rules }

// senders are those that a reader knows: the current ones, and the previous, which are forgotten when
// there is no room for others, unless they are heard again.
type senders struct {
	byAddress, byPort bool         // what is done with a datagram depends on who sent it
	byDestination     bool         // and on where it was sent to: these are those of one destination
	anyone            *senderState // else: of all senders

	now, before map[netip.AddrPort]*senderState
	cost        int // of each
	last        *senderState
	lastSource  netip.AddrPort
	room        *account.RuleBudget
}

// takeRules takes notice of other rules than those of the last batch, and of other topics of
// which something is to be remembered.
func (r *groupReader) takeRules() {
	now, pacings := r.listeners.Load(), r.path.pacings.Load()
	if now == r.lastListeners && pacings == r.lastPacings {
		return
	}
	r.lastListeners, r.lastPacings = now, pacings
	r.forgetSenders()
	s := senders{room: r.senders.room, cost: senderSize(len(now.rules))}
	for _, rule := range now.rules {
		address, port := rule.Topic.VariesBySender()
		s.byAddress = s.byAddress || address || len(rule.Sources) > 0
		s.byPort = s.byPort || port
		s.byDestination = s.byDestination || r.Host() && rule.Topic.VariesByDestination()
	}
	r.senders = s
}

func (r *groupReader) arrival(source netip.AddrPort, digest uint64, now time.Time) arrival {
	return arrival{
		Arrival: mapping.Arrival{To: r.to, Source: source, Interface: r.name, At: now},
		on:      int32(r.at.Index),
		source:  digest,
	}
}

// sender finds what is known of a sender. A batch is often all of one.
func (r *groupReader) sender(source netip.AddrPort, now int64) *senderState {
	s := &r.senders
	if s.last != nil && s.lastSource == source {
		return s.last
	}
	s.lastSource = source
	switch {
	case s.byAddress || s.byPort:
		s.last = r.findSender(source, now)
	case s.anyone == nil:
		s.anyone = r.newSender(source, now)
		s.last = s.anyone
	default:
		s.anyone.digest = loopguard.SourceDigest(source.Addr())
		s.last = s.anyone
	}
	return s.last
}

// findSender finds a sender, and remembers it if there is room.
func (r *groupReader) findSender(source netip.AddrPort, now int64) *senderState {
	s, key := &r.senders, source
	if !s.byPort {
		key = netip.AddrPortFrom(source.Addr(), 0)
	}
	if found := s.now[key]; found != nil {
		return found
	}
	found := s.before[key]
	if found != nil {
		delete(s.before, key)
	} else {
		found = r.newSender(source, now)
		if !s.makeRoom() {
			return found
		}
	}
	if s.now == nil {
		s.now = make(map[netip.AddrPort]*senderState)
	}
	s.now[key] = found
	return found
}

// newSender finds out which rules take the datagrams of a sender, and to where.
func (r *groupReader) newSender(source netip.AddrPort, now int64) *senderState {
	s := &senderState{digest: loopguard.SourceDigest(source.Addr()), actions: make([]ruleAction, len(r.lastListeners.rules))}
	a := r.arrival(source, s.digest, time.Time{})
	for i, rule := range r.lastListeners.rules {
		s.actions[i] = rule.action(&a, now)
	}
	return s
}

// action finds out whether a rule takes the datagrams of a sender, and to where.
func (r *Rule) action(a *arrival, now int64) ruleAction {
	if !r.accepts(a.Source.Addr()) {
		return ruleAction{rule: r, why: account.ReasonSource}
	}
	if r.Topic.VariesByPayload() { // it is found for each message
		return ruleAction{rule: r, topic: &ruleTopic{rule: r, name: []byte(r.Topic.String())}, seed: loopguard.Fingerprint(r.Topic.AppendArrival(nil, &a.Arrival))}
	}
	topic, err := r.Topic.Append(nil, &a.Arrival, r.Name)
	if err != nil {
		return ruleAction{rule: r, why: account.ReasonBadTopic, err: err}
	}
	t := r.topicFor(topic, now)
	return ruleAction{rule: r, topic: t, seed: t.seed}
}

func (r *Rule) accepts(source netip.Addr) bool {
	for _, p := range r.Sources {
		if p.Contains(source) {
			return true
		}
	}
	return len(r.Sources) == 0
}

// makeRoom takes room for one more sender, and forgets others for it.
func (s *senders) makeRoom() bool {
	if s.room.Acquire(s.cost) {
		return true
	}
	if len(s.before) == 0 {
		s.now, s.before = nil, s.now
	}
	s.room.Release(len(s.before), len(s.before)*s.cost)
	s.before = nil
	return s.room.Acquire(s.cost)
}

// mostDestinations is of how many destinations of a host's port senders are remembered at a
// time: a host has few addresses, and few broadcasts come.
const mostDestinations = 8

// turnTo takes in hand what was sent to an address of the host.
func (r *groupReader) turnTo(to netip.AddrPort) {
	if !r.senders.byDestination {
		r.to = to
		return
	}
	if len(r.others) >= mostDestinations {
		r.forgetSenders()
	}
	if r.others == nil {
		r.others = make(map[netip.AddrPort]senders)
	}
	next, known := r.others[to]
	if !known {
		next = r.senders
		next.now, next.before, next.anyone, next.last = nil, nil, nil, nil
	}
	delete(r.others, to)
	r.others[r.to] = r.senders
	r.to, r.senders = to, next
}

// forgetSenders forgets the senders to all destinations.
func (r *groupReader) forgetSenders() {
	r.senders.forgetAll()
	for _, s := range r.others {
		s.forgetAll()
	}
	r.others = nil
}

// forgetAll forgets all, and gives their room back.
func (s *senders) forgetAll() {
	n := len(s.now) + len(s.before)
	s.room.Release(n, n*s.cost)
	s.now, s.before, s.anyone, s.last = nil, nil, nil, nil
}
