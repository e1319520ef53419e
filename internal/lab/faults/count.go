//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A payload holds the stream it belongs to, its number in that stream, counted
// from 0, and when it was made, in nanoseconds since 1970; then comes what fills
// it up. All streams of a run have the same number of bytes.
const payloadSize = 128

func newPayload(stream string, number int, made time.Time) []byte {
	b := fmt.Appendf(make([]byte, 0, payloadSize), "%s %d %d ", stream, number, made.UnixNano())
	for len(b) < payloadSize {
		b = append(b, '.')
	}
	return b
}

func readPayload(b []byte) (stream string, number int, made time.Time, ok bool) {
	part := strings.SplitN(string(b), " ", 4)
	if len(part) != 4 || len(b) != payloadSize {
		return "", 0, made, false
	}
	number, err := strconv.Atoi(part[1])
	nanos, err2 := strconv.ParseInt(part[2], 10, 64)
	return part[0], number, time.Unix(0, nanos), err == nil && err2 == nil && number >= 0 && number < 1<<28
}

// A count is what became of one stream. It is safe for concurrent use.
type count struct {
	mu         sync.Mutex
	seen       []bool // by number
	duplicates int
	disorders  int
	high       int // the number after the highest seen
	last       time.Time

	ended     time.Time     // a fault, and nothing has come since; zero: something has
	heal      time.Duration // the longest from the end of a fault to the next arrival
	latencies []time.Duration
}

// record takes an arrival.
func (c *count) note(number int, made, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = now
	if !c.ended.IsZero() && now.After(c.ended) {
		c.heal = max(c.heal, now.Sub(c.ended))
		c.ended = time.Time{}
	}
	if missing := number + 1 - len(c.seen); missing > 0 {
		c.seen = append(c.seen, make([]bool, missing)...)
	}
	if c.seen[number] {
		c.duplicates++
		return
	}
	c.seen[number] = true
	if number < c.high {
		c.disorders++
	}
	c.high = max(c.high, number+1)
	c.latencies = append(c.latencies, now.Sub(made))
}

// faultEnded takes note of the end of a fault: the next arrival shows that it healed.
func (c *count) faultEnded(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = now
}

// recovered reports whether something has come since the last fault ended.
func (c *count) recovered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended.IsZero()
}

// A span is the numbers from and up to, but not including, to.
type span struct{ from, to int }

// within counts the numbers of the spans that arrived.
func (c *count) within(spans []span) (out int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range spans {
		for n := s.from; n < min(s.to, len(c.seen)); n++ {
			if c.seen[n] {
				out++
			}
		}
	}
	return out
}

// quiet is how long nothing has arrived.
func (c *count) quiet(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.last)
}

// result is all that a row needs.
func (c *count) result() (duplicates, disorders int, heal time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.duplicates, c.disorders, c.heal
}

// takeLatencies returns the latencies noted since the last call.
func (c *count) takeLatencies() latencies {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.latencies
	c.latencies = nil
	slices.Sort(l)
	return l
}

// latencies are sorted.
type latencies []time.Duration

// at is the latency that the given part of all do not exceed, and 0 if there are
// none.
func (l latencies) at(part float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(int(part*float64(len(l))), len(l)-1)]
}

func (l latencies) String() string {
	if len(l) == 0 {
		return "nothing arrived"
	}
	return fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(l.at(0.5)), ms(l.at(0.99)))
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
