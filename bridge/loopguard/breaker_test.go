package loopguard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// storm has the breaker admit the same message n times a second for some seconds,
// or until it suspects it, and returns when it did.
func (b *Breaker) storm(print uint64, n, seconds int, from time.Time) (suspectedAt time.Time) {
	for i := range n * seconds {
		now := from.Add(time.Duration(i) * time.Second / time.Duration(n))
		if b.Admit(print, now) == Suspected {
			return now
		}
	}
	return time.Time{}
}

func TestTheBreakerSuspectsWhatComesTooOftenThreeSecondsInARow(t *testing.T) {
	b := Breaker{Limit: 100}
	at := b.storm(7, 200, 10, midday)
	if after := at.Sub(midday); after < 2*time.Second || after > 3*time.Second {
		t.Fatalf("suspected after %v, want in the third second", after)
	}
	if got := b.Admit(8, at); got != Admitted {
		t.Errorf("another message meanwhile: %v", got)
	}
}

func TestTheBreakerSuspectsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(*Breaker) time.Time
	}{
		{"at the limit itself", func(b *Breaker) time.Time { return b.storm(7, 100, 10, midday) }},
		{"in a burst of two seconds", func(b *Breaker) time.Time { return b.storm(7, 10_000, 2, midday) }},
		{"in bursts with calm between", func(b *Breaker) (at time.Time) {
			for i := range 10 {
				at = b.storm(7, 1000, 2, midday.Add(time.Duration(i)*4*time.Second))
			}
			return at
		}},
		{"in bursts with a slow second between", func(b *Breaker) (at time.Time) {
			for i := range 10 {
				from := midday.Add(time.Duration(i) * 3 * time.Second)
				at = b.storm(7, 1000, 2, from)
				b.storm(7, 50, 1, from.Add(2*time.Second))
			}
			return at
		}},
		{"in a stream of different payloads", func(b *Breaker) time.Time {
			for i := range 100_000 {
				now := midday.Add(time.Duration(i) * 100 * time.Microsecond)
				if b.Admit(Fingerprint(fmt.Appendf(nil, "%d", i)), now) == Suspected {
					return now
				}
			}
			return time.Time{}
		}},
	} {
		if at := c.play(&Breaker{Limit: 100}); !at.IsZero() {
			t.Errorf("%s: suspected after %v", c.name, at.Sub(midday))
		}
	}
}

// A storm goes round among other traffic, and several messages go round at once.
func TestTheBreakerSeesAStormAmongOtherTraffic(t *testing.T) {
	for _, circling := range []int{1, 5, 20} {
		b := Breaker{Limit: 100}
		found := false
		for i := range 800 * circling * 4 { // 200 a second of each, for four seconds
			print := Fingerprint(fmt.Appendf(nil, "storm %d", i%circling))
			if i%4 == 3 {
				print = Fingerprint(fmt.Appendf(nil, "other %d", i))
			}
			got := b.Admit(print, midday.Add(time.Duration(i)*time.Second/time.Duration(800*circling)))
			found = found || got == Suspected
		}
		if !found {
			t.Errorf("none of %d messages that go round with a quarter of other traffic is suspected", circling)
		}
	}
}

func TestWhatTheBreakerRemembersIsBounded(t *testing.T) {
	b := Breaker{Limit: 100}
	for i := range uint64(3 * MaxVerdicts) {
		b.End(nil, []uint64{i}, nil, midday.Add(time.Duration(i)*time.Millisecond))
	}
	if len(b.verdicts) > MaxVerdicts {
		t.Errorf("%d verdicts are remembered", len(b.verdicts))
	}
	if b.verdicts[3*MaxVerdicts-1] == nil || b.verdicts[0] != nil {
		t.Error("not the oldest are forgotten")
	}
	b.End(nil, []uint64{1 << 40}, nil, midday.Add(time.Hour))
	if len(b.verdicts) != 1 {
		t.Errorf("%d are remembered when all but one are over", len(b.verdicts))
	}
	for i := range uint64(2 * maxTests) {
		b.Begin(new(fakeTest), i)
	}
	if len(b.tests) > maxTests {
		t.Errorf("%d tests at a time", len(b.tests))
	}
}

func TestTheSourceTellsPrintsApart(t *testing.T) {
	seen := make(map[uint64]netip.Addr)
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		p := SourceDigest(a)
		if other, twice := seen[p]; twice {
			t.Fatalf("%v and %v have one print", a, other)
		}
		seen[p] = a
	}
}

type fakeTest struct{ _ int }

func (*fakeTest) Stop() {}
