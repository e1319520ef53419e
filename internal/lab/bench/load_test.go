//go:build linux

package main

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// client is the bridge at the other end of a feed: it reads, and acknowledges
// as many as it is let.
type client struct {
	conn  net.Conn
	tally *tally
	got   atomic.Int64
	allow chan int
}

func newClient(conn net.Conn, t traffic) *client {
	c := &client{conn: conn, tally: newTally(t, 1), allow: make(chan int)}
	ids := make(chan uint16, 10_000)
	go func() {
		_ = readFrames(conn, func(f frame, answer []byte) ([]byte, error) {
			m, err := f.message(new(dialect))
			if err == nil {
				c.tally.note(m.payload, time.Now().UnixNano())
				c.got.Add(1)
				ids <- m.id
			}
			return answer, err
		}, nil)
	}()
	go func() {
		for n := range c.allow {
			var acks []byte
			for range n {
				acks = appendPuback(acks, <-ids)
			}
			if _, err := conn.Write(acks); err != nil {
				return
			}
		}
	}()
	return c
}

func TestTheFakeBrokerKeepsToItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := traffic{Groups: 1, Sizes: []int{100}, QoS: 1}
		here, there := net.Pipe()
		defer here.Close()
		f, c := newFeed(here, tr), newClient(there, tr)
		defer close(c.allow)
		go f.read()
		done := make(chan int)
		go func() {
			n, err := f.send(order{Run: 1, Seconds: 1, Messages: 2500})
			if err != nil {
				t.Error(err)
			}
			done <- n
		}()
		for _, step := range []struct{ allow, want int64 }{{0, window}, {10, window + 10}, {990, 2 * window}, {500, 2500}} {
			if step.allow > 0 {
				c.allow <- int(step.allow)
			}
			synctest.Wait()
			if got := c.got.Load(); got != step.want {
				t.Fatalf("%d more acknowledged: %d came, want %d", step.allow, got, step.want)
			}
		}
		select {
		case <-done:
			t.Fatal("it was done before all was acknowledged")
		default:
		}
		c.allow <- 1000
		if n := <-done; n != 2500 || c.tally.result.InOrder != 2500 {
			t.Errorf("sent %d, %+v arrived; want 2500 in order", n, c.tally.result)
		}
	})
}

func TestTheFakeBrokerGivesUpWhereNothingIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := traffic{Groups: 1, Sizes: []int{16}, QoS: 1}
		here, there := net.Pipe()
		defer here.Close()
		f, c := newFeed(here, tr), newClient(there, tr)
		defer close(c.allow)
		go f.read()
		if _, err := f.send(order{Run: 1, Seconds: 1, Messages: 3}); err == nil {
			t.Error("it did not say so")
		}
	})
}

func TestTheFakeBrokerWritesAsManyAsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := traffic{Groups: 1, Sizes: []int{16}}
		here, there := net.Pipe()
		defer here.Close()
		f, c := newFeed(here, tr), newClient(there, tr)
		defer close(c.allow)
		n, err := f.send(order{Run: 1, Seconds: 1, Messages: 10})
		synctest.Wait()
		if got := c.got.Load(); err != nil || n != 10 || got != 10 {
			t.Errorf("sent %d, %d came, %v; want 10", n, got, err)
		}
	})
}

func TestProbesAreOfEveryStreamAndCountedByNone(t *testing.T) {
	tr := traffic{Groups: 3, Sizes: []int{16}, QoS: 1}
	b := newStream(tr, 0, new(dialect)).appendProbes(nil, 1)
	c := newTally(tr, 0)
	seen := map[uint32]bool{}
	for len(b) > 0 {
		f, size, err := cutFrame(b)
		if err != nil || size == 0 {
			t.Fatal(size, err)
		}
		m, err := f.message(new(dialect))
		if err != nil || m.qos != 0 {
			t.Fatal(m.qos, err)
		}
		h, _ := readHeader(m.payload)
		if tr.streamOf(m.topic) != int(h.stream) {
			t.Errorf("a probe of stream %d is on %s", h.stream, m.topic)
		}
		seen[h.stream] = true
		c.note(m.payload, 2)
		b = b[size:]
	}
	if len(seen) != 3 || c.conclude() != (result{}) {
		t.Errorf("probes of %d streams, counted %+v; want 3 and nothing", len(seen), c.conclude())
	}
}

func TestPace(t *testing.T) {
	const second = int64(time.Second)
	for _, c := range []struct {
		name string
		o    order
		at   int64
		n    int
		done bool
	}{
		{"the first at once", order{Rate: 10, Seconds: 2}, 0, 1, false},
		{"evenly", order{Rate: 10, Seconds: 2}, second, 11, false},
		{"no more after the end", order{Rate: 10, Seconds: 2}, 5 * second, 21, true},
		{"no more than asked for", order{Rate: 10, Seconds: 2, Messages: 5}, second, 5, true},
		{"fewer so far", order{Rate: 10, Seconds: 2, Messages: 15}, second, 11, false},
		{"no rate, a number", order{Seconds: 2, Messages: 5}, 0, 5, false},
		{"no rate, the end", order{Seconds: 2, Messages: 5}, 2 * second, 5, true},
	} {
		if n, done := (pace{c.o, 0}).due(c.at); n != c.n || done != c.done {
			t.Errorf("%s: %d due, done %v; want %d, %v", c.name, n, done, c.n, c.done)
		}
	}
	now := time.Now().UnixNano()
	for _, c := range []struct {
		name string
		p    pace
		made int
		n    int
		ok   bool
	}{
		{"no rate, some left", pace{order{Seconds: 60, Messages: 5}, now}, 3, 2, true},
		{"no rate, none left", pace{order{Seconds: 60, Messages: 5}, now}, 5, 0, false},
		{"no rate, too late", pace{order{Seconds: 1, Messages: 5}, now - 2*second}, 3, 0, false},
		{"late, and all are still to be sent", pace{order{Rate: 10, Seconds: 1}, now - 2*second}, 3, 8, true},
		{"the last", pace{order{Rate: 10, Seconds: 1}, now - 2*second}, 11, 0, false},
		{"it waits", pace{order{Rate: 20, Seconds: 60, Messages: 2}, now}, 1, 1, true},
	} {
		if _, n, ok := c.p.next(c.made); n != c.n || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, n, ok, c.n, c.ok)
		}
	}
	if got := (pace{order{Rate: 10}, 5 * second}).at(20); got != 7*second {
		t.Errorf("message 20 is due at %d, want %d", got, 7*second)
	}
}
