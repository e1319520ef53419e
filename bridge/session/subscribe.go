package session

import (
	"context"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	// maxChunk and maxChunkBytes bound one SUBSCRIBE: some brokers limit the
	// filters in it, some its size.
	maxChunk      = 500
	maxChunkBytes = 16 << 10

	// subackTimeout is how long a SUBACK may take. Retained messages may come
	// before it [MQTT-3.8.4-1], and many of them over a slow link.
	subackTimeout = 60 * time.Second

	// retryRefused is how often a refused filter is asked for again, for what a
	// broker allows can change.
	retryRefused = 60 * time.Second

	// quarantine is how long a filter that made the broker close the connection
	// is not asked for.
	quarantine = 10 * time.Minute

	// maxWarnings bounds the lines that one round of SUBSCRIBEs can log.
	maxWarnings = 10
)

// asking is how filters are asked for. A broker that dislikes a SUBSCRIBE may
// close the connection instead of refusing it, because of the number of filters
// or of a single one, and would do so at every connect. So the next connect asks
// for fewer at a time, until the filter to blame is known and can be left out.
type asking struct {
	chunk   int             // filters in one SUBSCRIBE or UNSUBSCRIBE
	round   uint32          // number of the round of SUBSCRIBEs
	current []*subscription // those in the SUBSCRIBE that has no answer yet
	giving  []string        // filters in the UNSUBSCRIBE that has no answer yet
}

// subscribe asks for what is wanted and not granted, with again also for what was
// refused, and then gives back what is wanted no more.
func (s *Session) subscribe(ctx context.Context, l *link, again bool) {
	asked, all, version := s.askForAll(ctx, l, again)
	gave := all && s.giveAllBack(ctx, l, version)
	if (asked || gave || !again) && !l.over(ctx) {
		s.change(func(*State) {})
	}
}

// askForAll asks chunk by chunk; all says that each chunk of that version was
// answered.
func (s *Session) askForAll(ctx context.Context, l *link, again bool) (asked, all bool, version int) {
	s.asking.round++
	wrong := 0
	todo, version := s.lacking(again)
	for asked = len(todo) > 0; len(todo) > 0 && !l.over(ctx); {
		chunk := s.nextChunk(todo, version)
		if chunk == nil {
			todo, version = s.lacking(again)
			continue
		}
		s.asking.current = chunk
		codes, err := s.ask(ctx, l, chunk)
		if l.over(ctx) {
			return true, false, version
		}
		s.asking.current = nil
		if err != nil {
			s.log.Warn("no answer to SUBSCRIBE", "broker", l.broker, "filter", chunk[0].Filter, "err", err)
			break // again with the next round
		}
		wrong += s.granted(chunk, codes, maxWarnings-wrong)
		todo = todo[len(chunk):]
	}
	if wrong > maxWarnings {
		s.log.Warn("more subscriptions not granted as asked for", "broker", l.broker, "count", wrong-maxWarnings)
	}
	return asked, len(todo) == 0, version
}

// ask sends one SUBSCRIBE and waits for the return codes, by filter.
func (s *Session) ask(ctx context.Context, l *link, chunk []*subscription) (map[string]byte, error) {
	filters := make(map[string]byte, len(chunk))
	for _, sub := range chunk {
		filters[sub.Filter] = max(filters[sub.Filter], sub.QoS)
	}
	// No handler: paho's router would cost a walk over all of them per message,
	// and never sees one anyway.
	token := l.client.SubscribeMultiple(filters, nil).(*mqtt.SubscribeToken)
	if err := l.await(ctx, token, subackTimeout); err != nil {
		l.settle(ctx)
		return nil, err
	}
	return token.Result(), nil
}

// granted enters the return codes of a SUBACK, and logs what is wrong and was
// not before, at most so many times. It returns how many that are.
func (s *Session) granted(chunk []*subscription, codes map[string]byte, warnings int) (wrong int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs.tally = nil
	for _, sub := range chunk {
		code, ok := codes[sub.Filter]
		was := sub.Err
		sub.lowered = ok && code < sub.QoS
		switch {
		case !ok: // the broker ended the SUBSCRIBE with something else
			sub.Err = "the broker gave no return code"
		case code == subackFailure:
			sub.Err = "refused by the broker; check what it allows this user to subscribe to"
		case sub.lowered:
			sub.Active, sub.Granted = true, code
			sub.proven = true
			sub.Err = fmt.Sprintf("granted with QoS %d, asked for %d", code, sub.QoS)
		default:
			sub.Active, sub.Granted, sub.Err = true, code, ""
			sub.proven = true
		}
		if sub.Err != "" && sub.Err != was {
			if wrong++; wrong <= warnings {
				s.log.Warn("subscription", "filter", sub.Filter, "broker", s.state.Broker, "err", sub.Err)
			}
		}
	}
	return wrong
}

// giveAllBack gives back what is wanted no more, chunk by chunk. It stops when
// what is wanted is no longer of that version, of which all was asked for: what is
// new comes first, in the round that follows.
func (s *Session) giveAllBack(ctx context.Context, l *link, version int) (gave bool) {
	todo := s.unwanted()
	for gave = len(todo) > 0; len(todo) > 0 && !l.over(ctx); {
		chunk := s.nextGone(todo, version)
		if chunk == nil {
			break
		}
		s.asking.giving = chunk
		err := l.await(ctx, l.client.Unsubscribe(chunk...), subackTimeout)
		if err != nil {
			l.settle(ctx)
		}
		if l.over(ctx) {
			break
		}
		s.asking.giving = nil
		if err != nil {
			s.log.Warn("no answer to UNSUBSCRIBE", "broker", l.broker, "filter", chunk[0], "err", err)
			break // again with the next round
		}
		s.mu.Lock()
		s.subs.forget(chunk...)
		s.mu.Unlock()
		todo = todo[len(chunk):]
	}
	return gave
}
