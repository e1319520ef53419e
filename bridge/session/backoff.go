package session

import (
	"errors"
	"math/rand/v2"
	"time"
)

// The pauses between connects are short, for a broker that is well again is to be used
// soon, with all that a connection needs after it: see Session.pause. 200 clients of a
// broker that refuses them all are 90 connects a second.
const (
	firstDelay = time.Second
	maxDelay   = 3 * time.Second

	// maxQuotaDelay is the longest pause where the broker says that we connect too often, or that its
	// quota is exceeded: who comes again soon keeps it so.
	maxQuotaDelay = time.Minute
)

// backoff says how long to wait before the next connect: 1 s, doubling to 3 s, less up
// to half of it at random, so that many clients of a broker that comes back do not all
// come at once.
type backoff struct {
	next  time.Duration
	quota bool // the last connect was refused for it
}

func (b *backoff) delay() time.Duration {
	most := maxDelay
	if b.quota {
		most = maxQuotaDelay
	}
	d := min(max(b.next, firstDelay), most)
	b.next = 2 * d
	return d - rand.N(d/2)
}

// failed notes why a connect or a connection ended.
func (b *backoff) failed(err error) {
	e, ok := errors.AsType[*RefusedError](err)
	b.quota = ok && (e.Code == reasonQuota || e.Code == reasonConnectionRate)
}

func (b *backoff) reset() { b.next = 0 }
