//go:build linux

package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// payload makes one of 20 bytes.
func payload(h header) []byte { return appendPayload(nil, h, 20) }

func TestTallyTellsLateFromTwiceFromWrong(t *testing.T) {
	c := newTally(traffic{Groups: 2, Sizes: []int{20}}, 3)
	const start = int64(1e18)
	for i, b := range [][]byte{
		payload(header{run: 3, stream: 0, seq: 0, sent: start}),
		payload(header{run: 3, stream: 0, seq: 70, sent: start}), // the others are missing
		payload(header{run: 3, stream: 1, seq: 0, sent: start}),  // another stream has its own order
		payload(header{run: 3, stream: 0, seq: 5, sent: start}),  // late
		payload(header{run: 3, stream: 0, seq: 70, sent: start}), // again
		payload(header{run: 3, stream: 0, seq: 5, sent: start}),  // again, and late too
		payload(header{run: 2, stream: 0, seq: 1, sent: start}),  // of the run before
		payload(header{probe: true, run: 3, sent: start}),
		payload(header{run: 3, stream: 2, seq: 0}), // no such stream
		payload(header{run: 3, stream: 0, seq: 71})[:19],
		nil,
	} {
		c.note(b, start+int64(i)*int64(time.Millisecond))
	}
	got := c.conclude()
	want := result{InOrder: 3, Late: 1, Duplicates: 2, Wrong: 3, Seconds: 0.003, P50: got.P50, P99: got.P99}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.arrived() != 4 {
		t.Errorf("%d arrived, want 4", got.arrived())
	}
	if got.P50 < 1000 || got.P50 > 1016 || got.P99 < 3000 || got.P99 > 3047 {
		t.Errorf("latencies %v and %v µs, want 1000 and 3000 or up to 1/64 more", got.P50, got.P99)
	}
}

func TestRateCountsTheTimeBetweenArrivals(t *testing.T) {
	for _, c := range []struct {
		r    result
		want float64
	}{
		{result{InOrder: 101, Seconds: 0.5}, 200},
		{result{InOrder: 101, Late: 50, Duplicates: 7, Seconds: 0.5}, 200},
		{result{InOrder: 1}, 0},
		{result{InOrder: 5}, 0},
	} {
		if got := c.r.rate(); got != c.want {
			t.Errorf("%+v: %v a second, want %v", c.r, got, c.want)
		}
	}
}

func TestABucketIsNoWiderThanASixtyFourthOfItsValues(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<62; v += 1 + v/200 {
		b := bucketOf(v)
		if b < last || b >= len(histogram{}.buckets) {
			t.Fatalf("%d is in bucket %d after %d", v, b, last)
		}
		last = b
		if end := bucketEnd(b); end < v || end-v > v/64 {
			t.Fatalf("%d is in bucket %d, which ends at %d", v, b, end)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v, want 0", got)
	}
	h.add(-5) // the clock was set back
	for range 97 {
		h.add(1)
	}
	h.add(40)
	h.add(60)
	for _, c := range []struct{ q, want float64 }{{0.01, 0}, {0.5, 0.001}, {0.98, 0.001}, {0.99, 0.040}, {1, 0.060}} {
		if got := h.quantile(c.q); got != c.want {
			t.Errorf("quantile %v: %v µs, want %v", c.q, got, c.want)
		}
	}
}

func TestACollectorConcludesWhenAllHaveComeOrNothingMoreDoes(t *testing.T) {
	var emitted []event
	drops := 5
	orders := make(chan order, 1)
	c := newCollector(traffic{Groups: 2, Sizes: []int{20}}, orders, func() int { return drops }, func(e event) { emitted = append(emitted, e) })
	do := func(o order, now int64) {
		orders <- o
		c.step(now)
	}
	expect := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range emitted {
			got = append(got, e.Event)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}
	at := int64(time.Hour)
	c.note(payload(header{probe: true, stream: 1}), at)
	c.note(payload(header{probe: true, stream: 1}), at)
	c.note(payload(header{stream: 0}), at)
	expect("before a probe of each stream has come")
	c.note(payload(header{probe: true, stream: 0}), at)
	expect("then", probed)

	do(order{Do: doCount, Run: 1}, at)
	c.note(payload(header{run: 1}), at)
	c.wrong()
	at += int64(time.Minute) // the load took its time
	do(order{Do: doEnd, Want: 2}, at)
	c.step(at + int64(idle) - 1)
	expect("while one is missing", probed, ready)
	drops = 7
	c.step(at + int64(idle))
	c.step(at + 2*int64(idle))
	expect("nothing more comes", probed, ready, counted)
	if r := emitted[2].Result; r.InOrder != 1 || r.Wrong != 1 || r.RigDrops != 2 {
		t.Errorf("result %+v, want 1 in order, 1 wrong, 2 drops", r)
	}

	do(order{Do: doCount, Run: 2}, at)
	do(order{Do: doEnd, Want: 1}, at)
	c.note(payload(header{run: 2}), at)
	c.step(at)
	expect("all have come", probed, ready, counted, ready, counted)
	close(orders)
	c.step(at)
	if !c.ended {
		t.Error("it goes on after its orders have ended")
	}
}
