package loopguard_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"topicast/bridge/loopguard"
)

// storm has a breaker admit the same message n times a second for some seconds,
// or until it suspects it, and returns when it did.
func storm(b *loopguard.Breaker, fingerprint uint64, n, seconds int, from time.Time) (suspectedAt time.Time) {
	for i := range n * seconds {
		now := from.Add(time.Duration(i) * time.Second / time.Duration(n))
		if b.Admit(fingerprint, now) == loopguard.Suspected {
			return now
		}
	}
	return time.Time{}
}

func TestTheBreakerSuspectsWhatComesTooOftenThreeSecondsInARow(t *testing.T) {
	b := &loopguard.Breaker{Limit: 100}
	at := storm(b, 7, 200, 10, midday)
	if after := at.Sub(midday); after < 2*time.Second || after > 3*time.Second {
		t.Fatalf("suspected after %v, want in the third second", after)
	}
	if got := b.Admit(8, at); got != loopguard.Admitted {
		t.Errorf("another message meanwhile: %v", got)
	}
}

func TestTheBreakerSuspectsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(*loopguard.Breaker) time.Time
	}{
		{"at the limit itself", func(b *loopguard.Breaker) time.Time { return storm(b, 7, 100, 10, midday) }},
		{"in a burst of two seconds", func(b *loopguard.Breaker) time.Time { return storm(b, 7, 10_000, 2, midday) }},
		{"in bursts with calm between", func(b *loopguard.Breaker) (at time.Time) {
			for i := range 10 {
				at = storm(b, 7, 1000, 2, midday.Add(time.Duration(i)*4*time.Second))
			}
			return at
		}},
		{"in bursts with a slow second between", func(b *loopguard.Breaker) (at time.Time) {
			for i := range 10 {
				from := midday.Add(time.Duration(i) * 3 * time.Second)
				at = storm(b, 7, 1000, 2, from)
				storm(b, 7, 50, 1, from.Add(2*time.Second))
			}
			return at
		}},
		{"in a stream of different payloads", func(b *loopguard.Breaker) time.Time {
			for i := range 100_000 {
				now := midday.Add(time.Duration(i) * 100 * time.Microsecond)
				if b.Admit(loopguard.Fingerprint(fmt.Appendf(nil, "%d", i)), now) == loopguard.Suspected {
					return now
				}
			}
			return time.Time{}
		}},
	} {
		if at := c.play(&loopguard.Breaker{Limit: 100}); !at.IsZero() {
			t.Errorf("%s: suspected after %v", c.name, at.Sub(midday))
		}
	}
}

// A storm goes round among other traffic, and several messages go round at once.
func TestTheBreakerSeesAStormAmongOtherTraffic(t *testing.T) {
	for _, circling := range []int{1, 5, 20} {
		b := &loopguard.Breaker{Limit: 100}
		found := false
		for i := range 800 * circling * 4 { // 200 a second of each, for four seconds
			fingerprint := loopguard.Fingerprint(fmt.Appendf(nil, "storm %d", i%circling))
			if i%4 == 3 {
				fingerprint = loopguard.Fingerprint(fmt.Appendf(nil, "other %d", i))
			}
			got := b.Admit(fingerprint, midday.Add(time.Duration(i)*time.Second/time.Duration(800*circling)))
			found = found || got == loopguard.Suspected
		}
		if !found {
			t.Errorf("none of %d messages that go round with a quarter of other traffic is suspected", circling)
		}
	}
}

func TestWhatTheBreakerRemembersIsBounded(t *testing.T) {
	b := &loopguard.Breaker{Limit: 100}
	for i := range uint64(3 * loopguard.MaxVerdicts) {
		b.End(nil, nil, []uint64{i}, midday.Add(time.Duration(i)*time.Millisecond))
	}
	if n := b.Remembered(); n > loopguard.MaxVerdicts {
		t.Errorf("%d verdicts are remembered", n)
	}
	at := midday.Add(2 * time.Second)
	if b.Admit(3*loopguard.MaxVerdicts-1, at) != loopguard.Refused || b.Admit(0, at) != loopguard.Admitted {
		t.Error("not the oldest are forgotten")
	}
	b.End(nil, []uint64{1 << 40}, nil, midday.Add(time.Hour))
	if n := b.Remembered(); n != 1 {
		t.Errorf("%d are remembered when all but one are over", n)
	}
	began := 0
	for i := range uint64(100) {
		if _, ok := b.Begin(new(fakeTest), i); ok {
			began++
		}
	}
	if began != 16 {
		t.Errorf("%d tests at a time", began)
	}
}

// Whoever forges what a device sends, so that it looks like a loop, does not silence the
// device: its message is carried again after a while.
func TestWhatWasTakenForALoopIsCarriedNowAndThen(t *testing.T) {
	for _, certain := range []bool{false, true} {
		b := loopguard.Breaker{Limit: 100, Certain: certain}
		b.End(nil, nil, []uint64{7}, midday)
		carried, refused := 0, 0
		for i := range 100 { // ten seconds
			switch b.Admit(7, midday.Add(time.Duration(i)*loopguard.Cooldown/100)) {
			case loopguard.Admitted:
				carried++
			case loopguard.Refused:
				refused++
			}
		}
		if carried != 4 || refused != 96 {
			t.Errorf("certain %v: %d carried and %d refused, want one carried each two seconds", certain, carried, refused)
		}
	}
}

func TestTheSourceTellsPrintsApart(t *testing.T) {
	seen := make(map[uint64]netip.Addr)
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		p := loopguard.SourceDigest(a)
		if other, twice := seen[p]; twice {
			t.Fatalf("%v and %v have one fingerprint", a, other)
		}
		seen[p] = a
	}
}

type fakeTest struct{ _ int }

func (*fakeTest) Stop() {}
