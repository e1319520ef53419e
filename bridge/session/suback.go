package session

import (
	"fmt"
	"strings"
	"time"
)

// What the broker answers to SUBSCRIBE. One that refuses a filter may do so because this
// user is not allowed to have it, or because it takes no more: MQTT 3.1.1 has one code
// for both, 0x80. So both are named, and however many filters it refuses, that is one
// line of the log.

// A round is what became of one round of SUBSCRIBEs.
type round struct {
	begin    time.Time
	again    bool            // it asked also for what was refused before
	wrong    []*subscription // not granted as asked for
	granted  bool            // what had been refused was granted
	doubtful []*subscription // refused together in one SUBSCRIBE
	learnt   bool            // what is to be asked for has changed
}

// recordSuback enters the return codes of a SUBACK.
func (s *Session) recordSuback(chunk []*subscription, codes map[string]ReasonCode, words string, r *round) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs.counts = nil
	var refused []*subscription
	fresh := !allProven(chunk)
	for _, sub := range chunk {
		code, was := codes[sub.Filter], sub.Err
		sub.downgraded = byte(code) < sub.QoS
		switch {
		case code == subackFailure && words == "":
			sub.Err = refusedText
			refused = append(refused, sub)
		case code.refuses():
			sub.Err = refusedPrefix + because(code, words)
			refused = append(refused, sub)
		case sub.downgraded:
			sub.Active, sub.Granted = true, byte(code)
			sub.proven = true
			sub.Err = fmt.Sprintf("granted with QoS %d, asked for %d", code, sub.QoS)
		default:
			sub.Active, sub.Granted, sub.Err, sub.loggedErr = true, byte(code), "", ""
			sub.proven = true
		}
		sub.Surplus, sub.uncertain = false, false
		if sub.atBroker = sub.Active; s.subscriber.limits.answered(sub) {
			r.learnt = true
		}
		if sub.Err != "" {
			r.wrong = append(r.wrong, sub)
		}
		r.granted = r.granted || sub.Active && isRefusal(was)
	}
	s.noteGrantedIDs()
	s.subscriber.limits.grant(len(chunk)-len(refused), fresh)
	if len(refused) > 1 {
		r.doubtful = append(r.doubtful, refused...)
	}
}

// isRefusal reports whether what is wrong with a subscription is that the broker refuses it.
func isRefusal(text string) bool {
	return text == refusedText || strings.HasPrefix(text, refusedPrefix)
}

// refusedPrefix begins the text of a refusal with a reason code of MQTT 5.
const refusedPrefix = "refused by the broker: "

const refusedText = "refused by the broker, which does not allow it to this user, or takes no more"

// recordNoSuback notes that the broker gave no answer. The next round asks for fewer at once,
// and for the others before one that had none alone.
func (s *Session) recordNoSuback(chunk []*subscription) {
	s.subscriber.unanswered = true
	if len(chunk) > 1 {
		s.subscriber.limits.shrink(filtersOf(chunk), false)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs.counts, chunk[0].Err = nil, "the broker gives no answer when asked for it"
}

// logResults says what was not granted as asked for, and was not before, and sets the time
// of the next try.
func (s *Session) logResults(broker string, r *round) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh, refused, lowered, other []*subscription
	still := false
	for _, sub := range r.wrong {
		still = still || !sub.Active
		if sub.Err == sub.loggedErr {
			continue
		}
		sub.loggedErr = sub.Err
		fresh = append(fresh, sub)
		switch {
		case sub.Active && sub.Err != "":
			lowered = append(lowered, sub)
		case isRefusal(sub.Err):
			refused = append(refused, sub)
		case sub.Err != "":
			other = append(other, sub)
		}
	}
	if n := len(refused); n > 0 {
		args := []any{"broker", broker, "count", n, "granted", s.subs.count().active, "filters", names(refused)}
		if why := refused[0].Err; why != refusedText {
			args = append(args, "err", why)
		}
		s.log.Warn("the broker refuses subscriptions; check what it allows this user to subscribe to, and how many it takes from one client", args...)
	}
	if len(lowered) > 0 {
		s.log.Warn("the broker grants subscriptions a lower quality of service",
			"broker", broker, "count", len(lowered), "filters", names(lowered), "err", lowered[0].Err)
	}
	if len(other) > 0 {
		s.log.Warn("subscriptions without an answer", "broker", broker, "count", len(other), "filters", names(other), "err", other[0].Err)
	}
	s.subscriber.limits.later(r, still && len(fresh) > 0)
	s.planSample()
	s.subscriber.limits.sawSubs(s.subs.countAtBroker())
	s.logLimit(broker)
	s.state.Limits.learn(s.subscriber.limits)
}

// logLimit says once what is left out because the broker takes no more.
func (s *Session) logLimit(broker string) {
	l := s.subscriber.limits
	var surplus []*subscription
	if l.subs() >= 0 {
		for _, sub := range s.subs.wanted {
			if sub.Surplus {
				surplus = append(surplus, sub)
			}
		}
	}
	now := [2]int{l.subs(), len(s.subs.wanted)}
	if len(surplus) == 0 {
		now = [2]int{}
	}
	if l.logged == now {
		return
	}
	switch l.logged = now; {
	case len(surplus) == 0:
	case l.maxSubs == 0:
		s.log.Warn("the broker closes the connection at every subscription; check what it allows this user to subscribe to; if its session is full of the subscriptions of an earlier configuration, connect once with broker.session: clean",
			"broker", broker, "wanted", now[1])
	default:
		s.log.Warn("the broker limits the subscriptions of a connection, and the rules of the others are pending; use fewer filters, with wildcards, or a second topicast with its own client_id for some of the rules, or raise the broker's limit",
			"broker", broker, "limit", l.subs(), "wanted", now[1], "left_out", names(surplus))
	}
}

// names are the filters, of many the first.
func names(subs []*subscription) string {
	filters := filtersOf(subs[:min(len(subs), maxNamed)])
	if more := len(subs) - len(filters); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(filters, ", "), more)
	}
	return strings.Join(filters, ", ")
}

func filtersOf(subs []*subscription) []string {
	filters := make([]string, len(subs))
	for i, sub := range subs {
		filters[i] = sub.Filter
	}
	return filters
}

// due reports whether it is time to ask again for what was refused.
func (l *limits) due(now time.Time) bool { return !now.Before(l.retryAt) }

// later sets that time, after a round: the first try after news is soon.
func (l *limits) later(r *round, news bool) {
	switch {
	case news || r.granted || l.pause == 0:
		l.pause = retryRefused
	case r.again:
		l.pause = min(2*l.pause, maxRetryRefused)
	default:
		return
	}
	l.retryAt = time.Now().Add(l.pause)
}

// noteGrantedIDs notes the identifiers of what is granted. Callers hold mu.
func (s *Session) noteGrantedIDs() {
	ids := make(map[uint32]bool)
	for _, sub := range s.subs.wanted {
		if sub.Active && sub.ID > 0 {
			ids[sub.ID] = true
		}
	}
	s.grantedIDs.Store(&ids)
}

// GrantedID reports whether the broker has granted a subscription with an identifier, on this
// connection or, until it is asked, the one before. It may be called from any goroutine.
func (s *Session) GrantedID(id uint32) bool {
	ids := s.grantedIDs.Load()
	return ids != nil && (*ids)[id]
}
