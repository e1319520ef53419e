//go:build linux

package main

import (
	"net/netip"
	"testing"
)

func TestHeadersAreReadAsTheyWerePut(t *testing.T) {
	for _, want := range []header{
		{},
		{probe: true, stream: 7, sent: 1},
		{run: 127, stream: 1<<24 - 1, seq: 1<<32 - 1, sent: 1<<62 + 5},
	} {
		b := make([]byte, headerSize)
		want.put(b)
		if got, ok := readHeader(b); !ok || got != want {
			t.Errorf("got %+v %v, want %+v", got, ok, want)
		}
	}
	if _, ok := readHeader(make([]byte, headerSize-1)); ok {
		t.Error("a header was read from too few bytes")
	}
}

func TestEveryTopicBelongsToItsStream(t *testing.T) {
	for _, groups := range []int{1, 100, 1000} {
		tr := traffic{Groups: groups}
		if got := tr.topics(); got < 100 || got%groups != 0 {
			t.Errorf("%d groups: %d topics", groups, got)
		}
		for n := range tr.topics() {
			if got := tr.streamOf([]byte(tr.topic(n))); got != n%groups {
				t.Errorf("%d groups: topic %s is of stream %d, want %d", groups, tr.topic(n), got, n%groups)
			}
		}
	}
}

func TestGroupsAndSourcesAreThoseThatThePeersCountOff(t *testing.T) {
	many := traffic{Groups: 1000, Sources: 100}
	first, source := many.group(0).Addr(), many.source(0)
	for i := range 1000 {
		if got := many.group(i); got != netip.AddrPortFrom(first, groupPort) {
			t.Errorf("group %d is %v, want %v", i, got, first)
		}
		if got := many.source(i); i < 100 && got != source {
			t.Errorf("source %d is %v, want %v", i, got, source)
		}
		first, source = first.Next(), source.Next()
	}
	if got := many.source(100); got != many.source(0) {
		t.Errorf("source 100 is %v, want the first again", got)
	}
	if got := (traffic{Groups: 5, Sources: 1}).source(3); got.String() != gatewayAddr {
		t.Errorf("the one source is %v, want %s", got, gatewayAddr)
	}
}

func TestEveryStreamHasAllSizesInTurn(t *testing.T) {
	for _, s := range scenarios {
		for stream := range uint32(s.Groups) {
			seen := map[int]bool{}
			for seq := range uint32(len(s.Sizes)) {
				seen[s.size(stream, seq)] = true
			}
			if len(seen) != len(s.Sizes) {
				t.Fatalf("%s: stream %d has %d sizes of %d", s.name, stream, len(seen), len(s.Sizes))
			}
		}
		for _, size := range s.Sizes {
			if size < headerSize || size > largest {
				t.Errorf("%s: payloads of %d bytes", s.name, size)
			}
		}
		if s.Sources > mostSources || s.Sources != 1 && s.Sources != s.Groups {
			t.Errorf("%s: %d sources for %d groups", s.name, s.Sources, s.Groups)
		}
	}
}

func TestAStreamCountsEachGroupByItself(t *testing.T) {
	s := newStream(traffic{Groups: 3, Sizes: []int{16, 20}}, 9, new(dialect))
	var next [3]uint32
	for i := range 1000 {
		h, size, topic := s.next(5)
		want := header{run: 9, stream: uint32(i % len(s.names) % 3), sent: 5}
		want.seq = next[want.stream]
		next[want.stream]++
		if h != want || size != s.size(h.stream, h.seq) || topic != s.traffic.topic(i%len(s.names)) {
			t.Fatalf("payload %d: %+v of %d bytes on %s, want %+v", i, h, size, topic, want)
		}
	}
}
