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
	subs  subscriptions

	wake chan struct{} // the subscriptions were changed

	// Of Run's goroutine.
	backoff   backoff
	asking    asking
	suspicion suspicion
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
	s.wake = make(chan struct{}, 1)
	s.asking = asking{chunk: maxChunk}
	s.subs = newSubscriptions(o.Subscriptions, !o.Clean)
	s.o.Subscriptions = nil // there may be 100,000
	s.state.Since = time.Now()
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
		} else {
			s.suspicion.kicks = 0 // the broker was away: another client would have left it there
			if refused := (*RefusedError)(nil); !errors.As(err, &refused) {
				s.backoff.away()
			}
		}
		if ctx.Err() != nil {
			s.change(s.disconnected)
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

// Repeat has the broker send again what it has sent and Handle still holds: it does
// so on a new connection, if the session is persistent. It does not wait.
func (s *Session) Repeat() {
	if l := s.up.Load(); l != nil {
		_ = l.lane.fail(errRepeat)
	}
}

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
	wary := s.suspicion.wary
	if !wary {
		s.out.attach(l.lane, l.present) // before anybody is told of the connection
	}
	s.log.Info("connected", "broker", l.broker, "session_present", l.present)
	s.change(func(state *State) {
		state.Connected, state.Broker, state.Since = true, l.broker, start
		state.SessionPresent = l.present
		state.Connects++
		state.LastErr = ""
		if !l.present {
			clear(s.subs.gone) // the broker has nothing of ours
		}
	})
	if wary {
		l.rest(ctx)
	}
	s.subscribe(ctx, l, true)
	s.announce(ctx, l)
	if wary && !l.over(ctx) {
		s.out.attach(l.lane, l.present)
	}
	retry := time.NewTicker(retryRefused)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			s.subscribe(ctx, l, true)
		case <-s.wake:
			s.subscribe(ctx, l, false)
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
		return
	}
	s.suspicion.announced = true
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
		s.disconnected(state)
		state.LastErr = text
	})
}
