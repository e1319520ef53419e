package receive_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// each says a number by each leg, one in a step, for some time, and looks at the legs each
// second.
func (b *rig) each(from *int, step, d time.Duration, legs ...string) {
	r := b.working.Reader(0)
	for begin := time.Now(); time.Since(begin) < d; {
		for _, leg := range legs {
			say(r, leg, strconv.Itoa(*from))
		}
		*from++
		second := time.Now().Truncate(time.Second)
		time.Sleep(step)
		if time.Since(second) >= time.Second {
			b.receive.WatchLegs(time.Now())
		}
	}
}

func (b *rig) legs() (states string) {
	for _, l := range b.Status().Receive[0].Legs {
		states += " " + strings.TrimPrefix(l.Source, "172.17.0.") + " " + string(l.State)
	}
	return strings.TrimSpace(states)
}

// A leg that is dead is told of once, and when it is back; the rule is degraded meanwhile.
func TestADeadLegIsToldOf(t *testing.T) {
	for _, step := range []time.Duration{100 * time.Millisecond, 20 * time.Second} {
		var log bytes.Buffer
		o := rigOptions{QueueSize: 1 << 20, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		rememberingWith(t, o, nil, []mapping.ReceiveRule{pair(t, 50*time.Millisecond)}, func(b *rig, p *published) {
			n := 0
			b.each(&n, step, 20*step, legA, legB)
			if got := b.legs(); got != "11 carries 12 carries" {
				t.Errorf("step %v: legs %s", step, got)
			}
			wantState(t, b, "up")
			silent := time.Now().Add(-step).Format(time.TimeOnly)
			b.each(&n, step, max(7*time.Second, 5*step), legA)
			if got := b.legs(); got != "11 carries 12 silent" {
				t.Errorf("step %v: legs %s", step, got)
			}
			wantState(t, b, "degraded nothing comes by the leg of 172.17.0.12 on iso0 since "+silent+", and others carry on")
			b.each(&n, step, 30*step, legA)
			b.each(&n, step, max(2*time.Second, 2*step), legA, legB)
			wantState(t, b, "up")
		})
		told := log.String()
		if strings.Count(told, `"a leg is silent, and others carry on" rule=pair interface=iso0 source=172.17.0.12 missing=`) != 1 || strings.Count(told, `"a leg carries again" rule=pair`) != 1 || strings.Count(told, "a leg ") != 2 {
			t.Errorf("step %v: told\n%s", step, told)
		}
	}
}

// A leg that brings some, and not enough, is told of too.
func TestALegThatLosesIsToldOf(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{pair(t, 50*time.Millisecond)}, func(b *rig, p *published) {
		n := 0
		for range 40 {
			b.each(&n, 20*time.Millisecond, 80*time.Millisecond, legA, legB)
			b.each(&n, 20*time.Millisecond, 20*time.Millisecond, legA)
		}
		b.each(&n, 20*time.Millisecond, time.Second, legA, legB)
		wantState(t, b, "up") // it is judged each 10 seconds
		for range 100 {
			b.each(&n, 20*time.Millisecond, 80*time.Millisecond, legA, legB)
			b.each(&n, 20*time.Millisecond, 20*time.Millisecond, legA)
		}
		wantState(t, b, "degraded the leg of 172.17.0.12 on iso0 loses datagrams that others bring")
		if got := b.legs(); got != "11 carries 12 loses" {
			t.Errorf("legs %s", got)
		}
		b.each(&n, 20*time.Millisecond, 21*time.Second, legA, legB)
		wantState(t, b, "up")
	})
}

// A leg whose sender a reload takes out of source is not waited for.
func TestALegThatIsNotTakenAnyMoreIsNotWaitedFor(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{pair(t, 50*time.Millisecond)}, func(b *rig, p *published) {
		n := 0
		b.each(&n, 100*time.Millisecond, 2*time.Second, legA, legB)
		b.each(&n, 100*time.Millisecond, 7*time.Second, legA)
		if got := b.state(); !strings.HasPrefix(got, "degraded nothing comes by the leg of 172.17.0.12") {
			t.Fatalf("state %q", got)
		}
		b.reload(t, nil, []mapping.ReceiveRule{pair(t, 50*time.Millisecond, func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.11/32"), netip.MustParsePrefix("172.17.0.13/32")}
		})})
		b.each(&n, 100*time.Millisecond, 7*time.Second, legA, legC)
		wantState(t, b, "up")
		if got := b.legs(); got != "11 carries 12 new 13 carries" {
			t.Errorf("legs %s", got)
		}
	})
}

// Who says other things than the others is no leg, so that its silence is none, and neither
// are others missing what it says.
func TestSomebodyElseIsNoLegOfAPair(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{pair(t, 50*time.Millisecond)}, func(b *rig, p *published) {
		n := 0
		b.each(&n, 100*time.Millisecond, 2*time.Second, legA, legB)
		for i := range 200 {
			say(b.working.Reader(0), legC, fmt.Sprint("his ", i))
			b.each(&n, 100*time.Millisecond, 100*time.Millisecond, legA, legB)
		}
		b.each(&n, 100*time.Millisecond, 20*time.Second, legA, legB)
		if got := b.legs(); got != "11 carries 12 carries 13 new" {
			t.Errorf("legs %s", got)
		}
		wantState(t, b, "up")
		for _, l := range b.Status().Receive[0].Legs {
			if l.Missing != 0 {
				t.Errorf("%s is missing %d", l.Source, l.Missing)
			}
		}
	})
}

// However many senders are made up, the legs that are known keep their places, and what the
// others say is published.
func TestLegsAreBounded(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{pair(t, time.Second)}, func(b *rig, p *published) {
		n, r := 0, b.working.Reader(0)
		b.each(&n, 100*time.Millisecond, 2*time.Second, legA, legB)
		for range 2 {
			flood(r, 1000, "forged")
			time.Sleep(2 * time.Second)
		}
		p.take()
		begin := n
		b.each(&n, 100*time.Millisecond, time.Second, legA, legB)
		if got := p.take(); len(got) != n-begin {
			t.Errorf("published %d, want %d", len(got), n-begin)
		}
		s := b.Status().Receive[0]
		if len(s.Legs) != receive.MaxLegs || s.Remembered.Unmerged != 2*(1000-(receive.MaxLegs-2)) {
			t.Errorf("%d legs, %d unmerged", len(s.Legs), s.Remembered.Unmerged)
		}
		// A new one finds a place when the made-up ones are silent.
		b.each(&n, 100*time.Millisecond, 2*time.Second, legA, legB, legC)
		if got := b.legs(); !strings.Contains(got, "13 carries") {
			t.Errorf("legs %s", got)
		}
	})
}

// A rule remembers what its part of the memory holds. What comes beyond is published twice, and
// counted; the parts of other rules are there for them.
func TestWhatIsRememberedForMergeIsBounded(t *testing.T) {
	rules := []mapping.ReceiveRule{pair(t, time.Minute), fake.ReceiveRule(t, "other", "239.1.1.2:5000", "t", merges(time.Minute))}
	receiving(t, rigOptions{QueueSize: 64 << 20}, nil, nil, func(b *rig, n *fake.Network) {
		p := new(published)
		b.receive.PublishTo(p)
		b.receive.SetMergeBytes(1 << 20)
		b.reload(t, nil, rules)
		many := make([]string, 20_000)
		for i := range many {
			many[i] = strconv.Itoa(i)
		}
		say(b.working.Reader(0), legA, many...)
		if got := b.receive.MergeBytes(); got > 1<<20 || got < 1<<18 {
			t.Errorf("%d bytes, want some of %d", got, 1<<20)
		}
		kept, _ := b.working.Rules[0].Merging()
		if got := b.Status().Receive[0].Remembered.Unmerged; kept < 1024 || got != uint64(len(many)-kept) {
			t.Errorf("%d are remembered, %d unmerged of %d", kept, got, len(many))
		}
		p.take()
		say(b.working.Reader(0), legB, many[len(many)-kept:]...)
		if got := p.take(); got != nil {
			t.Errorf("%d of those remembered are published twice", len(got))
		}
		// The other rule has its part.
		say(b.working.Reader(1), legA, many[:500]...)
		p.take()
		say(b.working.Reader(1), legB, many[:500]...)
		if got := p.take(); got != nil {
			t.Errorf("%d of another rule are published twice", len(got))
		}
		// What is over gives its room back.
		for range 200 {
			time.Sleep(time.Second)
			b.receive.WatchLegs(time.Now())
		}
		if n, room := b.working.Rules[0].Merging(); n != 0 || room > 64 {
			t.Errorf("%d remembered, room for %d", n, room)
		}
	})
	// And no rule has more than numbers of 16 bits hold.
	remembering(t, []mapping.ReceiveRule{pair(t, time.Minute)}, func(b *rig, p *published) {
		for range receive.MaxRecent/64 + 100 {
			say(b.working.Reader(0), legA, make([]string, 64)...)
		}
		if n, _ := b.working.Rules[0].Merging(); n != receive.MaxRecent {
			t.Errorf("%d remembered, want %d", n, receive.MaxRecent)
		}
	})
	if receive.SizesOfRecent != receive.RecentCost {
		t.Errorf("what is remembered takes %d bytes, and counts %d", receive.SizesOfRecent, receive.RecentCost)
	}
}

// What is remembered is what a plain list says, whatever comes.
func TestMergeAgreesWithAPlainList(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{pair(t, 20*time.Millisecond)}, func(b *rig, p *published) {
		r := b.working.Reader(0)
		type seen struct {
			at time.Time
			by map[string]bool
		}
		recent := make(map[string][]*seen)
		random := newRandom(5)
		legs := []string{legA, legB, legC}
		var want []string
		for range 30_000 {
			time.Sleep(time.Duration(random.IntN(2_000_000)))
			leg, content := legs[random.IntN(3)], strconv.Itoa(random.IntN(12))
			if random.IntN(3) == 0 {
				content = strconv.Itoa(random.IntN(1 << 30))
			}
			list := recent[content]
			for len(list) > 0 && time.Since(list[0].at) > 20*time.Millisecond {
				list = list[1:]
			}
			duplicate := false
			for _, s := range list {
				if !s.by[leg] {
					s.by[leg], duplicate = true, true
					break
				}
			}
			if !duplicate {
				list = append(list, &seen{time.Now(), map[string]bool{leg: true}})
				want = append(want, "t "+content)
			}
			recent[content] = list
			say(r, leg, content)
		}
		got := p.take()
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("published %d, want %d", len(got), len(want))
		}
	})
}

func newPairReader(t testing.TB, change func(*mapping.ReceiveRule)) (receive.Reader, []multicast.Datagram, []multicast.Datagram) {
	reader, a := newTestReader(t, func(r *mapping.ReceiveRule) {
		r.Topic, _ = mapping.ParseTopic("meters/raw")
		change(r)
	})
	b := make([]multicast.Datagram, len(a))
	for i := range a {
		b[i] = multicast.Datagram{Source: netip.MustParseAddrPort(legB), Payload: a[i].Payload}
	}
	return reader, a, b
}

// renumber makes payloads differ from those before.
func renumber(batch []multicast.Datagram, n *int) {
	for i := range batch {
		*n++
		strconv.AppendInt(batch[i].Payload[:0], int64(*n), 10)
	}
}

func TestMergeDoesNotAllocate(t *testing.T) {
	reader, a, b := newPairReader(t, merges(time.Millisecond))
	n := 0
	round := func() {
		renumber(a, &n)
		reader.Handle(a)
		reader.Handle(b)
	}
	for range 100 {
		round()
	}
	if n := fake.Allocations(round); n >= 1 {
		t.Errorf("%v allocations for two batches of %d", n, len(a))
	}
}

// One leg alone, then what two bring, with merge and without.
func BenchmarkHearLegs(b *testing.B) {
	for _, c := range []struct {
		name string
		legs int
		d    time.Duration
	}{{"alone, without merge", 1, 0}, {"alone, merge", 1, 10 * time.Millisecond}, {"pair, without merge", 2, 0}, {"pair, merge", 2, 10 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			reader, first, second := newPairReader(b, merges(c.d))
			n := 0
			for b.Loop() {
				renumber(first, &n)
				reader.Handle(first)
				if c.legs > 1 {
					reader.Handle(second)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(first)*c.legs), "ns/datagram")
		})
	}
}

// Two rules of one configuration never have the loop guard and merge in each other's way: merge
// comes first, so that the guard is asked once.
func TestMergeComesBeforeTheLoopGuard(t *testing.T) {
	send, rules := cycle(t)
	for i := range rules {
		rules[i].Merge = time.Second
	}
	receiving(t, rigOptions{Loops: guarded}, send, rules, func(b *rig, n *fake.Network) {
		b.receive.Guard().Add(loopguard.SentDigest(3, netip.MustParseAddrPort("239.1.1.1:5000"), []byte("ON")), time.Now())
		n.At("239.1.1.1:5000", "iso0").Hear(legA, "ON")
		n.At("239.1.1.1:5000", "iso0").Hear(legB, "ON")
		synctest.Wait()
		if d := b.Status().Receive[0]; d.Filtered["duplicate"] != 1 || d.Filtered["loop"] != 1 || d.State != account.StateUp {
			t.Errorf("%+v", d.Filtered)
		}
	})
}
