//go:build linux

package main

import (
	"math"
	"math/bits"
	"time"
)

// A result is what arrived in one run. Only what arrived once, in order and
// whole counts towards the rate.
type result struct {
	InOrder    int     `json:"in_order"`
	Late       int     `json:"late"` // came after a higher number of its stream
	Duplicates int     `json:"duplicates"`
	Wrong      int     `json:"wrong"` // another size, or from another source
	RigDrops   int     `json:"rig_drops"`
	Seconds    float64 `json:"seconds"` // from the first to the last
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
}

// arrived is how many different payloads came.
func (r result) arrived() int { return r.InOrder + r.Late }

// rate is in payloads a second.
func (r result) rate() float64 {
	if r.Seconds <= 0 || r.InOrder < 2 {
		return 0
	}
	return float64(r.InOrder-1) / r.Seconds
}

// A tally takes note of what arrives.
type tally struct {
	traffic
	run         uint8
	streams     []streamTally
	result      result
	first, last int64
	latency     histogram
}

type streamTally struct {
	next uint32   // after the highest seen
	seen []uint64 // a bit for each number
}

func newTally(t traffic, run uint8) *tally {
	return &tally{traffic: t, run: run, streams: make([]streamTally, t.Groups)}
}

// note takes a payload that arrived now, in nanoseconds since 1970.
func (t *tally) note(payload []byte, now int64) {
	h, ok := readHeader(payload)
	if !ok || int(h.stream) >= len(t.streams) {
		t.result.Wrong++
		return
	}
	if h.probe || h.run != t.run {
		return
	}
	if len(payload) != t.size(h.stream, h.seq) {
		t.result.Wrong++
		return
	}
	s := &t.streams[h.stream]
	word, bit := int(h.seq/64), uint64(1)<<(h.seq%64)
	for len(s.seen) <= word {
		s.seen = append(s.seen, 0)
	}
	switch {
	case s.seen[word]&bit != 0:
		t.result.Duplicates++
		return
	case h.seq < s.next:
		t.result.Late++
	default:
		t.result.InOrder++
		s.next = h.seq + 1
	}
	s.seen[word] |= bit
	if t.first == 0 {
		t.first = now
	}
	t.last = now
	t.latency.add(now - h.sent)
}

// conclude returns the result so far.
func (t *tally) conclude() result {
	r := t.result
	r.Seconds = time.Duration(t.last - t.first).Seconds()
	r.P50, r.P99 = t.latency.quantile(0.50), t.latency.quantile(0.99)
	return r
}

// A histogram of durations, each bucket 1/64 of its power of two wide.
type histogram struct {
	count   int
	buckets [64 * 58]int
}

func (h *histogram) add(ns int64) {
	h.count++
	h.buckets[bucketOf(uint64(max(ns, 0)))]++
}

func bucketOf(v uint64) int {
	if v < 64 {
		return int(v)
	}
	shift := bits.Len64(v) - 7
	return (shift+1)*64 + int(v>>shift) - 64
}

// quantile is in microseconds: the upper end of the bucket that it is in. Of
// nothing it is 0.
func (h *histogram) quantile(q float64) float64 {
	left := int(math.Ceil(q * float64(h.count)))
	for i, n := range h.buckets {
		if left -= n; n > 0 && left <= 0 {
			return float64(bucketEnd(i)) / 1e3
		}
	}
	return 0
}

func bucketEnd(i int) uint64 {
	if i < 64 {
		return uint64(i)
	}
	shift := i/64 - 1
	return (uint64(i%64)+65)<<shift - 1
}
