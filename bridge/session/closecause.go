package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Why the broker closed a connection. A broker of MQTT 3.1.1 cannot refuse a filter, a
// status topic or a message with a reason, and many close the connection instead. They
// do so again on each connection, so the cause has to be found and left out. But another
// client with our client identifier looks the same: the broker must close the connection
// of the one when the other comes [MQTT-3.1.4-2], whatever it was asked just then. To
// tell them apart:
//
//   - The connection after one that the broker closed over something of ours is left
//     idle for a moment, and then asked one thing after the other (cautious). If it is
//     closed while it is idle, nothing of ours was the cause.
//   - What the broker took before, on another connection, is not the cause, unless two
//     connections in a row end over it, and the second was left idle first.

const (
	// usefulLife is how long a connection must live to be worth another one soon: a
	// broker that ends them at once is given more and more time.
	usefulLife = 5 * time.Second

	// stableLife is how long a connection must live for all of this to be forgotten. Of two
	// clients with one identifier each comes back sooner than that.
	stableLife = 30 * time.Second

	// maxEarlyCloses is how many connections in a row the broker may end soon, and for no
	// visible reason, before a reason is suggested.
	maxEarlyCloses = 3

	// maxIdle is how long a cautious connection is left idle, less up to half of it at
	// random, so that another client's constant delay does not meet what follows each time.
	maxIdle = 2 * time.Second
)

// closeCause is what is known from the connections that the broker closed.
type closeCause struct {
	earlyCloses    int           // connections in a row that the broker ended soon and for no visible reason
	idleCloses     int           // of these, those that it ended when it had answered all
	longest        time.Duration // that one of these has lived
	quietTest      bool          // the next connection is left idle for so long that another client has to come
	cautious       bool          // the next connection is left idle for a moment, and then asked one thing after the other
	suspect        any           // what the broker was asked when the last one ended; nil: nothing
	statusAccepted bool          // the broker took the status once
}

// longestIdle is how long the next connection is left idle at most, if it is.
func (c *closeCause) longestIdle() time.Duration {
	if c.quietTest {
		return min(max(c.longest+time.Second, minQuietTest), maxQuietTest)
	}
	return maxIdle
}

// idle is how long the connection that has begun is left idle.
func (c *closeCause) idle() time.Duration {
	d := c.longestIdle()
	if !c.quietTest {
		d -= rand.N(d / 2)
	}
	return d
}

// leaveIdle asks nothing on a connection for a moment.
func (conn *connection) leaveIdle(ctx context.Context, d time.Duration) {
	conn.leftIdle = true
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		conn.leftIdle = false
	case <-conn.lost:
	case <-ctx.Done():
	}
}

// connectionLost clears up after a connection, and finds why it ended.
func (s *Session) connectionLost(conn *connection, life time.Duration) error {
	err := conn.ended()
	waits := s.unanswered(conn)
	overQoS0 := s.closedOverQoS0(conn, err)
	s.outbox.detach(conn.mqtt, ErrNotConnected)
	s.inbox.carried = conn.mqtt.acks.carry()
	published := s.outbox.maybePoison()
	if overQoS0 != nil {
		s.subscriber.reset()
		s.backoff.reset()
		return overQoS0
	}
	closed := closedByBroker(err)
	if closed {
		if topic := s.outbox.probeFailed(); topic != "" {
			s.subscriber.reset()
			s.backoff.reset()
			return fmt.Errorf("%w when given a message on topic %q, which it does not take, to see whether it does now", err, topic)
		}
		if were, window := s.outbox.shrink(); were > 0 {
			s.subscriber.reset()
			return fmt.Errorf("%w while %d messages of QoS 2 awaited its answer; it may take fewer at once (mosquitto: max_inflight_messages): it gets %d at most from now on", err, were, window)
		}
	}
	defer s.subscriber.reset()
	if life >= usefulLife {
		s.backoff.reset()
	}
	if life >= stableLife && conn.url == s.urls[0] {
		s.returns = 0
	}
	s.boundProbes(conn)
	if s.subscriber.probe != nil && closed {
		s.closeCause = closeCause{statusAccepted: s.closeCause.statusAccepted}
		return s.probed(err)
	}
	s.interrupted()
	if closed && conn.statusPending && s.told() == nil {
		s.backoff.reset()
		return s.overStatus(err) // it was left out, and tried again
	}
	if life >= stableLife {
		s.closeCause = closeCause{statusAccepted: s.closeCause.statusAccepted}
		return err
	}
	if !closed {
		return err
	}
	return s.closedEarly(conn, life, waits, published, err)
}

// closedEarly judges that the broker has closed a connection soon after it began. waits is what the
// broker had not answered; published is set if one of our messages may be why.
func (s *Session) closedEarly(conn *connection, life time.Duration, waits []string, published bool, err error) error {
	c := &s.closeCause
	was := *c
	suspect, proven := s.suspect(conn)
	c.earlyCloses++
	c.longest = max(c.longest, life)
	c.suspect = suspect
	c.cautious = suspect != nil || conn.leftIdle || published && (was.cautious || was.earlyCloses > 0) // once is ordinary: none had been acknowledged yet
	s.countClose(conn, waits)
	switch {
	case suspect == nil && !published: // it was asked nothing, or has answered all
	case suspect != nil && published: // it may have been this or that
	case proven && (!was.cautious || was.suspect != suspect):
	case !was.cautious && c.earlyCloses >= maxEarlyCloses: // all these were hardly for another reason
	default:
		if was.cautious {
			c.earlyCloses, c.longest = 0, 0 // all was well until it was asked
		}
		if e := s.attribute(conn, err); e != nil {
			return e
		}
	}
	if c.earlyCloses < maxEarlyCloses {
		return err
	}
	return s.repeatedCloses(conn, life, waits, err)
}

// closedOverQoS0 says over which message of QoS 0 the broker has closed a connection; nil: over
// none, as far as is known. Callers have not detached it.
func (s *Session) closedOverQoS0(conn *connection, err error) error {
	if s.o.GiveUpAfter == 0 || !closedByBroker(err) {
		return nil
	}
	if suspect, _ := s.suspect(conn); suspect != nil {
		return nil // it may have been this or that
	}
	at := conn.mqtt.wroteQoS0
	found := s.outbox.closedOverQoS0(!at.IsZero() && time.Since(at) < recentQoS0)
	if found.topic == "" {
		return nil
	}
	if found.barred {
		s.log.Warn("the broker takes no messages of QoS 0 on a topic: they are given up as they come, and one is tried now and then", "topic", found.topic)
	}
	return fmt.Errorf("%w when given a message of QoS 0 on topic %q: check what the broker allows this user to publish, and how much at a time", err, found.topic)
}

// statusSuspect is the suspect that the status is.
type statusSuspect struct{}

// suspect is what the broker was asked when a connection ended, but for
// publications; nil: nothing. proven reports whether it was taken before.
func (s *Session) suspect(conn *connection) (suspect any, proven bool) {
	switch a := &s.subscriber; {
	case len(a.subscribing) > 0:
		return a.subscribing[0], allProven(a.subscribing) && len(a.subscribing) <= a.limits.provenFilters
	case len(a.unsubscribing) > 0:
		return a.unsubscribing[0], false
	case conn.statusPending:
		return statusSuspect{}, s.closeCause.statusAccepted
	}
	return nil, false
}

// allProven reports whether the broker took all of them before.
func allProven(subs []*subscription) bool {
	return !slices.ContainsFunc(subs, func(sub *subscription) bool { return !sub.proven })
}

// attribute notes a connection that the broker closed because of what
// it was asked. It returns what to say about it; nil: nothing yet.
func (s *Session) attribute(conn *connection, err error) error {
	switch {
	case len(s.subscriber.subscribing)+len(s.subscriber.unsubscribing) > 0:
		return s.attributeSubscribe(err)
	case conn.statusPending:
		return s.attributeStatus(err)
	}
	const ask = "check what the broker allows this user to publish, and how much at a time"
	switch found := s.outbox.narrow(s.o.GiveUpAfter); {
	case found.barred:
		s.log.Warn("the broker takes no messages on a topic: they are given up as they come, and one is tried now and then", "topic", found.topic)
		fallthrough
	case found.givenUp:
		return fmt.Errorf("%w when given a message on topic %q, time and again, while it takes others; the message is given up: "+ask, err, found.topic)
	case found.losses > 0 && s.o.GiveUpAfter > 0:
		return fmt.Errorf("%w when given a message on topic %q, while it takes others; after %d more such ends that is given up: "+ask, err, found.topic, s.o.GiveUpAfter-found.losses)
	case found.losses > 0:
		return fmt.Errorf("%w when given a message on topic %q, while it takes others: "+ask, err, found.topic)
	case found.topic != "":
		return fmt.Errorf("%w when given a message, such as one on topic %q; as it takes no other it may be ill: its log says why", err, found.topic)
	}
	return nil
}

// interrupted notes what a connection that ended over a SUBSCRIBE leaves open. The broker
// may have taken what was in it. And if it had something that
// nobody wants, there may have been no room for both: the next one unsubscribes first.
func (s *Session) interrupted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	chunk, l := s.subscriber.subscribing, s.subscriber.limits
	for _, sub := range chunk {
		sub.uncertain = !sub.atBroker
		l.unsure = l.exact
	}
	if n := s.subs.countAtBroker(); len(chunk) > 0 && len(s.subs.obsolete) > 0 && n >= l.mostSeen {
		l.closedAbove = n
	}
}

// attributeSubscribe notes a connection that the broker closed instead of
// answering a SUBSCRIBE or an UNSUBSCRIBE. It returns what to say about it.
func (s *Session) attributeSubscribe(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	chunk, filters, limits := s.subscriber.subscribing, s.subscriber.unsubscribing, s.subscriber.limits
	had := s.subs.countAtBroker()
	if len(chunk) > 0 {
		filters = filtersOf(chunk)
	}
	first := filters[0]
	switch was, ok := s.subs.obsolete[first]; {
	case len(filters) > 1:
		limits.shrink(filters, allProven(chunk))
		return fmt.Errorf("%w when asked for %d filters at once, %q and others; will ask for %d", err, len(filters), first, limits.maxFilters)
	case len(chunk) > 0:
		sub := chunk[0]
		if limits.recordClose(sub, had, s.subs.mayHaveMore(sub, limits), s.o.Clean); limits.closedOver[sub].leftOut {
			sub.downgraded, s.subs.counts = false, nil
			sub.Err = limits.closedOver[sub].outText()
		}
		return fmt.Errorf("%w when asked for filter %q, with %d subscriptions granted; check what it allows this user to subscribe to, and how many it takes", err, first, had)
	case ok && was.failures == 0: // once may be chance
		was.failures++
		s.subs.obsolete[first] = was
	case ok:
		s.subs.removed(first)
		limits.attributeFilter(first)
	}
	return fmt.Errorf("%w when asked to end the subscription to filter %q", err, first)
}
