package session

import (
	"math/rand/v2"
	"time"
)

// The pauses between connects are short, for a broker that is well again is to be used
// soon, with all that a connection needs after it: see Session.pause. 200 clients of a
// broker that refuses them all are 90 connects a second.
const (
	firstDelay = time.Second
	maxDelay   = 3 * time.Second
)

// backoff says how long to wait before the next connect: 1 s, doubling to 3 s, less up
// to half of it at random, so that many clients of a broker that comes back do not all
// come at once.
type backoff struct{ next time.Duration }

func (b *backoff) delay() time.Duration {
	d := max(b.next, firstDelay)
	b.next = min(2*d, maxDelay)
	return d - rand.N(d/2)
}

func (b *backoff) reset() { b.next = 0 }
