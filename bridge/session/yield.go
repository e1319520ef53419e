package session

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Two clients with one client identifier throw each other out, each time one of them connects
// [MQTT-3.1.4-3]. A broker of MQTT 5 says so (0x8E, session taken over), and then the other one is let
// have it for a while: of two that both connect again at once none would get anything done. With
// MQTT 3.1.1 there is no word for it, and rival.go looks for it.

// firstYield is how long the first time, and maxYield at most: it doubles each time, unless a
// connection has lasted for longer than that.
const (
	firstYield = 90 * time.Second
	maxYield   = 15 * time.Minute
)

// yields is what is known of another client with our identifier. It is of Run's goroutine.
type yields struct {
	last  time.Duration // how long the last one was
	since time.Time     // when the connection began
	pause time.Duration // how long the next one is
}

// began notes that a connection has begun.
func (y *yields) began(now time.Time) { y.since = now }

// ended plans the pause after a connection that another client has taken over, and says so.
func (y *yields) ended(err error, now time.Time) error {
	e, ok := errors.AsType[*DisconnectError](err)
	if !ok || e.Code != reasonTakenOver {
		return err
	}
	if now.Sub(y.since) > y.last {
		y.last = 0
	}
	y.last = min(max(2*y.last, firstYield), maxYield)
	y.pause = y.last + rand.N(y.last/4) // of two that yield to each other one comes first
	return fmt.Errorf("%w; it is let have it until %v from now", err, y.pause.Round(time.Second))
}
