//go:build linux

package main

import (
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

func TestPayloadsSayWhatTheyAre(t *testing.T) {
	made := time.Unix(1795408194, 123456789)
	b := newPayload("a", 4711, made)
	stream, number, at, ok := readPayload(b)
	if stream != "a" || number != 4711 || !at.Equal(made) || !ok || len(b) != payloadSize {
		t.Errorf("%q: %q %d %v %v", b, stream, number, at, ok)
	}
	for _, bad := range []string{"", "online", string(b[:payloadSize-1]), string(b) + ".", "a -1" + string(b[6:])} {
		if _, _, _, ok := readPayload([]byte(bad)); ok {
			t.Errorf("%q is taken for a payload", bad)
		}
	}
}

func TestTheOrderIsThatOfTheFirstArrivals(t *testing.T) {
	var sent []netlab.Frame
	for _, number := range []int{0, 1, 3, 2, 3, 4} {
		sent = append(sent, netlab.Frame{Payload: newPayload("a", number, time.Unix(1000, 0))})
	}
	sent = append(sent, netlab.Frame{Payload: []byte("of somebody else")})
	if n := disordersOf(sent); n != 1 {
		t.Errorf("%d out of order, want 1", n)
	}
}

func TestACountTellsWhatBecameOfAStream(t *testing.T) {
	var c count
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	c.note(0, at(0), at(1))
	c.note(1, at(1), at(3))
	c.faultEnded(at(10)) // a fault ends
	if c.recovered() {
		t.Error("healed before anything came")
	}
	c.note(1, at(1), at(30)) // again: it shows that the fault is over
	c.note(5, at(40), at(44))
	c.note(3, at(40), at(45)) // late
	c.faultEnded(at(50))
	c.note(6, at(50), at(55))
	duplicates, disorders, heal := c.result()
	if duplicates != 1 || disorders != 1 || heal != 20*time.Millisecond || !c.recovered() {
		t.Errorf("%d duplicates, %d disorders, healed after %v: %v", duplicates, disorders, heal, c.recovered())
	}
	for _, tt := range []struct {
		spans []span
		want  int
	}{
		{nil, 0}, {[]span{{0, 7}}, 5}, {[]span{{0, 2}, {5, 7}}, 4}, {[]span{{2, 3}}, 0}, {[]span{{0, 100}}, 5},
	} {
		if got := c.within(tt.spans); got != tt.want {
			t.Errorf("%v: %d arrived, want %d", tt.spans, got, tt.want)
		}
	}
	if q := c.quiet(at(60)); q != 5*time.Millisecond {
		t.Errorf("quiet for %v", q)
	}
	l := c.takeLatencies()
	if l.at(0.5) != 4*time.Millisecond || l.at(1) != 5*time.Millisecond || l.at(0) != time.Millisecond {
		t.Errorf("latencies %v", []time.Duration(l))
	}
	if l = c.takeLatencies(); len(l) != 0 || l.at(0.5) != 0 || l.String() != "nothing arrived" {
		t.Errorf("taken twice: %v", l)
	}
}
