package session

import (
	"runtime"
	"sync/atomic"
)

// company lets publishers write together. Each of them reads a socket; where many
// sockets have something at once, each would write the little that it has, and a
// write costs more than all else. So who is about to write lets the others have
// their turn first, and takes along what they have. Nobody waits for time to pass:
// only for what can run at once.
//
// Where it finds no company it asks ever less often, for to let others have their
// turn costs, if little.
type company struct {
	gathering atomic.Bool   // somebody is about to write
	joined    atomic.Uint32 // publishers who have left it to somebody

	alone atomic.Int32 // writes to come that nobody is asked to join
	pause atomic.Int32 // how many those were the last time
}

// maxAlone is how many writes go by, at most, before company is looked for again.
const maxAlone = 64

// await says whether the caller is to write. It is not if somebody else is about
// to, who will see what the caller has.
func (c *company) await() bool {
	if c.gathering.Load() {
		c.joined.Add(1)
		return false
	}
	if c.alone.Load() > 0 {
		c.alone.Add(-1)
		return true
	}
	if !c.gathering.CompareAndSwap(false, true) {
		return true
	}
	before := c.joined.Load()
	runtime.Gosched()
	c.gathering.Store(false)
	if c.joined.Load() != before {
		c.pause.Store(0)
		return true
	}
	n := min(2*c.pause.Load()+1, maxAlone)
	c.pause.Store(n)
	c.alone.Store(n)
	return true
}
