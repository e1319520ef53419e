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
	chunk   int               // filters in one SUBSCRIBE
	current []int             // subscriptions in the SUBSCRIBE that has no answer yet
	strikes map[int]int       // how often one, asked for alone, ended the connection
	until   map[int]time.Time // end of its quarantine
}

// subscribe asks for every subscription that is not active, chunk by chunk.
func (s *Session) subscribe(ctx context.Context, l *link) {
	todo := s.inactive(time.Now())
	if len(todo) == 0 {
		return
	}
	wrong := 0
	for len(todo) > 0 {
		chunk := s.nextChunk(todo)
		s.asking.current = chunk
		codes, err := s.ask(ctx, l, chunk)
		if l.over(ctx) {
			return
		}
		s.asking.current = nil
		if err != nil {
			s.log.Warn("no answer to SUBSCRIBE", "broker", l.broker, "filter", s.sub(chunk[0]).Filter, "err", err)
			break // again with the next round
		}
		wrong += s.granted(chunk, codes, maxWarnings-wrong)
		todo = todo[len(chunk):]
	}
	if wrong > maxWarnings {
		s.log.Warn("more subscriptions not granted as asked for", "broker", l.broker, "count", wrong-maxWarnings)
	}
	s.change(func(*State) {})
}

// inactive lists the subscriptions to ask for.
func (s *Session) inactive(now time.Time) (todo []int) {
	for i := range s.state.Subscriptions {
		if !s.sub(i).Active && now.After(s.asking.until[i]) {
			todo = append(todo, i)
		}
	}
	return todo
}

// nextChunk is as much of todo as fits one SUBSCRIBE, at least one.
func (s *Session) nextChunk(todo []int) []int {
	size := 0
	for n, i := range todo {
		size += 2 + len(s.sub(i).Filter) + 1
		if n > 0 && (n == s.asking.chunk || size > maxChunkBytes) {
			return todo[:n]
		}
	}
	return todo
}

// ask sends one SUBSCRIBE and waits for the return codes, by filter.
func (s *Session) ask(ctx context.Context, l *link, chunk []int) (map[string]byte, error) {
	filters := make(map[string]byte, len(chunk))
	for _, i := range chunk {
		sub := s.sub(i)
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
func (s *Session) granted(chunk []int, codes map[string]byte, warnings int) (wrong int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range chunk {
		sub := &s.state.Subscriptions[i]
		code, ok := codes[sub.Filter]
		was := sub.Err
		switch {
		case !ok: // the broker ended the SUBSCRIBE with something else
			sub.Err = "the broker gave no return code"
		case code == subackFailure:
			sub.Err = "refused by the broker; check what it allows this user to subscribe to"
		case code < sub.QoS:
			sub.Active, sub.Granted = true, code
			sub.Err = fmt.Sprintf("granted with QoS %d, asked for %d", code, sub.QoS)
		default:
			sub.Active, sub.Granted, sub.Err = true, code, ""
		}
		if sub.Err != "" && sub.Err != was {
			if wrong++; wrong <= warnings {
				s.log.Warn("subscription", "filter", sub.Filter, "broker", s.state.Broker, "err", sub.Err)
			}
		}
	}
	return wrong
}

// blame draws the lesson from a connection that the broker closed instead of
// answering a SUBSCRIBE. It returns what to say about it.
func (s *Session) blame(err error) error {
	chunk := s.asking.current
	first := s.sub(chunk[0]).Filter
	if len(chunk) > 1 {
		s.asking.chunk = max(len(chunk)/8, 1)
		return fmt.Errorf("%w when asked for %d filters at once, %q and others; will ask for %d", err, len(chunk), first, s.asking.chunk)
	}
	if s.asking.strikes == nil {
		s.asking.strikes, s.asking.until = make(map[int]int), make(map[int]time.Time)
	}
	err = fmt.Errorf("%w when asked for filter %q; check what it allows this user to subscribe to", err, first)
	if s.asking.strikes[chunk[0]]++; s.asking.strikes[chunk[0]] < 2 {
		return err // once may be chance
	}
	s.asking.until[chunk[0]] = time.Now().Add(quarantine)
	s.asking.chunk = maxChunk // it was this one, and not the number
	s.mu.Lock()
	s.state.Subscriptions[chunk[0]].Err = "left out for now: the broker closes the connection when asked for it"
	s.mu.Unlock()
	return err
}

// sub is a copy of one subscription's state. Only Run's goroutine, which alone
// changes it, may call this without the lock.
func (s *Session) sub(i int) SubscriptionState { return s.state.Subscriptions[i] }
