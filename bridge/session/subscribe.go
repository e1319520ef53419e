package session

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// maxChunk and maxChunkBytes bound one SUBSCRIBE: some brokers limit the
	// filters in it, some its size.
	maxChunk      = 500
	maxChunkBytes = 16 << 10

	// subackTimeout is how long a SUBACK may take. Retained messages may come
	// before it [MQTT-3.8.4-1], and many of them over a slow line.
	subackTimeout = 60 * time.Second

	// lookAgain is how often it is looked whether there is something to ask for, without
	// a reason to; retryUnanswered is when what the broker gave no answer to is asked for
	// again, after subackTimeout.
	lookAgain       = 60 * time.Second
	retryUnanswered = 3 * time.Second

	// retryRefused is when a refused filter is asked for again, for what a broker
	// allows can change. It doubles up to maxRetryRefused while that is refused.
	retryRefused    = 3 * time.Second
	maxRetryRefused = 10 * time.Minute

	// sampleRefused is how often one of those that are refused is asked for while none
	// is granted: a broker that is ill refuses them all, and may be well again.
	sampleRefused = 3 * time.Second

	// maxNamed bounds the filters that one line of the log names.
	maxNamed = 10
)

// subscriber is how filters are asked for. A broker that dislikes a SUBSCRIBE may
// close the connection instead of refusing it, because of the number of filters
// or of a single one, and would do so at every connect. So the next connect asks
// for fewer at a time, until the filter to blame is known and can be left out.
type subscriber struct {
	options        *Options
	limitsByBroker map[string]*limits // what is known of each broker, by its address
	limits         *limits            // of the broker of this connection
	unanswered     bool               // the last round ended with something that the broker gave no answer to
	sampleAt       time.Time          // when one of those refused is asked for alone; zero: it is not
	round          uint32             // number of the round of SUBSCRIBEs
	subscribing    []*subscription    // those in the SUBSCRIBE that has no answer yet
	unsubscribing  []string           // filters in the UNSUBSCRIBE that has no answer yet
	probe          *subscription      // one of those left out that has no answer yet
	samples        int                // how often one of several refused filters was asked for alone
}

// reset forgets what has no answer: the connection has ended.
func (s *subscriber) reset() {
	s.subscribing, s.unsubscribing, s.probe = nil, nil, nil
	s.unanswered, s.sampleAt = false, time.Time{}
}

// subscribe asks for what is wanted and not granted, with again also for what was
// refused, and then unsubscribes from what is wanted no more; before that, where the broker
// would have too many. With probe it then asks for one of those that are left out, if it
// is time. It reports whether it did any of it.
func (s *Session) subscribe(ctx context.Context, conn *connection, again, probe bool) (did bool) {
	s.subscriber.round++
	s.subscriber.unanswered = false
	r := round{begin: time.Now(), again: again}
	for more := true; more && !conn.isOver(ctx); {
		more = false
		todo, version := s.missing(again)
		if s.mustUnsubscribeFirst(todo) {
			gave, all := s.unsubscribeAll(ctx, conn, version)
			if did = did || gave; !all {
				break // what is new is in the next round
			}
			s.subscriber.limits.unsure = false
		}
		did = did || len(todo) > 0
		if !s.subscribeAll(ctx, conn, todo, version, &r) {
			break
		}
		if more = r.learnt; more {
			r.learnt = false
			continue
		}
		gave, all := s.unsubscribeAll(ctx, conn, version)
		did = did || gave
		more = all && probe && s.probe(ctx, conn, &r)
		did = did || more
	}
	if conn.isOver(ctx) {
		return false
	}
	s.logResults(conn.broker, &r)
	return did
}

// untilRetry is how long it is until the next round.
func (s *subscriber) untilRetry(now time.Time) time.Duration {
	until := min(lookAgain, s.limits.retryAt.Sub(now))
	if s.unanswered {
		until = min(until, retryUnanswered)
	}
	if !s.sampleAt.IsZero() {
		until = min(until, s.sampleAt.Sub(now))
	}
	if s.limits.probeDelay > 0 {
		until = min(until, s.limits.probeAt.Sub(now))
	}
	return max(until, time.Second)
}

// retry is a round some time after the one before it.
func (s *Session) retry(ctx context.Context, conn *connection) {
	again := s.subscriber.limits.due(time.Now()) || s.takesOne(ctx, conn)
	if s.subscribe(ctx, conn, again, true) {
		s.change(func(*State) {})
	}
}

// takesOne asks for one of the filters that are refused while none is granted, each in its
// turn, if it is time. It reports whether the broker grants it: it will grant others too.
func (s *Session) takesOne(ctx context.Context, conn *connection) bool {
	at := s.subscriber.sampleAt
	if at.IsZero() || time.Now().Before(at) {
		return false
	}
	s.subscriber.sampleAt = time.Time{} // the round that follows plans the next
	s.mu.Lock()
	refused := slices.DeleteFunc(slices.Clone(s.subs.wanted), func(sub *subscription) bool { return !isRefusal(sub.Err) })
	s.mu.Unlock()
	if len(refused) == 0 {
		return false
	}
	i := s.subscriber.samples % len(refused)
	s.subscriber.samples++
	one := refused[i : i+1]
	return s.subscribeChunk(ctx, conn, one, &round{}) && one[0].Active
}

// planSample sets when one is asked for next. Callers hold mu.
func (s *Session) planSample() {
	counts := s.subs.count()
	if counts.active > 0 || !slices.ContainsFunc(counts.troubled, func(sub SubscriptionState) bool { return isRefusal(sub.Err) }) {
		s.subscriber.sampleAt = time.Time{}
	} else if s.subscriber.sampleAt.IsZero() {
		s.subscriber.sampleAt = time.Now().Add(sampleRefused)
	}
}

// subscribeAll asks chunk by chunk. It reports whether each was answered.
func (s *Session) subscribeAll(ctx context.Context, conn *connection, todo []*subscription, version int, r *round) bool {
	for len(todo) > 0 {
		chunk := s.nextChunk(todo, version)
		if chunk == nil {
			r.learnt = true // what is wanted
			return true
		}
		if !s.subscribeChunk(ctx, conn, chunk, r) {
			return false // again with the next round
		}
		if r.learnt {
			return true
		}
		if todo = todo[len(chunk):]; len(todo) == 0 && len(r.doubtful) > 0 {
			todo = s.sample(ctx, conn, r)
		}
		if conn.isOver(ctx) {
			return false
		}
	}
	return true
}

// probe asks for one of the subscriptions that are left out, where it is time. It says
// whether there is more to ask for now.
func (s *Session) probe(ctx context.Context, conn *connection, r *round) (more bool) {
	sub := s.leftOut(time.Now())
	if sub == nil {
		return false
	}
	was, scratch := sub.SubscriptionState, round{}
	s.subscriber.probe = sub
	if answered := s.subscribeChunk(ctx, conn, []*subscription{sub}, &scratch); !answered && conn.isOver(ctx) {
		return false
	}
	s.subscriber.probe = nil
	s.boundProbes(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	limits := s.subscriber.limits
	limits.probed(sub.Active)
	switch {
	case sub.Active && was.Surplus:
		limits.maxSubs, limits.closedAbove = -1, -1
	case was.Surplus:
		sub.SubscriptionState = was
	default:
		r.wrong = append(r.wrong, scratch.wrong...)
	}
	return sub.Active
}

// leftOut is the one that is to be asked for now: those that are left out for their own
// sake and those for the number by turns, and each of them.
func (s *Session) leftOut(now time.Time) *subscription {
	l := s.subscriber.limits
	if l.probeDelay == 0 || now.Before(l.probeAt) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out, surplus []*subscription
	for _, sub := range s.subs.wanted {
		if l.closedOver[sub].leftOut {
			out = append(out, sub)
		} else if sub.Surplus && l.subs() == l.maxSubs {
			surplus = append(surplus, sub)
		}
	}
	list, turn := out, l.probes
	if len(out) > 0 && len(surplus) > 0 {
		turn /= 2
	}
	if len(out) == 0 || len(surplus) > 0 && l.probes%2 == 0 {
		list = surplus
	}
	if len(list) == 0 {
		l.probeDelay = 0
		return nil
	}
	sub := list[turn%len(list)]
	sub.asked, sub.round = true, s.subscriber.round
	return sub
}

// probed is the end of a connection that one of those left out was asked for on.
func (s *Session) probed(err error) error {
	l, sub := s.subscriber.limits, s.subscriber.probe
	l.probed(false)
	if sub.Surplus {
		return fmt.Errorf("%w when asked for one subscription more than it took, to see whether it takes more now; the next try is in %v", err, l.probeDelay)
	}
	return fmt.Errorf("%w when asked again for filter %q, which is left out; the next try is in %v", err, sub.Filter, l.probeDelay)
}

// subscribeChunk asks for a chunk, and enters the answer.
func (s *Session) subscribeChunk(ctx context.Context, conn *connection, chunk []*subscription, r *round) (answered bool) {
	s.subscriber.subscribing = chunk
	codes, words, err := s.sendSubscribe(ctx, conn, chunk)
	if err != nil && conn.isOver(ctx) {
		return false
	}
	s.subscriber.subscribing = nil
	if err != nil {
		s.connLog.warn("no answer to SUBSCRIBE", "broker", conn.broker, "filters", names(chunk), "err", err)
		s.recordNoSuback(chunk)
		return false
	}
	s.recordSuback(chunk, codes, words, r)
	return true
}

// sample finds out whether the broker refused filters because they were too many in
// one SUBSCRIBE: it asks for one of them alone. If that is so the others are to be
// asked for again, in smaller packets.
func (s *Session) sample(ctx context.Context, conn *connection, r *round) (todo []*subscription) {
	doubtful := r.doubtful
	r.doubtful = nil
	i := s.subscriber.samples % len(doubtful)
	s.subscriber.samples++
	one := doubtful[i : i+1 : i+1]
	if !s.subscribeChunk(ctx, conn, one, r) || !one[0].Active {
		return nil
	}
	s.subscriber.limits.shrink(filtersOf(doubtful), false)
	return slices.Delete(slices.Clone(doubtful), i, i+1)
}

// sendSubscribe sends one SUBSCRIBE and waits for the codes, by filter, and the broker's words.
func (s *Session) sendSubscribe(ctx context.Context, conn *connection, chunk []*subscription) (map[string]ReasonCode, string, error) {
	filters, options := make([]string, 0, len(chunk)), make([]subscribeOptions, 0, len(chunk))
	at := make(map[string]int, len(chunk))
	c, identifier := conn.mqtt, chunk[0].ID
	granted := make(map[string]ReasonCode, len(chunk))
	for _, sub := range chunk {
		if code := c.terms.cannot(sub.Filter); code != 0 {
			granted[sub.Filter] = code
			continue
		}
		if i, twice := at[sub.Filter]; twice {
			o := &options[i]
			o.qos, o.noRetained, o.noLocal = max(o.qos, sub.QoS), o.noRetained && sub.NoRetained, o.noLocal && sub.NoLocal
			continue
		}
		at[sub.Filter] = len(filters)
		filters, options = append(filters, sub.Filter), append(options, subscribeOptions{sub.QoS, sub.NoRetained, sub.NoLocal})
	}
	if len(filters) == 0 {
		return granted, "", nil
	}
	if c.terms.noIDs {
		identifier = 0
	}
	answer, err := c.request(ctx, len(filters), func(id uint16) []byte { return c.codec.subscribe(id, filters, options, identifier) })
	if err != nil {
		return nil, "", err
	}
	for i, filter := range filters {
		granted[filter] = answer.codes[i]
	}
	return granted, answer.reason, nil
}

// unsubscribeAll unsubscribes from what is wanted no more, chunk by chunk. It stops when
// what is wanted is no longer of that version, of which all was asked for: what is
// new comes first, in the round that follows. all reports whether it came to the end.
func (s *Session) unsubscribeAll(ctx context.Context, conn *connection, version int) (gave, all bool) {
	todo := s.toUnsubscribe()
	for gave = len(todo) > 0; len(todo) > 0 && !conn.isOver(ctx); {
		chunk := s.nextUnsubscribe(todo, version)
		if chunk == nil {
			break
		}
		s.subscriber.unsubscribing = chunk
		answer, err := conn.mqtt.request(ctx, 0, func(id uint16) []byte { return conn.mqtt.codec.unsubscribe(id, chunk) })
		if err != nil && conn.isOver(ctx) {
			break
		}
		s.subscriber.unsubscribing = nil
		if err != nil {
			s.connLog.warn("no answer to UNSUBSCRIBE", "broker", conn.broker, "filter", chunk[0], "err", err)
			break // again with the next round
		}
		if i := slices.IndexFunc(answer.codes, ReasonCode.refuses); i >= 0 {
			s.log.Warn("the broker does not let go of subscriptions: messages may come that no rule takes (reason no_rule)",
				"broker", conn.broker, "filter", chunk[min(i, len(chunk)-1)], "err", because(answer.codes[i], answer.reason))
		}
		s.mu.Lock()
		s.subs.removed(chunk...)
		s.mu.Unlock()
		todo = todo[len(chunk):]
	}
	return gave, len(todo) == 0
}
