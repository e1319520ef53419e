package session

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Subscription is one topic filter and the highest quality of service wanted.
type Subscription struct {
	Filter string
	QoS    byte // 0, 1 or 2

	// NoRetained has the broker not send what it has kept when it is asked for this, with MQTT 5.
	NoRetained bool

	// NoLocal has the broker not send what this client publishes itself, with MQTT 5.
	NoLocal bool

	// ID, if it is not 0, is the Subscription Identifier that messages for this subscription bear, with
	// MQTT 5 where the broker can do that: 1 to 268,435,455. See Message.Meant.
	ID uint32
}

// A subscription is one that is wanted. While it stays wanted, with the same
// quality of service, it stays the same; so what is known of it is not lost, and
// an answer that comes when it is wanted no more is entered where nobody looks.
type subscription struct {
	SubscriptionState
	round      uint32 // of SUBSCRIBEs in which it was asked for last
	asked      bool   // the broker may have it
	atBroker   bool   // the broker has it, on this connection or from one before
	uncertain  bool   // the broker may have it: a connection ended over the SUBSCRIBE
	withheld   bool   // the broker is not to have it, for it takes no more
	downgraded bool   // granted with less than asked for, when it was answered last
	proven     bool   // granted at least once
	loggedErr  string // of Err, in the log
}

// obsoleteFilter is one that the broker may have, and nobody wants.
type obsoleteFilter struct {
	atBroker bool // the broker has it
	failures int  // how often unsubscribing it, alone, ended the connection
}

// subscriptions are what is wanted and what is to be unsubscribed. They are changed
// by SetSubscriptions, and what is known of each by the goroutine of Run, both
// under the session's mu.
type subscriptions struct {
	wanted   []*subscription
	version  int // of wanted
	obsolete map[string]obsoleteFilter
	counts   *subscriptionCounts // nil: to be counted
}

// subscriptionCounts is what State says of the subscriptions, counted once for many who ask.
type subscriptionCounts struct {
	active, unanswered int
	troubled           []SubscriptionState
}

// newSubscriptions takes a persistent session for one that an earlier process may
// have filled.
func newSubscriptions(subs []Subscription, persistent bool) subscriptions {
	all := make([]subscription, len(subs)) // there may be 100,000
	s := subscriptions{wanted: make([]*subscription, len(subs)), obsolete: make(map[string]obsoleteFilter)}
	for i, sub := range subs {
		all[i].Subscription, all[i].asked = sub, persistent
		s.wanted[i] = &all[i]
	}
	return s
}

// markFormer has filters unsubscribed that the broker may have of an earlier process, unless they are wanted.
func (s *subscriptions) markFormer(filters []string) {
	if len(filters) == 0 {
		return
	}
	for _, filter := range filters {
		if validFilter(filter) {
			s.obsolete[filter] = obsoleteFilter{}
		}
	}
	for _, sub := range s.wanted {
		delete(s.obsolete, sub.Filter)
	}
}

// SetSubscriptions replaces the subscriptions. Those that stay, with the same
// quality of service, notice nothing, and lose nothing. What is new is asked for,
// and only then what is gone is unsubscribed: a filter that is replaced by one that
// covers it loses nothing either, though a message that both match may come twice.
// State shows the change at once. Without a connection it waits for the next one;
// what is gone is then unsubscribed if the broker remembers the session. An error
// lists all that is wrong, and nothing is changed. It may be called from any
// goroutine, and does not wait for the broker. A status that was left out is tried again.
func (s *Session) SetSubscriptions(subs []Subscription) error {
	if err := checkSubscriptions(subs); err != nil {
		return err
	}
	s.mu.Lock()
	s.subs.replace(subs)
	s.mu.Unlock()
	s.status.anew.Store(true)
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// checkSubscriptions reports every fault at once.
func checkSubscriptions(subs []Subscription) error {
	var errs []error
	for _, sub := range subs {
		if !validFilter(sub.Filter) {
			errs = append(errs, fmt.Errorf("filter %q: not a topic filter", sub.Filter))
		}
		if sub.QoS > 2 {
			errs = append(errs, fmt.Errorf("filter %q: QoS %d: want 0, 1 or 2", sub.Filter, sub.QoS))
		}
	}
	return errors.Join(errs...)
}

// replace makes subs what is wanted.
func (s *subscriptions) replace(subs []Subscription) {
	was := make(map[string]*subscription, len(s.wanted))
	for _, sub := range s.wanted {
		was[sub.Filter] = sub
	}
	wanted := make([]*subscription, len(subs))
	for i, want := range subs {
		old := was[want.Filter]
		if old != nil && old.Subscription == want {
			wanted[i] = old
			continue
		}
		was, asked := s.obsolete[want.Filter]
		held := was.atBroker || old != nil && old.atBroker
		asked = asked || old != nil && old.asked
		wanted[i] = &subscription{SubscriptionState: SubscriptionState{Subscription: want}, asked: asked, atBroker: held}
	}
	for _, want := range subs {
		delete(was, want.Filter)
		delete(s.obsolete, want.Filter)
	}
	for filter, sub := range was {
		if sub.asked {
			s.obsolete[filter] = obsoleteFilter{atBroker: sub.atBroker}
		}
	}
	s.wanted, s.counts = wanted, nil
	s.version++
}

// count counts, unless nothing has changed since the last time.
func (s *subscriptions) count() *subscriptionCounts {
	if s.counts != nil {
		return s.counts
	}
	t := new(subscriptionCounts)
	for _, sub := range s.wanted {
		answered := sub.Active || sub.Err != "" && !sub.downgraded
		if sub.Active {
			t.active++
		}
		if !answered {
			t.unanswered++
		} else if sub.Err != "" {
			t.troubled = append(t.troubled, sub.SubscriptionState)
		}
	}
	s.counts = t
	return t
}

// missing lists what is to be asked for in a round: what is wanted, not granted,
// and not asked for in this round before; with again also what was refused. Where the
// broker takes no more than so many, that is those that come first. Where something has
// ended connections it comes last, and first what the broker took before.
func (s *Session) missing(again bool) (todo []*subscription, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.subscriber.limits
	l.dropUnwanted(s.subs.wanted)
	places := 0
	for _, sub := range s.subs.wanted {
		trouble, troubled := l.closedOver[sub]
		if trouble.leftOut {
			sub.withheld = false
			continue
		}
		left, surplus := false, false
		switch {
		case l.trial != nil && sub != l.trial:
			left = troubled || !sub.proven || places >= l.trialSubs-1
		case l.trial == nil && l.subs() >= 0:
			left = places >= l.subs()
			surplus = left
		}
		if !left && sub != l.trial {
			places++
		}
		s.subs.setWithheld(sub, left, surplus, l)
		if left || sub.Active || sub.round == s.subscriber.round || sub.Err != "" && !again {
			continue
		}
		todo = append(todo, sub)
	}
	if l.careful() {
		todo = l.order(todo)
	}
	return todo, s.subs.version
}

// setWithheld notes whether the broker is not to have a subscription, and why.
func (s *subscriptions) setWithheld(sub *subscription, left, surplus bool, l *limits) {
	sub.withheld = left
	switch text := l.surplusText(); {
	case surplus && sub.Err != text:
		sub.Surplus, sub.Err, sub.downgraded, s.counts = true, text, false, nil
	case !surplus && sub.Surplus:
		sub.Surplus, sub.Err, s.counts = false, "", nil
	}
}

// dropUnwanted forgets what is not wanted any more.
func (l *limits) dropUnwanted(wanted []*subscription) {
	if len(l.closedOver) == 0 && l.trial == nil {
		return
	}
	troubles := make(map[*subscription]closeRecord)
	trial := false
	for _, sub := range wanted {
		if t, ok := l.closedOver[sub]; ok {
			troubles[sub] = t
		}
		trial = trial || sub == l.trial
	}
	if l.closedOver = troubles; !trial {
		l.trial = nil
	}
}

// order puts first what the broker took before, and last what ended connections. What
// is between begins elsewhere each time that something did: filters beside each other are
// often of one kind, and where all are bad, others may not be.
func (l *limits) order(todo []*subscription) []*subscription {
	var proven, others, last []*subscription
	for _, sub := range todo {
		list := &others
		if _, troubled := l.closedOver[sub]; troubled || sub == l.trial {
			list = &last
		} else if sub.proven {
			list = &proven
		}
		*list = append(*list, sub)
	}
	if n := l.countClosed(); n > 0 && len(others) > 0 {
		i := n * 618 * len(others) / 1000 % len(others)
		others = slices.Concat(others[i:], others[:i])
	}
	return slices.Concat(proven, others, last)
}

// mayHaveMore reports whether the broker may have some more of those wanted than are known, beside
// this one and others over which it closed a connection.
func (s *subscriptions) mayHaveMore(but *subscription, l *limits) bool {
	return slices.ContainsFunc(s.wanted, func(sub *subscription) bool {
		_, troubled := l.closedOver[sub]
		return sub.uncertain && sub != but && !troubled
	})
}

// countAtBroker is how many subscriptions the broker has of us, as far as is known.
func (s *subscriptions) countAtBroker() (n int) {
	for _, sub := range s.wanted {
		if sub.atBroker {
			n++
		}
	}
	for _, gone := range s.obsolete {
		if gone.atBroker {
			n++
		}
	}
	return n
}

// countNotAtBroker is how many of them the broker does not have, as far as is known.
func countNotAtBroker(subs []*subscription) (n int) {
	for _, sub := range subs {
		if !sub.atBroker {
			n++
		}
	}
	return n
}

// mustUnsubscribeFirst reports whether what nobody wants is to be unsubscribed before
// todo is asked for: else there would be more subscriptions than the broker takes.
func (s *Session) mustUnsubscribeFirst(todo []*subscription) bool {
	space := s.subscriber.limits.subsAllowed()
	switch {
	case s.subscriber.limits.unsure:
		return true
	case space < 0 || len(todo) == 0:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subs.countAtBroker()+countNotAtBroker(todo) > space
}

// nextChunk takes as much of todo as fits one SUBSCRIBE, at least one. It is nil
// when what is wanted has changed since todo was listed.
func (s *Session) nextChunk(todo []*subscription, version int) []*subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs.version != version {
		return nil
	}
	todo = s.subscriber.limits.compatible(todo)
	todo = withOneID(todo)
	n := countThatFit(len(todo), func(i int) int { return subscribeSize(todo[i].Filter) })
	for _, sub := range todo[:n] {
		sub.asked, sub.round = true, s.subscriber.round
	}
	return todo[:n]
}

// withOneID are those that go into one packet with the first: a SUBSCRIBE has one identifier for
// all its filters.
func withOneID(todo []*subscription) []*subscription {
	n := 1
	for n < len(todo) && todo[n].ID == todo[0].ID && todo[0].ID == 0 {
		n++
	}
	return todo[:n]
}

// compatible are those of todo that may go into one packet.
func (l *limits) compatible(todo []*subscription) []*subscription {
	first := todo[0]
	most := l.maxFilters
	if first.proven {
		most = max(most, l.provenFilters)
	}
	if !l.careful() {
		return todo[:min(most, len(todo))]
	}
	struck := l.countClosed() > 0
	alone := func(sub *subscription) bool {
		_, troubled := l.closedOver[sub]
		return troubled || sub == l.trial || struck && sub.uncertain
	}
	n := 1
	for n < min(most, len(todo)) && !alone(first) && !alone(todo[n]) && todo[n].proven == first.proven {
		n++
	}
	return todo[:n]
}

// toUnsubscribe lists what is to be unsubscribed: what nobody wants, what is wanted and left out,
// and where it has to be known how many subscriptions the broker has what it may have.
func (s *Session) toUnsubscribe() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	filters := slices.Collect(maps.Keys(s.subs.obsolete))
	for _, sub := range s.subs.wanted {
		if sub.withheld && sub.atBroker || sub.uncertain && s.subscriber.limits.unsure {
			filters = append(filters, sub.Filter)
		}
	}
	slices.Sort(filters)
	return filters
}

// nextUnsubscribe takes as much of todo as fits one UNSUBSCRIBE, at least one. It is nil
// when what is wanted is of another version.
func (s *Session) nextUnsubscribe(todo []string, version int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs.version != version {
		return nil
	}
	todo = todo[:min(max(s.subscriber.limits.maxFilters, s.subscriber.limits.provenFilters), len(todo))]
	return todo[:countThatFit(len(todo), func(i int) int { return unsubscribeSize(todo[i]) })]
}

// countThatFit is how many of n filters go into one packet, at least one.
func countThatFit(n int, size func(i int) int) int {
	bytes := 0
	for i := range n {
		if bytes += size(i); i > 0 && bytes > maxChunkBytes {
			return i
		}
	}
	return n
}

// removed says what the broker does not have any more.
func (s *subscriptions) removed(filters ...string) {
	left := 0
	for _, filter := range filters {
		if _, ok := s.obsolete[filter]; !ok {
			left++
		}
		delete(s.obsolete, filter)
	}
	if left == 0 {
		return
	}
	s.counts = nil
	for _, sub := range s.wanted {
		if (sub.withheld || sub.uncertain) && slices.Contains(filters, sub.Filter) {
			sub.Active, sub.atBroker, sub.asked, sub.uncertain = false, false, false, false
		}
	}
}

// allRemoved says that the broker has nothing of ours.
func (s *subscriptions) allRemoved() {
	clear(s.obsolete)
	for _, sub := range s.wanted {
		sub.atBroker, sub.asked, sub.uncertain = false, false, false
	}
}

// deactivate is the end of a connection: nothing is granted any more.
func (s *subscriptions) deactivate() {
	s.counts = nil
	for _, sub := range s.wanted {
		sub.Active = false
	}
}
