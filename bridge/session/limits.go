package session

import (
	"fmt"
	"slices"
	"time"
)

// Brokers limit how many filters one SUBSCRIBE or UNSUBSCRIBE may have (AWS IoT: 8), and
// how many subscriptions a client may have (AWS IoT: 50). MQTT 3.1.1 has no way to say so
// before, and none to say what was wrong: many close the connection of a client that
// asks for more, as others do for one filter that this user may not have. So it has to
// be found out:
//
//  1. What ended a connection is asked for in smaller packets, down to one filter alone.
//  2. That filter comes last on the next connection. Where it ends that too, and the
//     broker has taken more subscriptions since, it is left out.
//  3. Where two filters end connections at the same number of subscriptions, that is
//     either chance or a limit. So one subscription is given up for the second of them.
//     If it is granted now, the number was to blame, and no more are asked for: those
//     that come first in the table are had, the others are left out. If not, it is left
//     out.
//  4. Of what is left out one is asked for now and then, for what a broker takes can
//     change.
//
// What was found out is kept as long as the process lives, for each broker address on
// its own.

const (
	// firstProbe is when one of the filters that are left out is asked for again. Where
	// that ends the connection the time grows threefold, up to maxProbe: each try costs the
	// others what comes meanwhile. Where not one is granted there is less to lose, and the
	// broker may be ill; then it is firstProbeNone, up to maxProbeNone: see boundProbes.
	firstProbe     = time.Minute
	probeGrowth    = 3
	maxProbe       = time.Hour
	firstProbeNone = 3 * time.Second
	maxProbeNone   = time.Minute

	// allRefused is how many different filters have to end connections, one by one, with
	// none granted, before no more are asked for.
	allRefused = 3
)

// limits is what a broker takes, as far as it was found out.
type limits struct {
	maxFilters    int       // filters in one SUBSCRIBE or UNSUBSCRIBE
	mostFilters   int       // above which that does not grow
	provenFilters int       // the most filters in a SUBSCRIBE that it answered
	refusals      []refusal // what it did not take, and no single filter is to blame for

	pause   time.Duration // until what it refused is asked for again, and when that is
	retryAt time.Time

	toldSubs    int                           // subscriptions that it takes, as the configuration says; 0: it does not
	mostSeen    int                           // subscriptions that it had of us at once
	maxSubs     int                           // subscriptions that it takes; -1: any number, as far as is known
	closedAbove int                           // it closed a connection over one more than these; -1: it did not
	closedOver  map[*subscription]closeRecord // of those wanted
	lastClosed  *subscription                 // over which, asked for alone, it closed a connection last
	trial       *subscription                 // that which another one is given up for; nil: none
	trialSubs   int                           // of the trial: subscriptions on that connection
	exact       bool                          // what it may have is unsubscribed, so that its number is known
	unsure      bool                          // there may be some of that
	logged      [2]int                        // maxSubs and the number wanted, as they were logged last

	probeDelay    time.Duration // until one of those left out is asked for, and when that is; 0: none is
	shortestProbe time.Duration // how short and how long that may be
	longestProbe  time.Duration
	probeAt       time.Time
	probes        int
}

// closeRecord is what a subscription, asked for alone, did to connections.
type closeRecord struct {
	at      int  // subscriptions that the broker had when it closed the connection
	leftOut bool // it is left out
}

// A refusal is a SUBSCRIBE or UNSUBSCRIBE of several filters that the broker closed the
// connection over, or refused for being several.
type refusal []string

// maxRefusals is how many are remembered.
const maxRefusals = 16

// newLimits knows what the configuration says of a broker.
func newLimits(o *Options) *limits {
	most := maxChunk
	if o.MaxFilters > 0 {
		most = min(o.MaxFilters, maxChunk)
	}
	return &limits{maxFilters: most, mostFilters: most, toldSubs: o.MaxSubs, maxSubs: -1, closedAbove: -1, shortestProbe: firstProbe, longestProbe: maxProbe, closedOver: make(map[*subscription]closeRecord)}
}

// limitsOf are those of a broker.
func (s *subscriber) limitsOf(broker string) *limits {
	if s.limitsByBroker == nil {
		s.limitsByBroker = make(map[string]*limits)
	}
	if s.limitsByBroker[broker] == nil {
		s.limitsByBroker[broker] = newLimits(s.options)
	}
	return s.limitsByBroker[broker]
}

// shrink makes packets smaller after one with several filters that the broker did not
// take; proven reports whether it took each of them before.
func (l *limits) shrink(filters []string, proven bool) {
	n := len(filters)
	if l.maxFilters = max(n/8, 1); 2*l.provenFilters <= n {
		l.maxFilters = max(l.maxFilters, l.provenFilters)
	}
	if proven && n <= l.provenFilters {
		l.provenFilters = l.maxFilters // it takes fewer than it did, or not one of these
	}
	if len(l.refusals) == maxRefusals {
		l.refusals = slices.Delete(l.refusals, 0, 1)
	}
	l.refusals = append(l.refusals, filters)
}

// grant says that the broker answered a SUBSCRIBE of n filters, with some that it did not
// have before or not. The packets grow again where it is not their size that ended
// connections; while something else may have, only with what is new.
func (l *limits) grant(n int, fresh bool) {
	l.provenFilters = max(l.provenFilters, n)
	if n == l.maxFilters && l.explained() && (fresh || l.countClosed() == 0) {
		l.maxFilters = min(2*n, l.mostFilters)
	}
}

// explained reports whether single filters are suspected for all that the broker did not
// take.
func (l *limits) explained() bool {
	for _, r := range l.refusals {
		if !l.suspects(r) {
			return false
		}
	}
	return true
}

func (l *limits) suspects(r refusal) bool {
	for sub := range l.closedOver {
		if slices.Contains(r, sub.Filter) {
			return true
		}
	}
	return false
}

// attributeFilter says that a filter ends connections on its own, whatever it is asked for with.
// What the broker closed connections over for its sake says nothing of the number.
func (l *limits) attributeFilter(filter string) {
	l.refusals = slices.DeleteFunc(l.refusals, func(r refusal) bool { return slices.Contains(r, filter) })
	l.maxFilters = max(l.provenFilters, 1)
}

// careful reports whether something has ended connections, so that what the broker took
// before is not to be asked for together with what it may not take.
func (l *limits) careful() bool { return len(l.refusals)+len(l.closedOver) > 0 }

// subsAllowed is how many subscriptions the broker may have on this connection; -1: any number.
func (l *limits) subsAllowed() int {
	switch {
	case l.trial != nil:
		return l.trialSubs
	case l.subs() >= 0:
		return l.subs()
	}
	return l.closedAbove
}

// subs is how many it takes, as far as it was told or found out; -1: any number.
func (l *limits) subs() int {
	if l.toldSubs > 0 && (l.maxSubs < 0 || l.maxSubs > l.toldSubs) {
		return l.toldSubs
	}
	return l.maxSubs
}

// recordClose notes a connection that the broker closed instead of answering
// a SUBSCRIBE for one filter, when it had n subscriptions of us. Where the session is
// clean it costs nothing to give one up. It may have maybe more than n: some brokers take
// the first filters of a SUBSCRIBE, and then close the connection.
func (l *limits) recordClose(sub *subscription, n int, maybe, clean bool) {
	if maybe && l.suspected(sub) { // of two, one or both are for those
		l.clearClosed()
		l.exact, l.unsure, l.maxFilters = true, true, 1
		l.lastClosed, l.trial, l.closedAbove = nil, nil, -1
		return
	}
	before, again := l.closedOver[sub]
	l.mostSeen = max(l.mostSeen, n)
	last := l.lastClosed
	l.lastClosed = sub
	now := closeRecord{at: n}
	switch {
	case sub == l.trial, again && before.at < l.mostSeen:
		now.leftOut = true
	case n > 0 && last != nil && last != sub && l.closedOver[last].at == n, n > 0 && again && clean:
		l.trial, l.trialSubs, l.unsure = sub, n, true
	case again:
		now.leftOut = true
	}
	l.closedOver[sub] = now
	if now.leftOut {
		if l.trial == sub {
			l.trial = nil
		}
		l.lastClosed = nil
		l.attributeFilter(sub.Filter)
		l.leaveOut()
		return
	}
	if n == l.mostSeen {
		l.closedAbove = n
	}
	if l.mostSeen == 0 && l.countClosed() >= allRefused {
		l.setMaxSubs(0)
	}
}

// countClosed is how many subscriptions ended connections and are not left out.
func (l *limits) countClosed() (n int) {
	for _, t := range l.closedOver {
		if !t.leftOut {
			n++
		}
	}
	return n
}

// suspected reports whether one of the others ended a connection and is not left out.
func (l *limits) suspected(but *subscription) bool {
	t, in := l.closedOver[but]
	return l.countClosed() > 1 || l.countClosed() == 1 && !(in && !t.leftOut)
}

// clearClosed forgets which ended connections, but for those that are left out.
func (l *limits) clearClosed() {
	for sub, t := range l.closedOver {
		if !t.leftOut {
			delete(l.closedOver, sub)
		}
	}
}

// setMaxSubs sets how many subscriptions the broker takes. Which filters ended connections was
// for that.
func (l *limits) setMaxSubs(room int) {
	l.maxSubs, l.trial, l.lastClosed = room, nil, nil
	l.clearClosed()
	l.leaveOut()
}

// answered says that the broker answered a SUBSCRIBE for this one: whatever it said, it
// did not close the connection.
func (l *limits) answered(sub *subscription) (learnt bool) {
	delete(l.closedOver, sub)
	if sub != l.trial {
		return false
	}
	if l.trial = nil; sub.Active {
		l.setMaxSubs(l.trialSubs)
	}
	return true
}

// sawSubs says how many subscriptions the broker has.
func (l *limits) sawSubs(n int) {
	if l.mostSeen = max(l.mostSeen, n); l.mostSeen > l.closedAbove {
		l.closedAbove = -1
	}
}

// outText is what is wrong with a subscription that is left out for its own sake.
func (r closeRecord) outText() string {
	return fmt.Sprintf("left out for now: the broker closes the connection when asked for it, with %d subscriptions granted", r.at)
}

// leaveOut sets when one of those left out is asked for again.
func (l *limits) leaveOut() {
	l.probeDelay = min(max(l.probeDelay, l.shortestProbe), l.longestProbe)
	l.probeAt = time.Now().Add(l.probeDelay)
}

// probed sets when the next one is, for the last was granted or not.
func (l *limits) probed(granted bool) {
	l.probes++
	if granted {
		l.probeDelay, l.probeAt = max(l.probeDelay/probeGrowth, l.shortestProbe), time.Time{} // the next one at once
		return
	}
	l.probeDelay *= probeGrowth
	l.leaveOut()
}

// boundProbes looks at what a connection is of use for, as each probe may end it. Where
// subscriptions are granted it is of much. Where none is, and the broker has granted some
// before, or does not get anything from us either, there is nothing to lose. Else it may be
// one that lets this user publish only.
func (s *Session) boundProbes(conn *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.subscriber.limits
	switch {
	case s.subs.count().active > 0:
		l.shortestProbe, l.longestProbe = firstProbe, maxProbe
	case s.outbox.published.Load() == conn.published || slices.ContainsFunc(s.subs.wanted, func(sub *subscription) bool { return sub.proven }):
		l.shortestProbe, l.longestProbe = firstProbeNone, firstProbeNone
	default:
		l.shortestProbe, l.longestProbe = firstProbeNone, maxProbeNone
	}
}

// surplusText is what is wrong with a subscription that is left out because of the
// number.
func (l *limits) surplusText() string {
	if l.maxSubs == 0 {
		return "no subscription: the broker closes the connection at whatever it is asked for"
	}
	if l.subs() != l.maxSubs {
		return fmt.Sprintf("no subscription: broker.max_subscriptions is %d", l.toldSubs)
	}
	return fmt.Sprintf("no subscription: the broker takes only %d on a connection", l.maxSubs)
}
