package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Why a connection ended. MQTT 3.1.1 has no word for a broker that will not have
// something, and many close the connection instead: because of a filter, the
// status topic, a message. That is so again on each connection, so the one to
// blame has to be found and left out. But another client with our client
// identifier looks the same: the broker must close the connection of the one when
// the other comes [MQTT-3.1.4-2], whatever it was asked just then. To tell them
// apart:
//
//   - A connection that follows a suspicious end is left alone for a moment, and
//     only then asked one thing after the other. If it ends before that, nothing of
//     ours was to blame.
//   - What the broker took before, on another connection, is not to blame, unless
//     two connections in a row end over it, and the second was left alone first.

const (
	// useful is how long a connection must live to be worth another one soon: a
	// broker that ends them at once is given more and more time.
	useful = 5 * time.Second

	// stable is how long a connection must live to end all suspicions. Two clients
	// with one identifier end each other's within the longest delay.
	stable = 2 * maxDelay

	// maxKicks is how many connections in a row the broker may end soon, and for no
	// visible reason, before a reason is suggested.
	maxKicks = 3

	// restTime is how long a connection is left alone, less up to half of it at
	// random, lest another client's steady delays meet what follows.
	restTime = 2 * time.Second
)

// suspicion is what the ends of connections have taught.
type suspicion struct {
	kicks     int  // connections in a row that the broker ended soon and for no visible reason
	wary      bool // the next connection is left alone for a moment, and then asked one thing after the other
	suspect   any  // what the broker was asked when the last one ended; nil: nothing
	announced bool // the broker took the status once
}

// rest leaves a connection alone for a moment.
func (l *link) rest(ctx context.Context) {
	l.resting = true
	timer := time.NewTimer(restTime - rand.N(restTime/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		l.resting = false
	case <-l.lost:
	case <-ctx.Done():
	}
}

// lost clears up after a connection, and judges its end: whether the broker had a
// reason, and which.
func (s *Session) lost(l *link, life time.Duration) error {
	err := l.ended()
	s.out.detach(l.lane, ErrNotConnected)
	s.in.carried = l.lane.acks.carry()
	published := s.out.suspected()
	defer func() { s.asking.current, s.asking.giving = nil, nil }()
	switch {
	case life >= useful:
		s.backoff.reset()
	case s.in.received.Load() > l.before:
		s.backoff.away()
	}
	if life >= stable {
		s.suspicion = suspicion{announced: s.suspicion.announced}
		return err
	}
	if !errors.Is(err, errBrokerClosed) && !errors.Is(err, errBrokerReset) {
		return err
	}
	is := &s.suspicion
	was := *is
	suspect, proven := s.suspect(l)
	is.kicks++
	is.suspect = suspect
	is.wary = suspect != nil || l.resting || published && (was.wary || was.kicks > 0) // once is ordinary: none had been acknowledged yet
	switch {
	case suspect == nil && !published: // it was asked nothing, or has answered all
	case suspect != nil && published: // it may have been this or that
	case proven && (!was.wary || was.suspect != suspect):
	case !was.wary && is.kicks >= maxKicks: // all these were hardly for another reason
	default:
		if was.wary {
			is.kicks = 0 // all was well until it was asked
		}
		if e := s.accuse(l, err); e != nil {
			return e
		}
	}
	if is.kicks < maxKicks {
		return err
	}
	return fmt.Errorf("%w soon after accepting it, time and again; probably another client uses client_id %q: give each its own", err, s.o.ClientID)
}

// theStatus is the suspect that the status is.
type theStatus struct{}

// suspect is what the broker was asked when a connection ended, but for
// publications; nil: nothing. proven says that it was taken before.
func (s *Session) suspect(l *link) (suspect any, proven bool) {
	switch a := &s.asking; {
	case len(a.current) > 0:
		return a.current[0], !slices.ContainsFunc(a.current, func(sub *subscription) bool { return !sub.proven })
	case len(a.giving) > 0:
		return a.giving[0], false
	case l.announcing:
		return theStatus{}, s.suspicion.announced
	}
	return nil, false
}

// accuse draws the lesson from a connection that the broker closed because of what
// it was asked. It returns what to say about it; nil: nothing yet.
func (s *Session) accuse(l *link, err error) error {
	switch {
	case len(s.asking.current)+len(s.asking.giving) > 0:
		return s.blame(err)
	case l.announcing:
		return fmt.Errorf("%w when told the status; check whether it allows publishing to %q", err, s.o.Status.Topic)
	}
	if topic := s.out.convict(); topic != "" {
		return fmt.Errorf("%w when given a message on topic %q, time and again; the message is dropped: check what the broker allows this user to publish, and how much at a time", err, topic)
	}
	return nil
}

// blame draws the lesson from a connection that the broker closed instead of
// answering a SUBSCRIBE or an UNSUBSCRIBE. It returns what to say about it.
func (s *Session) blame(err error) error {
	chunk := s.asking.current
	n, first := len(chunk), ""
	if n > 0 {
		first = chunk[0].Filter
	} else {
		n, first = len(s.asking.giving), s.asking.giving[0]
	}
	if n > 1 {
		s.asking.chunk = max(n/8, 1)
		return fmt.Errorf("%w when asked for %d filters at once, %q and others; will ask for %d", err, n, first, s.asking.chunk)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(chunk) == 0 {
		err = fmt.Errorf("%w when asked to end the subscription to filter %q", err, first)
		switch strikes, gone := s.subs.gone[first]; {
		case gone && strikes == 0: // once may be chance
			s.subs.gone[first]++
		case gone:
			s.subs.forget(first)
			s.asking.chunk = maxChunk
		}
		return err
	}
	err = fmt.Errorf("%w when asked for filter %q; check what it allows this user to subscribe to", err, first)
	sub := chunk[0]
	if sub.trouble == nil {
		sub.trouble = new(trouble)
	}
	if sub.trouble.strikes++; sub.trouble.strikes >= 2 { // once may be chance
		sub.trouble.until = time.Now().Add(quarantine)
		s.asking.chunk = maxChunk // it was this one, and not the number
		sub.lowered, s.subs.tally = false, nil
		sub.Err = "left out for now: the broker closes the connection when asked for it"
	}
	return err
}
