//go:build linux

package main

import (
	"sync"
	"time"
)

// tick is how often a feed makes what is due.
const tick = 2 * time.Millisecond

// A flow is how many messages a feed makes.
type flow struct {
	rate   int // messages a second
	last   time.Time
	credit float64

	mu        sync.Mutex
	suspended bool
	burstLeft int // of a burst, still to be made
}

// due is how many messages are to be made at the rate since the last call. A pause is
// not made up for by a burst.
func (f *flow) due(now time.Time) int {
	if !f.last.IsZero() {
		f.credit += float64(f.rate) * min(now.Sub(f.last), 10*tick).Seconds()
	}
	f.last = now
	n := int(f.credit)
	f.credit -= float64(n)
	return n
}

func (f *flow) suspend(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.suspended = on
}

func (f *flow) burst(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.burstLeft += n
}
