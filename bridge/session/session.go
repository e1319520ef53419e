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

	"topicast/internal/brokerurl"
)

// Session is one MQTT session with a broker, kept over as many connections as
// it takes.
type Session struct {
	o       Options
	urls    []*url.URL
	log     *slog.Logger
	open    func(context.Context, *url.URL) (net.Conn, error) // dial, but for tests
	inbox   inbox
	outbox  *outbox
	ran     atomic.Bool
	current atomic.Pointer[connection] // the connection, while there is one

	mu    sync.Mutex
	state State
	subs  subscriptions

	oldMu sync.Mutex
	old   map[*url.URL]time.Time // brokers that do not speak MQTT 5, and when that was found out

	grantedIDs atomic.Pointer[map[uint32]bool] // of the subscriptions that the broker has granted

	wake chan struct{} // the subscriptions were changed

	// Of Run's goroutine.
	backoff    backoff
	preference preference
	subscriber subscriber
	closeCause closeCause
	connLog    connectionLog
	ackWatch   ackWatch
	status     statusTrouble
	login      login
	yields     yields
	refusals   refusalLog
	sharesTold bool // warnOfShares has
	returns    int  // to the first broker, since it was good for a while
}

// New checks the options. The error lists all that is wrong with them.
func New(o Options) (*Session, error) {
	err := o.check()
	s := &Session{o: o, log: o.Logger}
	for _, text := range o.URLs {
		u, e := brokerurl.Parse(text)
		if e != nil {
			e = fmt.Errorf("broker url: %w", e)
		}
		err = errors.Join(err, e)
		s.urls = append(s.urls, u)
	}
	if err != nil {
		return nil, err
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.connLog = connectionLog{log: s.log, lines: make(map[string]bool)}
	if s.o.KeepAlive == 0 {
		s.o.KeepAlive = 30 * time.Second
	}
	if s.o.MaxInFlight == 0 {
		s.o.MaxInFlight = 1000
	}
	if s.open = o.Dial; s.open == nil {
		s.open = s.dial
	}
	s.outbox = newOutbox(s.o.MaxInFlight)
	s.outbox.pace = newPace(s.o.MaxRate)
	s.subscriber.options = &s.o
	s.outbox.takenAgain = func(topic string) {
		s.log.Info("the broker takes messages on a topic again", "topic", topic)
	}
	s.refusals.log = s.log
	s.outbox.notAccepted, s.outbox.givesUp = s.refusals.add, s.o.GiveUpAfter > 0
	s.outbox.mayAlias = s.o.TopicAliases
	s.inbox.handle = o.Handle
	s.wake = make(chan struct{}, 1)
	s.subs = newSubscriptions(o.Subscriptions, !o.Clean)
	if !o.Clean {
		s.subs.markFormer(o.Former)
	}
	s.o.Subscriptions, s.o.Former = nil, nil // there may be 100,000
	s.state.Since = time.Now()
	return s, nil
}

// Run connects and keeps connected until ctx ends. Then it hands on no more
// messages, writes the acknowledgements that Ack.Done released until then and the
// publications that may be written, publishes the offline status, waits up to 2 s
// for the broker to have it, and disconnects, within LeaveTimeout in all. Publications that are not
// acknowledged by then, and all later ones, are lost with ErrStopped. No failure
// of the broker makes it return. It may be called once.
func (s *Session) Run(ctx context.Context) error {
	if s.ran.Swap(true) {
		return errors.New("session: Run called twice")
	}
	defer s.outbox.stop()
	for {
		conn, err := s.connect(ctx)
		if err == nil {
			err = s.keep(ctx, conn)
		} else {
			s.closeCause.earlyCloses, s.closeCause.idleCloses, s.closeCause.longest = 0, 0, 0 // the broker was away: another client would have left it there
		}
		if ctx.Err() != nil {
			s.change(s.disconnected)
			return nil
		}
		if errors.Is(err, errRenew) || errors.Is(err, errReturn) {
			s.change(s.disconnected)
			continue
		}
		err = s.yields.ended(err, time.Now())
		s.report(err)
		s.backoff.failed(err)
		if errors.Is(err, errRepeat) || errors.Is(err, errWithWill) {
			continue // the broker has done nothing wrong, and what it is to repeat waits for nothing else
		}
		select {
		case <-time.After(s.pause()):
		case <-ctx.Done():
			return nil
		}
	}
}

// pause is how long to wait before the next connect. The time that the connection is then
// left idle is a part of it: that would keep a broker waiting that is well again.
func (s *Session) pause() time.Duration {
	if d := s.yields.pause; d > 0 {
		s.yields.pause = 0
		return d
	}
	d := s.backoff.delay()
	if s.closeCause.cautious {
		d = max(d-s.closeCause.longestIdle(), d/4)
	}
	return d
}

// Drain ends the handing on of messages for good, while the connection stays
// and held messages can still be acknowledged. When it returns Handle has
// returned, and is not called again; so it must not be called by Handle. What
// arrives from then on is not acknowledged: a persistent session gets it again
// at its next connect. A caller with work in hand calls Drain first, and ends
// Run when the work is done.
func (s *Session) Drain() { s.inbox.close() }

// Repeat has the broker send again what it has sent and Handle still holds: it does
// so on a new connection, if the session is persistent. It does not wait.
func (s *Session) Repeat() {
	if conn := s.current.Load(); conn != nil {
		_ = conn.mqtt.fail(errRepeat)
	}
}

// keep uses a connection until it is lost, or ctx ends.
func (s *Session) keep(ctx context.Context, conn *connection) error {
	start := time.Now()
	s.yields.began(start)
	s.current.Store(conn)
	defer s.current.Store(nil)
	defer conn.boundEnd(ctx)()
	s.takeUp(ctx, conn, start)
	return s.serve(ctx, conn, start)
}

// takeUp tells of a new connection, subscribes, and publishes that we are online.
func (s *Session) takeUp(ctx context.Context, conn *connection, start time.Time) {
	cautious := s.closeCause.cautious
	if !cautious {
		s.outbox.attach(conn.mqtt, conn.present) // before anybody is told of the connection
	}
	s.connLog.connected(conn)
	s.warnOfShares(conn)
	s.change(func(state *State) {
		state.Connected, state.Broker, state.Since = true, conn.broker, start
		state.Protocol = conn.mqtt.terms.protocol.String()
		state.Limits = conn.mqtt.terms.limits()
		state.Limits.MessageRate = s.o.MaxRate
		state.SessionPresent = conn.present
		state.Connects++
		state.LastErr, state.Attempts = "", 0
		if !conn.present {
			s.subs.allRemoved()
		}
	})
	s.subscriber.limits = s.subscriber.limitsOf(conn.broker)
	if cautious {
		conn.leaveIdle(ctx, s.closeCause.idle())
	}
	s.subscriber.limits.pause = 0
	if s.subscribe(ctx, conn, true, false) {
		s.change(func(*State) {})
	}
	s.publishOnline(ctx, conn)
	if cautious && !conn.isOver(ctx) {
		s.outbox.attach(conn.mqtt, conn.present)
	}
}

// serve does what falls due while the connection is there, and judges its end.
func (s *Session) serve(ctx context.Context, conn *connection, start time.Time) error {
	retry := time.NewTimer(s.subscriber.untilRetry(time.Now()))
	defer retry.Stop()
	s.ackWatch.begin()
	looks := time.NewTicker(ackLook)
	defer looks.Stop()
	lasts := time.NewTimer(time.Until(s.connLog.next()))
	defer lasts.Stop()
	renew := s.newRenewal()
	first, stop := s.watchFirst(ctx, conn)
	defer stop()
	for {
		select {
		case <-renew.due:
			renew.ask(s)
		case said := <-renew.came:
			if password, err := said(); renew.take(s, password, err) {
				s.log.Info("logging in anew, before the password ends", "broker", conn.broker)
				s.leaveFor(conn, errRenew)
				return s.connectionLost(conn, time.Since(start))
			}
		case <-first:
			s.log.Info("going back to the first broker of the list, which is there again", "from", conn.broker, "to", brokerurl.Shown(s.urls[0]))
			s.preference.forgive(s.urls[0])
			s.returns++
			s.leaveFor(conn, errReturn)
			return s.connectionLost(conn, time.Since(start))
		case <-lasts.C:
			if !s.connLog.lasted() {
				lasts.Reset(time.Until(s.connLog.next()))
				continue
			}
			s.change(func(state *State) { state.Losses, state.LastLoss = 0, "" })
		case <-retry.C:
			s.retry(ctx, conn)
			retry.Reset(s.subscriber.untilRetry(time.Now()))
		case <-s.status.again:
			s.retryStatus(ctx, conn)
		case <-s.wake:
			if s.subscribe(ctx, conn, false, false); !conn.isOver(ctx) {
				s.change(func(*State) {})
			}
			retry.Reset(s.subscriber.untilRetry(time.Now()))
			if s.status.anew.Swap(false) {
				s.retryStatus(ctx, conn)
			}
		case <-looks.C:
			s.lookForAcks(conn)
		case <-conn.lost:
			return s.connectionLost(conn, time.Since(start))
		case <-ctx.Done():
			s.leave(conn)
			return nil
		}
	}
}

// lookForAcks ends a connection on which the broker acknowledges nothing.
func (s *Session) lookForAcks(conn *connection) {
	was := s.ackWatch.since
	if err := s.ackWatch.look(s.outbox, time.Now()); err != nil {
		_ = conn.mqtt.fail(err)
	}
	if s.ackWatch.since != was {
		s.change(func(state *State) { state.AcksSince = s.ackWatch.since })
	}
}

// report tells of a failure.
func (s *Session) report(err error) {
	if was := s.State(); was.Connected {
		s.connLog.ended(was.Broker, err)
	} else {
		s.connLog.failed(err)
	}
	s.change(func(state *State) {
		s.disconnected(state)
		state.LastErr = errorText(err)
		state.Attempts, state.Losses = s.connLog.attempts, s.connLog.losses
		if state.Attempts == 0 {
			state.LastLoss = state.LastErr
		}
	})
}
