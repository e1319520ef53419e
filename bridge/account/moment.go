package account

import (
	"sync/atomic"
	"time"
)

// epoch is what moments count from.
var epoch = time.Now()

// A Moment remembers when something happened last. It counts on the monotonic clock, so
// that it keeps its age when the wall clock is set.
type Moment struct{ atomic.Int64 } // nanoseconds since epoch; 0: never

// MomentOf is the moment of a time that this process has taken.
func MomentOf(now time.Time) int64 { return int64(now.Sub(epoch)) }

// Put sets the moment. In a batch all have the same, and then it costs a look.
func (m *Moment) Put(at int64) {
	if m.Load() != at {
		m.Store(at)
	}
}

// Time is when it was, by the wall clock of now.
func (m *Moment) Time(now time.Time) time.Time { return MomentTime(m.Load(), now) }

// SinceMoment is how long ago it was.
func SinceMoment(m int64, now time.Time) time.Duration { return now.Sub(epoch) - time.Duration(m) }

// MomentTime is when a moment was, by the wall clock of now; the zero time: never.
func MomentTime(m int64, now time.Time) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(m) - now.Sub(epoch)).Round(time.Millisecond)
}
