package session

import (
	"context"
	"fmt"
	"time"
)

// pubackTimeout is how long the broker may take to acknowledge a message that
// somebody waits for.
const pubackTimeout = 10 * time.Second

// PublishBatch publishes messages in their order, and never fails: what becomes
// of a message is told to its Origin. It copies what it keeps.
//
// Messages of QoS 0 are written at once, together with others. Those that no
// connection was there for, or that were being written when it broke, are lost.
// While 256 KiB of them wait for a slow broker PublishBatch blocks, until there is
// room or the connection is lost: what the caller reads from can take the burst.
//
// Messages of QoS 1 and 2 are kept until the broker has acknowledged them, over
// as many connections as that takes, and never wait for room. The caller bounds
// their memory: what it gave less what its Origins were told of.
//
// Over TLS and WebSocket the caller may also have to wait while the broker does not
// read: whoever publishes also writes, and those cannot write a part.
//
// It may be called from any goroutine, and the order of each is kept; but not
// from Handle, which must not block, nor by an Origin.
func (s *Session) PublishBatch(batch []Publication) {
	if c := s.outbox.add(batch); c != nil {
		c.publish()
	}
}

// Outstanding is how many publications are on their way: their Origins have not
// been told yet what became of them.
func (s *Session) Outstanding() int { return int(s.outbox.outstanding.Load()) }

// Publish publishes one message and waits until the broker has it (QoS 1 and 2)
// or it is written (QoS 0), up to 10 s. An error of a QoS 1 or 2 message does not
// mean that the broker lacks it, or will not get it yet: its answer may be what
// was lost, or be still to come. Without a connection it is ErrNotConnected, and
// nothing is kept; a connection that is lost meanwhile is waited for. It may be
// called from any goroutine, but not from Handle, which would wait for itself.
func (s *Session) Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	w := make(waiter, 1)
	p := Publication{Topic: []byte(topic), Payload: payload, QoS: qos, Retain: retain, Origin: w}
	switch {
	case !p.valid():
		return fmt.Errorf("publish to %q with QoS %d: %w", topic, qos, ErrInvalid)
	case s.current.Load() == nil:
		return ErrNotConnected
	}
	s.PublishBatch([]Publication{p})
	timer := time.NewTimer(pubackTimeout)
	defer timer.Stop()
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errNoAnswer(pubackTimeout)
	}
}

// waiter is the Origin of one message, whose sender waits.
type waiter chan error

func (w waiter) Published(int, int)       { w <- nil }
func (w waiter) Lost(_, _ int, err error) { w <- err }
