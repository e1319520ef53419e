package session

import "time"

// State is a snapshot of a session.
type State struct {
	Connected      bool
	Broker         string    // address of the broker that it is connected to, or was last
	Protocol       string    // version of MQTT that it is spoken to in, or was last: "5" or "3.1.1"
	Limits         Limits    // what it takes, on this connection or the last
	Since          time.Time // of the last change of Connected
	SessionPresent bool      // the broker remembered the session when we connected
	Connects       int       // connects that succeeded
	Attempts       int       // connects that failed since there was a connection, or since the start
	Losses         int       // connections that were lost, since one has held for an hour
	LastLoss       string    // why the last of them was; "" if there were none
	Unsteady       bool      // it is connected, and has lost so many lately that this one may not last either
	LastErr        string    // why the last connect failed or the last connection ended; "" if neither happened since

	Active     int                 // subscriptions granted on this connection, some perhaps with less than asked for
	Unanswered int                 // subscriptions neither granted nor refused yet
	Troubled   []SubscriptionState // those refused, left out or granted with less; shared, so not to be changed

	Received    uint64 // messages handed on
	Held        int    // of these, on this connection, not acknowledged yet: Handle holds them, or one before them
	Published   uint64 // messages that the broker has: written (QoS 0), or acknowledged (QoS 1, 2)
	Unmatched   uint64 // of Published: those that, as it says, nobody has subscribed to (MQTT 5, QoS 1 and 2)
	Outstanding int    // messages that are on their way to it

	PacedSince time.Time // since when messages always wait for Options.MaxRate; zero: none do

	QuotaSince time.Time // since when the broker refuses messages for its quota, which are written again; zero: it does not

	AcksSince time.Time // since when it has not acknowledged the oldest of them, though it was written; zero below 15 s
}

// After so many losses a connection must hold for so long to be trusted.
const (
	unsteady = 3
	steady   = 5 * time.Minute
)

// SubscriptionState is what became of a subscription.
type SubscriptionState struct {
	Subscription
	Active  bool   // granted on this connection
	Granted byte   // quality of service granted; it may be less than asked for
	Err     string // what is wrong with it: refused, left out, or granted with less; "" while all is well or the answer is out
	Surplus bool   // it is left out because the broker takes fewer subscriptions than are wanted
}

// State returns the present state. It costs no walk over the subscriptions unless
// something became of one.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	tally := s.subs.count()
	state.Active, state.Unanswered, state.Troubled = tally.active, tally.unanswered, tally.troubled
	state.Received = s.inbox.received.Load()
	state.Published = s.outbox.published.Load()
	state.Unmatched = s.outbox.unmatched.Load()
	state.Outstanding = s.Outstanding()
	state.QuotaSince = s.outbox.quotaSince()
	state.PacedSince = s.outbox.pacedSince()
	state.Unsteady = state.Connected && state.Losses >= unsteady && time.Since(state.Since) < steady
	if conn := s.current.Load(); conn != nil {
		state.Held = conn.mqtt.acks.unacknowledged()
	}
	return state
}

// change changes the state, under mu, and tells of it. Only Run's goroutine does.
func (s *Session) change(f func(*State)) {
	s.mu.Lock()
	f(&s.state)
	s.mu.Unlock()
	if s.o.Changed != nil {
		s.o.Changed(s.State())
	}
}

// disconnected is the change when there is no connection.
func (s *Session) disconnected(state *State) {
	if state.Connected {
		state.Connected, state.Since = false, time.Now()
	}
	s.subs.deactivate()
}
