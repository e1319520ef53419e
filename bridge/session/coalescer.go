package session

import (
	"runtime"
	"sync/atomic"
)

// writeCoalescer joins the writes of publishers into one. Each publisher reads a
// socket; when many sockets have data at once, each would write a little, and a write
// costs more than everything else. So a publisher that is about to write yields once
// (runtime.Gosched), and then writes what the others have added meanwhile. It waits
// only for goroutines that can run now, never for time to pass.
//
// While nobody joins it yields less and less often, because yielding has a small cost.
type writeCoalescer struct {
	electing atomic.Bool   // a publisher yields, and will write
	joined   atomic.Uint32 // publishers that left their data to it

	skip    atomic.Int32 // writes to come without yielding
	backoff atomic.Int32 // how many of those there were the last time
}

// maxSkip is the most writes in a row without yielding.
const maxSkip = 64

// elect reports whether the caller is to write: unless another publisher is about to,
// which will see what the caller has added.
func (c *writeCoalescer) elect() bool {
	if c.electing.Load() {
		c.joined.Add(1)
		return false
	}
	if c.skip.Load() > 0 {
		c.skip.Add(-1)
		return true
	}
	if !c.electing.CompareAndSwap(false, true) {
		return true
	}
	before := c.joined.Load()
	runtime.Gosched()
	c.electing.Store(false)
	if c.joined.Load() != before {
		c.backoff.Store(0)
		return true
	}
	n := min(2*c.backoff.Load()+1, maxSkip)
	c.backoff.Store(n)
	c.skip.Store(n)
	return true
}
