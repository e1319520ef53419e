package session

import (
	"context"
	"fmt"
	"time"
)

// pubackTimeout is how long the broker may take to acknowledge a message that
// somebody waits for.
const pubackTimeout = 10 * time.Second

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
	case s.up.Load() == nil:
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

func (w waiter) Published(int, int)         { w <- nil }
func (w waiter) Lost(_, _ int, err error)   { w <- err }
func errNoAnswer(limit time.Duration) error { return fmt.Errorf("no acknowledgement within %v", limit) }
