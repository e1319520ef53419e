package account

import (
	"sync/atomic"
	"time"
)

// bounds of the latency histogram, in seconds: from what an idle machine needs
// to what a spell without an interface costs.
var bounds = [...]float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 1, 10, 60}

// Histogram counts batches at once: its own, because client_golang's observes one
// value at a time.
type Histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	nanos   atomic.Uint64
}

// Observe counts n observations of d.
func (h *Histogram) Observe(d time.Duration, n uint64) {
	s, i := d.Seconds(), 0
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.nanos.Add(uint64(d) * n)
}

// Snapshot returns how many observations there were in all, up to each bound, and their
// sum in seconds.
func (h *Histogram) Snapshot() (cumulative map[float64]uint64, count uint64, sum float64) {
	cumulative = make(map[float64]uint64, len(bounds))
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(bounds) {
			cumulative[bounds[i]] = count
		}
	}
	return cumulative, count, time.Duration(h.nanos.Load()).Seconds()
}
