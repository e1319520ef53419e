package session

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"
)

// Some brokers close the connection over a status topic that is not allowed to us, and some
// refuse a CONNECT whose will is on one. They would do so at each connection, and nothing else
// would ever be carried. So the status is left out, the will with it, since a word that stands
// there for good would be worse than none:
//
//   - when two connections ended over the status alone, and it was not taken meanwhile;
//   - when a CONNECT was refused, or the connection closed over it, while the next, which
//     followed at once and had no will, was accepted. That is looked for at the second failure
//     in a row, the fourth, eighth and so on: a broker that refuses all is asked seldom.
//
// After an hour, or a reload, the status is published again. If the broker takes it the
// connection is made anew, to have the will; else that costs one connection.

// statusAgain is when the broker is asked again whether it takes the status.
const statusAgain = time.Hour

// statusTrouble is what is known of a broker that does not take the status, or the will.
type statusTrouble struct {
	closes   int              // connections in a row that it ended over the status
	refusals int              // connects in a row that it refused, or ended, with the will
	again    <-chan time.Time // nil: the status is not left out
	said     bool             // the log says that it is
	anew     atomic.Bool      // the configuration was loaded again; anybody sets it
}

// told is the status that the broker is told; nil: none.
func (s *Session) told() *Status {
	if s.status.again != nil {
		return nil
	}
	return s.o.Status
}

// leaveStatusOut has the broker told no status for a while.
func (s *Session) leaveStatusOut(what string, err error) {
	if !s.status.said {
		s.status.said = true
		s.log.Warn("the broker "+what+": online and offline are told to nobody, and tried again after an hour or a reload; allow this user to publish there, or set broker.status_topic to another topic, or to \"\"",
			"topic", s.o.Status.Topic, "err", errorText(err))
	}
	s.status.again = time.After(statusAgain)
}

// publishOnline publishes the online status.
func (s *Session) publishOnline(ctx context.Context, conn *connection) {
	if s.told() != nil {
		s.tryOnline(ctx, conn)
	}
}

// tryOnline publishes it, and reports whether the broker has taken it.
func (s *Session) tryOnline(ctx context.Context, conn *connection) bool {
	release, err := conn.reserveForStatus(ctx)
	defer release()
	if conn.isOver(ctx) {
		return false
	}
	if err != nil {
		s.connLog.warn("status not published", "topic", s.o.Status.Topic, "broker", conn.broker, "err", err)
		return false
	}
	conn.statusPending = true
	err = conn.publishStatus(ctx, onlineID, s.o.Status.Topic, statusOnline)
	if err != nil && conn.isOver(ctx) {
		return false
	}
	conn.statusPending = false
	if err != nil {
		s.connLog.warn("status not published", "topic", s.o.Status.Topic, "broker", conn.broker, "err", err)
		return false
	}
	s.closeCause.statusAccepted = true
	s.status.closes = 0
	if s.status.said {
		s.status.said = false
		s.log.Info("the broker takes the status again", "topic", s.o.Status.Topic)
	}
	return true
}

// retryStatus publishes a status that was left out. Where the broker takes it now the
// connection is ended, for the next one to have the will; and so it is, without a word before,
// where the will was the cause.
func (s *Session) retryStatus(ctx context.Context, conn *connection) {
	switch {
	case s.status.again == nil:
	case s.status.refusals > 0:
		s.status.again = nil
		_ = conn.mqtt.fail(errWithWill)
	default:
		s.status.again = time.After(statusAgain)
		if s.tryOnline(ctx, conn) {
			s.status.again = nil
			_ = conn.mqtt.fail(errWithWill)
		}
	}
}

// attributeStatus notes a connection that the broker closed over the status. It returns what
// to say about it.
func (s *Session) attributeStatus(err error) error {
	err = s.overStatus(err)
	if s.status.closes++; s.status.closes >= maxFailures {
		s.leaveStatusOut("closes the connection over the status", err)
		s.closeCause = closeCause{statusAccepted: s.closeCause.statusAccepted}
		s.backoff.reset()
	}
	return err
}

// overStatus says that the broker closed a connection over the status.
func (s *Session) overStatus(err error) error {
	return fmt.Errorf("%w when told the status; check whether it allows publishing to %q", err, s.o.Status.Topic)
}

// connectTo opens a connection to one address, without the will where that is what the broker
// does not take.
func (s *Session) connectTo(ctx context.Context, u *url.URL) (*connection, error) {
	will := s.told()
	conn, err := s.shakeHands(ctx, u, will)
	switch {
	case err == nil:
		s.status.refusals = 0
	case will != nil && mayBeTheWill(err):
		n := s.status.refusals + 1
		s.status.refusals = n
		if n < maxFailures || n&(n-1) != 0 {
			break
		}
		if bare, e := s.shakeHands(ctx, u, nil); e == nil {
			s.leaveStatusOut("refuses a connection whose will is on the topic of the status", err)
			s.status.refusals = 1 // and perhaps will when it is tried again
			return bare, nil
		}
	}
	return conn, err
}

// mayBeTheWill reports whether the broker has refused a CONNECT for what is in it.
func mayBeTheWill(err error) bool {
	if e, ok := errors.AsType[*RefusedError](err); ok {
		switch e.Code {
		case reasonNotAuthorized, reasonTopic, reasonRetain, reasonQoS, reasonTooLarge:
			return true
		}
		return false
	}
	return closedByBroker(err)
}

// errNoTurn is for a status that was not written: the one message that the broker takes at a time is another.
var errNoTurn = errors.New("the broker takes one message at a time, and has not acknowledged the one before")

// reserveForStatus waits, where the broker takes one message at a time, until it has acknowledged what is on
// its way; nothing else is given to it until release is called.
func (conn *connection) reserveForStatus(ctx context.Context) (release func(), err error) {
	c := conn.mqtt
	if c.terms.inFlight != 1 {
		return func() {}, nil
	}
	release = func() {
		c.outbox.unreserve(c)
		c.acks.wakeWriter()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, pubackTimeout, errNoTurn)
	defer cancel()
	if _, err = await(ctx, c, c.outbox.reserve(c)); err != nil && ctx.Err() != nil {
		err = errNoTurn
	}
	return release, err
}

// publishStatus publishes a status message, retained and with QoS 1, and waits until the
// broker has it. It is not kept for later: each connection says it anew.
func (conn *connection) publishStatus(ctx context.Context, id uint16, topic, payload string) error {
	p := Publication{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: true}
	ctx, cancel := context.WithTimeoutCause(ctx, pubackTimeout, errNoAnswer(pubackTimeout))
	defer cancel()
	if err := conn.mqtt.writeFrame(appendPublish(nil, &p, id, &conn.mqtt.form), ctx.Done()); err != nil {
		return err
	}
	code, err := await(ctx, conn.mqtt, conn.mqtt.statusAcked[id-onlineID])
	if err == nil && code.refuses() {
		return fmt.Errorf("the broker refuses it: %v; check whether it allows publishing to %q", code, topic)
	}
	return err
}
