package send_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// unlike carries a message on each of n topics, in batches.
func (b *rig) unlike(n int, topic func(i int) string) {
	batch := make([]session.Message, 0, 64)
	for i := range n {
		batch = append(batch, fake.Message(topic(i), "x", 1))
		if len(batch) == cap(batch) || i == n-1 {
			b.send.Handle(batch)
			batch = batch[:0]
		}
	}
}

// long is a topic of so many bytes.
func long(head string, i, bytes int) string {
	head = fmt.Sprintf("%s/%d/", head, i)
	return head + strings.Repeat("x", bytes-len(head))
}

// heap is what is in use.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestTopicsBeyondTheMemoryAreStillRouted(t *testing.T) {
	const n = 50_000
	always := func(r *mapping.SendRule) { r.Retained = mapping.RetainedAlways }
	once := func(r *mapping.SendRule) { r.Retained = mapping.RetainedOnce }
	topics := map[string]struct {
		rule  mapping.SendRule
		topic func(i int) string
	}{
		"to one group": {fake.SendRule(t, "r", "t/#", "239.1.1.1:5000", always), func(i int) string { return long("t", i, 200) }},
		"long":         {fake.SendRule(t, "r", "t/#", "239.1.1.1:5000", always), func(i int) string { return long("t", i, send.MaxTopicName) }},
		"to many groups": {fake.SendRule(t, "r", "t/{a}/{b}", "239.{a}.1.1:{b}", once), func(i int) string {
			return fmt.Sprintf("t/%d/%d", i/1000, 1+i%1000)
		}},
		"to no group": {fake.SendRule(t, "r", "t/{n}/#", "239.1.1.1:{n}", always), func(i int) string { return long("t", 100_000+i, 40) }},
		"of no rule":  {fake.SendRule(t, "r", "t/#", "239.1.1.1:5000", always), func(i int) string { return long("other", i, 300) }},
	}
	for name, of := range topics {
		t.Run(name, func(t *testing.T) {
			b := newRigOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{of.rule}, nil)
			b.watched.End()
			before := heap()
			b.unlike(n, of.topic)
			taken := heap() - before
			if _, sent, _ := b.working.Rules[0].Totals(); sent+b.working.Rules[0].Dropped()+b.send.Unmatched() != n {
				t.Errorf("%d of %d are sent", sent, n)
			}
			known, groups, counted, _ := b.send.Topics()
			if known == 0 || known == n || counted > send.MaxTopicBytes || groups > known+send.MaxUnused {
				t.Errorf("%d topics with %d groups are remembered, of %d bytes", known, groups, counted)
			}
			if name == "to many groups" {
				taken -= n * 100 // package lastsent's
			}
			if taken > send.MaxTopicBytes*5/4 {
				t.Errorf("%d topics take %d bytes, which count as %d", known, taken, counted)
			}
			runtime.KeepAlive(b)
		})
	}
}

func TestTopicsWithLongNamesAreNotRemembered(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t/{n}/#", "239.1.1.1:{n}"))
	b.unlike(100, func(i int) string { return long("t", 1+i, send.MaxTopicName+1) })
	known, _, _, _ := b.send.Topics()
	if got := len(n.LastSocket().Took()); got != 100 || known != 0 {
		t.Errorf("%d of 100 sent; %d topics are remembered", got, known)
	}
}

func TestAFloodOfTopicsLeavesThoseThatOthersUse(t *testing.T) {
	b := newRigOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{
		fake.SendRule(t, "flooded", "f/#", "239.1.1.1:5000"), fake.SendRule(t, "quiet", "q/#", "239.1.1.2:5000"),
		fake.SendRule(t, "both", "+/both/#", "239.1.1.3:5000")}, nil)
	quiet := func(i int) string { return fmt.Sprint("q/", i) }
	b.unlike(1000, quiet) // and not again: what nobody takes the room of is not forgotten
	busy := func(i int) string { return fmt.Sprint("f/busy/", i) }
	b.unlike(100, busy)
	known := func(topic func(i int) string, n int) (known int) {
		for i := range n {
			if b.send.Remembers(topic(i)) {
				known++
			}
		}
		return known
	}
	for from := 0; from < 50_000; from += 1000 {
		b.unlike(1000, func(i int) string { return long("f/both", from+i, 500) })
		if q, u := known(quiet, 1000), known(busy, 100); q != 1000 || u != 100 {
			t.Fatalf("of 1000 topics of another rule %d are remembered, of 100 that are used all the time %d", q, u)
		}
		b.unlike(100, busy)
	}
	// What was used again, and is no more, is forgotten in the end.
	b.unlike(50_000, func(i int) string { return long("f/both", 50_000+i, 500) })
	if u := known(busy, 100); u != 0 {
		t.Errorf("of 100 topics that are used no more %d are remembered", u)
	}
	// Whoever has less than others gets room of theirs.
	b.unlike(20_000, func(i int) string { return long("q", i, 500) })
	_, _, all, unmatched := b.send.Topics()
	if a, c := b.working.Rules[0].TopicBytes(), b.working.Rules[1].TopicBytes(); a+c+unmatched != all || a > send.MaxTopicBytes*6/10 || c > send.MaxTopicBytes*6/10 || all < send.MaxTopicBytes*9/10 {
		t.Errorf("the rules have %d and %d bytes", a, c)
	}
}

// What a rule has beyond its part it loses to those that have less than theirs, and not to who
// floods; and topics that no rule matches have a part as those of one rule have.
func TestAFloodOfTopicsTakesNoMoreThanItsPart(t *testing.T) {
	newFlooded := func(filter string) *rig {
		b := newRigOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, rigOptions{QueueSize: fake.Plenty, InPlaceOf: blackHole}, []mapping.SendRule{
			fake.SendRule(t, "flooded", filter, "239.1.1.1:5000"), fake.SendRule(t, "large", "l/#", "239.1.1.2:5000"), fake.SendRule(t, "quiet", "q/#", "239.1.1.3:5000")}, nil)
		b.unlike(10, func(i int) string { return fmt.Sprint("q/", i) })
		b.unlike(40_000, func(i int) string { return long("l", i, 500) })
		return b
	}
	for name, b := range map[string]*rig{"of a rule": newFlooded("f/#"), "of no rule": newFlooded("no/#")} {
		b.unlike(60_000, func(i int) string { return long("f", i, 500) })
		_, _, all, _ := b.send.Topics()
		if got := all - b.working.Rules[1].TopicBytes(); got > send.MaxTopicBytes*4/10 || all < send.MaxTopicBytes*9/10 {
			t.Errorf("%s: %d of %d bytes are those of the flood; a third is its part", name, got, all)
		}
		if b.working.Rules[2].TopicBytes() == 0 {
			t.Errorf("%s: the quiet rule has none", name)
		}
	}
}

// A group that a topic leads to is not forgotten with those that none leads to: what another topic
// sends there would not leave in order.
func TestAGroupInUseIsNotForgotten(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t/{a}/{b}/+", "239.{a}.1.1:{b}"))
	b.unlike(2*send.MaxUnused, func(i int) string { return fmt.Sprintf("t/1/%d/first", 1+i) })
	b.send.Handle([]session.Message{fake.Message("t/1/1/first", "1", 1), fake.Message("t/1/1/other", "2", 1), fake.Message("t/1/1/first", "3", 1)})
	took := fake.Payloads(n.LastSocket().Took())
	if got := strings.Join(took[len(took)-3:], " "); got != "1 2 3" {
		t.Errorf("left as %s", got)
	}
}
