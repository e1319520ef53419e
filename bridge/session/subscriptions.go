package session

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Subscription is one topic filter and the highest quality of service wanted.
type Subscription struct {
	Filter string
	QoS    byte // 0, 1 or 2
}

// A subscription is one that is wanted. While it stays wanted, with the same
// quality of service, it stays the same; so what is known of it is not lost, and
// an answer that comes when it is wanted no more is entered where nobody looks.
type subscription struct {
	SubscriptionState
	round   uint32   // of SUBSCRIBEs in which it was asked for last
	asked   bool     // the broker may have it
	lowered bool     // granted with less than asked for, when it was answered last
	proven  bool     // granted at least once
	trouble *trouble // nil: none
}

// trouble is what a subscription did to connections.
type trouble struct {
	strikes int       // how often it, asked for alone, ended one
	until   time.Time // end of its quarantine
}

// subscriptions are what is wanted and what is to be given back. They are changed
// by SetSubscriptions, and what is known of each by the goroutine of Run, both
// under the session's mu.
type subscriptions struct {
	wanted  []*subscription
	version int            // of wanted
	gone    map[string]int // filters that the broker may have, and nobody wants; how often giving one back, alone, ended the connection
	tally   *tally         // nil: to be counted
}

// tally is what State says of the subscriptions, counted once for many who ask.
type tally struct {
	active, unanswered int
	troubled           []SubscriptionState
}

// newSubscriptions takes a persistent session for one that an earlier process may
// have filled.
func newSubscriptions(subs []Subscription, persistent bool) subscriptions {
	all := make([]subscription, len(subs)) // there may be 100,000
	s := subscriptions{wanted: make([]*subscription, len(subs)), gone: make(map[string]int)}
	for i, sub := range subs {
		all[i].Subscription, all[i].asked = sub, persistent
		s.wanted[i] = &all[i]
	}
	return s
}

// SetSubscriptions replaces the subscriptions. Those that stay, with the same
// quality of service, notice nothing, and lose nothing. What is new is asked for,
// and only then what is gone is given back: a filter that is replaced by one that
// covers it loses nothing either, though a message that both match may come twice.
// State shows the change at once. Without a connection it waits for the next one;
// what is gone is then given back if the broker remembers the session. An error
// lists all that is wrong, and nothing is changed. It may be called from any
// goroutine, and does not wait for the broker.
func (s *Session) SetSubscriptions(subs []Subscription) error {
	if err := checkSubscriptions(subs); err != nil {
		return err
	}
	s.mu.Lock()
	s.subs.replace(subs)
	s.mu.Unlock()
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
		if old != nil && old.QoS == want.QoS {
			wanted[i] = old
			continue
		}
		_, asked := s.gone[want.Filter]
		asked = asked || old != nil && old.asked
		wanted[i] = &subscription{SubscriptionState: SubscriptionState{Subscription: want}, asked: asked}
	}
	for _, want := range subs {
		delete(was, want.Filter)
		delete(s.gone, want.Filter)
	}
	for filter, sub := range was {
		if sub.asked {
			s.gone[filter] = 0
		}
	}
	s.wanted, s.tally = wanted, nil
	s.version++
}

// count counts, unless nothing has changed since the last time.
func (s *subscriptions) count() *tally {
	if s.tally != nil {
		return s.tally
	}
	t := new(tally)
	for _, sub := range s.wanted {
		answered := sub.Active || sub.Err != "" && !sub.lowered
		if sub.Active {
			t.active++
		}
		if !answered {
			t.unanswered++
		} else if sub.Err != "" {
			t.troubled = append(t.troubled, sub.SubscriptionState)
		}
	}
	s.tally = t
	return t
}

// lacking lists what is to be asked for in a round: what is wanted, not granted,
// and not asked for in this round before; with again also what was refused.
func (s *Session) lacking(again bool) (todo []*subscription, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, sub := range s.subs.wanted {
		if sub.Active || sub.round == s.asking.round || sub.Err != "" && !again || sub.trouble != nil && now.Before(sub.trouble.until) {
			continue
		}
		todo = append(todo, sub)
	}
	return todo, s.subs.version
}

// nextChunk takes as much of todo as fits one SUBSCRIBE, at least one. It is nil
// when what is wanted has changed since todo was listed.
func (s *Session) nextChunk(todo []*subscription, version int) []*subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs.version != version {
		return nil
	}
	n := s.asking.fit(len(todo), func(i int) int { return 2 + len(todo[i].Filter) + 1 })
	for _, sub := range todo[:n] {
		sub.asked, sub.round = true, s.asking.round
	}
	return todo[:n]
}

// unwanted lists what is to be given back.
func (s *Session) unwanted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.subs.gone))
}

// nextGone takes as much of todo as fits one UNSUBSCRIBE, at least one. It is nil
// when what is wanted is of another version.
func (s *Session) nextGone(todo []string, version int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs.version != version {
		return nil
	}
	return todo[:s.asking.fit(len(todo), func(i int) int { return 2 + len(todo[i]) })]
}

// fit is how many of n filters go into one packet, at least one.
func (a *asking) fit(n int, size func(i int) int) int {
	bytes := 0
	for i := range n {
		if bytes += size(i); i > 0 && (i == a.chunk || bytes > maxChunkBytes) {
			return i
		}
	}
	return n
}

// forget says what the broker knows of us no more.
func (s *subscriptions) forget(filters ...string) {
	for _, filter := range filters {
		delete(s.gone, filter)
	}
}

// disconnect is the end of a connection: nothing is granted any more.
func (s *subscriptions) disconnect() {
	s.tally = nil
	for _, sub := range s.wanted {
		sub.Active = false
	}
}
