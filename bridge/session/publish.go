package session

import (
	"context"
	"errors"
	"fmt"
)

// ErrNotConnected is what Publish says while there is no connection.
var ErrNotConnected = errors.New("not connected to the broker")

// Publish publishes one message and waits until the broker has it (QoS 1 and 2)
// or it is written (QoS 0), up to 10 s. An error of a QoS 1 or 2 message does not
// mean that the broker lacks it: its answer may be what was lost. The payload
// must not change before Publish returns. It may be called from any goroutine,
// but not from Handle, which would wait for itself.
func (s *Session) Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	if !validTopic(topic) || qos > 2 {
		return fmt.Errorf("publish to %q with QoS %d: want a topic name without wildcards, and QoS 0, 1 or 2", topic, qos)
	}
	l := s.up.Load()
	if l == nil {
		return ErrNotConnected
	}
	return l.await(ctx, l.client.Publish(topic, qos, retain, payload), pubackTimeout)
}
