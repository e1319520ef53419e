package session

import (
	"math/rand/v2"
	"time"
)

const (
	firstDelay = time.Second
	maxDelay   = 15 * time.Second
	// awayDelay is the longest after an end that has nothing to do with us: the
	// broker is away, or went away in the midst of work.
	awayDelay = 3 * time.Second
)

// backoff says how long to wait before the next connect: 1 s, doubling to 15 s, or
// to 3 s, less up to half of it at random, so that many clients of a broker that comes
// back do not all come at once.
type backoff struct{ next time.Duration }

func (b *backoff) delay() time.Duration {
	d := max(b.next, firstDelay)
	b.next = min(2*d, maxDelay)
	return d - rand.N(d/2)
}

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) away() { b.next = min(b.next, awayDelay) }
