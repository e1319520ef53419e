package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// stable is how long a connection must live to count as a good one: then the
// next failure starts with a short delay again.
const stable = 2 * maxDelay

// maxKicks is how many connections in a row the broker may end soon, and for no
// visible reason, before a reason is suggested.
const maxKicks = 3

// Session is one MQTT session with a broker, kept over as many connections as
// it takes.
type Session struct {
	o    Options
	urls []*url.URL
	log  *slog.Logger
	open func(context.Context, *url.URL) (net.Conn, error) // dial, but for tests
	in   inbox
	out  *outbox
	ran  atomic.Bool
	up   atomic.Pointer[link] // the connection, while there is one

	mu    sync.Mutex
	state State

	// Of Run's goroutine.
	backoff backoff
	asking  asking
	apart   bool // publications wait until all subscriptions are answered; see lost
	kicks   int  // connections in a row that the broker ended soon and for no visible reason
}

// New checks the options. The error lists all that is wrong with them.
func New(o Options) (*Session, error) {
	err := o.check()
	s := &Session{o: o, log: o.Logger}
	for _, text := range o.URLs {
		u, e := parseURL(text)
		err = errors.Join(err, e)
		s.urls = append(s.urls, u)
	}
	if err != nil {
		return nil, err
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.o.KeepAlive == 0 {
		s.o.KeepAlive = 30 * time.Second
	}
	if s.o.MaxInFlight == 0 {
		s.o.MaxInFlight = 1000
	}
	s.open = s.dial
	s.out = newOutbox(s.o.MaxInFlight)
	s.in.handle = o.Handle
	s.asking.chunk = maxChunk
	s.state.Since = time.Now()
	s.state.Subscriptions = make([]SubscriptionState, len(o.Subscriptions))
	for i, sub := range o.Subscriptions {
		s.state.Subscriptions[i].Subscription = sub
	}
	s.o.Subscriptions = nil // there may be 100,000, and the state has them
	return s, nil
}

// Run connects and keeps connected until ctx ends. Then it hands on no more
// messages, writes the acknowledgements that Ack.Done released until then and the
// publications that may be written, publishes the offline status, waits up to 2 s
// for the broker to have it, and disconnects. Publications that are not
// acknowledged by then, and all later ones, are lost with ErrStopped. No failure
// of the broker makes it return. It may be called once.
func (s *Session) Run(ctx context.Context) error {
	if s.ran.Swap(true) {
		return errors.New("session: Run called twice")
	}
	defer s.out.stop()
	for {
		l, err := s.connect(ctx)
		if err == nil {
			err = s.keep(ctx, l)
		}
		if ctx.Err() != nil {
			s.change(disconnected)
			return nil
		}
		s.report(err)
		select {
		case <-time.After(s.backoff.delay()):
		case <-ctx.Done():
			return nil
		}
	}
}

// Drain ends the handing on of messages for good, while the connection stays
// and held messages can still be acknowledged. When it returns Handle has
// returned, and is not called again; so it must not be called by Handle. What
// arrives from then on is not acknowledged: a persistent session gets it again
// at its next connect. A caller with work in hand calls Drain first, and ends
// Run when the work is done.
func (s *Session) Drain() { s.in.close() }

// connect tries the addresses in order.
func (s *Session) connect(ctx context.Context) (*link, error) {
	var err error
	for _, u := range s.urls {
		l, e := s.connectTo(ctx, u)
		if e == nil {
			return l, nil
		}
		if e = fmt.Errorf("%s: %w", u, e); err == nil {
			err = e
		} else {
			err = fmt.Errorf("%w; %w", err, e)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// keep uses a connection until it is lost, or ctx ends.
func (s *Session) keep(ctx context.Context, l *link) error {
	start := time.Now()
	s.up.Store(l)
	defer s.up.Store(nil)
	apart := s.apart
	if !apart {
		s.out.attach(l.lane, l.present) // before anybody is told of the connection
	}
	s.log.Info("connected", "broker", l.broker, "session_present", l.present)
	s.change(func(state *State) {
		state.Connected, state.Broker, state.Since = true, l.broker, start
		state.SessionPresent = l.present
		state.Connects++
		state.LastErr = ""
	})
	s.subscribe(ctx, l)
	s.announce(ctx, l)
	if apart {
		s.out.attach(l.lane, l.present)
	}
	retry := time.NewTicker(retryRefused)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			s.subscribe(ctx, l)
		case <-l.lost:
			return s.lost(l, time.Since(start))
		case <-ctx.Done():
			s.leave(l)
			return nil
		}
	}
}

// announce publishes the online status.
func (s *Session) announce(ctx context.Context, l *link) {
	if s.o.Status == nil || l.over(ctx) {
		return
	}
	l.announcing = true
	err := l.say(ctx, onlineID, s.o.Status.Topic, statusOnline)
	if l.over(ctx) {
		return
	}
	l.announcing = false
	if err != nil {
		s.log.Warn("status not published", "topic", s.o.Status.Topic, "broker", l.broker, "err", err)
	}
}

// leave ends a connection in good order. DISCONNECT makes the broker discard
// the will [MQTT-3.1.2-10], so that offline is to be said before. Should the
// broker be too slow for that, it is left without DISCONNECT, and the will says it.
func (s *Session) leave(l *link) {
	s.in.close()
	cut := time.AfterFunc(leaveTimeout, func() { _ = l.lane.fail(net.ErrClosed) })
	defer cut.Stop()
	_ = l.lane.flush()
	if s.o.Status != nil {
		ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
		if err := l.say(ctx, offlineID, s.o.Status.Topic, statusOffline); err != nil {
			s.log.Warn("status not published", "topic", s.o.Status.Topic, "broker", l.broker, "err", err)
		}
		cancel()
	}
	l.disconnect()
	s.out.detach(l.lane, ErrStopped)
	s.log.Info("disconnected", "broker", l.broker)
}

// lost clears up after a connection, and judges its end: whether the broker had a
// reason, and which.
func (s *Session) lost(l *link, life time.Duration) error {
	err := l.ended()
	s.out.detach(l.lane, ErrNotConnected)
	suspected := s.out.suspected()
	defer func() { s.asking.current = nil }()
	if life >= stable {
		s.backoff.reset()
		s.kicks, s.apart = 0, false
		return err
	}
	switch {
	case !errors.Is(err, errBrokerClosed) && !errors.Is(err, errBrokerReset):
		return err
	case suspected && (len(s.asking.current) > 0 || l.announcing):
		s.apart = true // it may have been this or that: one after the other the next time
		return err
	case len(s.asking.current) > 0:
		return s.blame(err)
	case l.announcing:
		return fmt.Errorf("%w when told the status; check whether it allows publishing to %q", err, s.o.Status.Topic)
	case suspected:
		if topic := s.out.convict(); topic != "" {
			return fmt.Errorf("%w when given a message on topic %q, time and again; the message is dropped: check what the broker allows this user to publish, and how much at a time", err, topic)
		}
	}
	s.kicks++
	if s.kicks < maxKicks {
		return err
	}
	return fmt.Errorf("%w soon after accepting it, time and again; probably another client uses client_id %q: give each its own", err, s.o.ClientID)
}

// report tells of a failure: aloud where it is another one than the last.
func (s *Session) report(err error) {
	text := err.Error()
	was := s.State()
	switch {
	case was.Connected:
		s.log.Warn("connection lost", "broker", was.Broker, "err", text)
	case was.LastErr != text:
		s.log.Warn("cannot connect", "err", text)
	default:
		s.log.Debug("still cannot connect", "err", text)
	}
	s.change(func(state *State) {
		disconnected(state)
		state.LastErr = text
	})
}
