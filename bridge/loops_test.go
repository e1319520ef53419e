package bridge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var (
	groupA  = netip.MustParseAddrPort("239.1.1.1:5000")
	midday  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	someOwn = netip.MustParseAddrPort("172.17.0.1:40000")
)

func TestWhatComesBackIsKnownAsOftenAsItWasSent(t *testing.T) {
	m := newMemory(Loops{Memory: 100, Time: 10 * time.Second})
	on, off := sentTrace(3, groupA, []byte("ON")), sentTrace(3, groupA, []byte("OFF"))
	for _, x := range []trace{on, off, on} {
		m.add(x, midday)
	}
	for i, x := range []struct {
		trace trace
		want  bool
	}{{on, true}, {on, true}, {on, false}, {off, true}, {off, false}} {
		if got := m.take(x.trace, midday); got != x.want {
			t.Errorf("arrival %d known: %v, want %v", i, got, x.want)
		}
	}
	m.add(on, midday)
	if !m.take(on, midday) {
		t.Error("what is sent once more is not known once more")
	}
}

func TestTracesTellInterfaceGroupTopicAndPayloadApart(t *testing.T) {
	other := netip.MustParseAddrPort("239.1.1.1:5001")
	traces := []trace{
		sentTrace(3, groupA, []byte("ab")),
		sentTrace(4, groupA, []byte("ab")),
		sentTrace(3, other, []byte("ab")),
		sentTrace(3, netip.MustParseAddrPort("239.1.1.2:5000"), []byte("ab")),
		sentTrace(3, groupA, []byte("abc")),
		publishedTrace(3, groupA, []byte("a"), []byte("b")),
		publishedTrace(3, groupA, []byte("ab"), nil),
		publishedTrace(3, groupA, []byte("b"), []byte("a")),
	}
	seen := make(map[trace]int)
	for i, x := range traces {
		if j, twice := seen[x]; twice {
			t.Errorf("traces %d and %d are equal", i, j)
		}
		seen[x] = i
	}
}

func TestWhatIsRememberedIsForgottenInTime(t *testing.T) {
	m := newMemory(Loops{Memory: 100, Time: 10 * time.Second})
	x := trace(7)
	m.add(x, midday)
	m.add(x, midday.Add(5*time.Second))
	if !m.take(x, midday.Add(9*time.Second)) {
		t.Fatal("not known within its time")
	}
	// The one that came back stands for the older one, which is over by now.
	if !m.take(x, midday.Add(14*time.Second)) {
		t.Error("the younger one is not known within its time")
	}
	m.add(x, midday.Add(14*time.Second))
	if m.take(x, midday.Add(25*time.Second)) {
		t.Error("known after its time")
	}
	if len(m.marks) != 0 || m.head != m.tail {
		t.Errorf("%d marks and %d memos are left of what is over", len(m.marks), m.tail-m.head)
	}
}

func TestTheOldestIsForgottenWhereThereAreTooMany(t *testing.T) {
	m := newMemory(Loops{Memory: 100, Time: time.Hour})
	for i := range 250 {
		m.add(trace(i), midday)
	}
	if m.take(149, midday) {
		t.Error("more are remembered than allowed")
	}
	for i := 150; i < 250; i++ {
		if !m.take(trace(i), midday) {
			t.Errorf("%d is forgotten though there was room", i)
		}
	}
	if len(m.ring) > 128 || len(m.marks) > 100 {
		t.Errorf("%d memos and %d marks are kept for 100", len(m.ring), len(m.marks))
	}
}

// The memory's count of our own publications against a list searched from its front.
func TestTheMemoryCountsLikeAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := newMemory(Loops{Memory: 50, Time: 10 * time.Second})
	type entry struct {
		trace trace
		until time.Time
		came  bool
	}
	var list []entry
	now := midday
	for range 100_000 {
		now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		for len(list) > 0 && list[0].until.Before(now) {
			list = list[1:]
		}
		x := trace(r.IntN(8))
		if r.IntN(2) == 0 {
			m.add(x, now)
			if len(list) == 50 {
				list = list[1:]
			}
			list = append(list, entry{x, now.Add(10 * time.Second), false})
			continue
		}
		want := false
		for i := range list {
			if list[i].trace == x && !list[i].came {
				list[i].came, want = true, true
				break
			}
		}
		if got := m.take(x, now); got != want {
			t.Fatalf("known: %v, want %v", got, want)
		}
	}
}

// A step of a conversation: something is sent (from ""), or heard of a source.
type step struct {
	from, say string
	known     bool // heard because another bridge sent it
}

func TestWhoSaysWhat(t *testing.T) {
	const (
		device, device2 = "172.17.0.9", "172.17.0.10"
		bridge, bridge2 = "172.17.0.2", "172.17.0.3"
	)
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"each other bridge sends what we send, as often", []step{
			{"", "ON", false}, {"", "OFF", false}, {"", "ON", false},
			{bridge, "ON", true}, {bridge, "OFF", true}, {bridge2, "ON", true}, {bridge, "ON", true}, {bridge2, "OFF", true}, {bridge2, "ON", true},
			{bridge, "ON", false}, // once more than we did
		}},
		{"other bridges send what we published of a device", []step{
			{device, "ON", false}, {bridge, "ON", true}, {bridge2, "ON", true},
			{device, "OFF", false}, {device, "ON", false}, {bridge, "OFF", true}, {bridge, "ON", true},
		}},
		{"a device repeats itself", []step{
			{device, "ON", false}, {device, "ON", false}, {device, "OFF", false}, {device, "ON", false},
		}},
		{"a device that says things of its own may answer with what it was sent", []step{
			{device, "state 1", false}, {device, "state 2", false}, {"", "ON", false}, {device, "ON", false},
		}},
		{"one that never does is taken for a bridge", []step{
			{"", "ON", false}, {device, "ON", true}, {"", "OFF", false}, {device, "OFF", true},
		}},
		{"two devices say the same", []step{
			{device, "a", false}, {device2, "b", false}, {device2, "c", false}, {device, "alive", false}, {device2, "alive", false},
		}},
		{"a bridge that was faster than our broker is found out", []step{
			{bridge, "M1", false}, {"", "M2", false}, {bridge, "M2", true}, {"", "M3", false}, {bridge, "M3", true},
		}},
		{"a bridge that was mistaken for a device for long is found out", []step{
			{bridge, "M1", false}, {bridge, "M2", false}, {bridge, "M3", false},
			{"", "M4", false}, {bridge, "M4", false}, {"", "M5", false}, {bridge, "M5", false}, {"", "M6", false}, {bridge, "M6", true},
		}},
	} {
		m := newMemory(Loops{Memory: 100, Time: 10 * time.Second})
		by := new(receiveRule)
		for i, s := range c.steps {
			x := sentTrace(3, groupA, []byte(s.say))
			if s.from == "" {
				m.add(x, midday)
			} else if got := m.hear(x, by, netip.MustParseAddr(s.from), midday); got != s.known {
				t.Errorf("%s: step %d, %s says %s: known %v, want %v", c.name, i, s.from, s.say, got, s.known)
			}
		}
	}
}

func TestEachRuleHearsForItself(t *testing.T) {
	m := newMemory(Loops{Memory: 100, Time: 10 * time.Second})
	x, from := sentTrace(3, groupA, []byte("ON")), netip.MustParseAddr("172.17.0.2")
	m.add(x, midday)
	for i := range 2 {
		if !m.hear(x, &receiveRule{hold: new(hold)}, from, midday) {
			t.Errorf("rule %d does not know what another bridge sent", i)
		}
	}
}

func TestWhatWasHeardIsForgottenToo(t *testing.T) {
	m := newMemory(Loops{Memory: 100, Time: 10 * time.Second})
	by, x := new(receiveRule), sentTrace(3, groupA, []byte("ON"))
	d, b := netip.MustParseAddr("172.17.0.9"), netip.MustParseAddr("172.17.0.2")
	m.hear(x, by, d, midday)
	if m.hear(x, by, b, midday.Add(11*time.Second)) {
		t.Error("what was heard is known after its time")
	}
	m.hear(x, by, d, midday.Add(30*time.Second))
	m.hear(x, by, d, midday.Add(31*time.Second))
	m.hear(x, by, b, midday.Add(32*time.Second)) // for the first
	m.hear(x, by, b, midday.Add(41*time.Second)) // when the first is over, for the second
	if got := m.marks[x].hearing(by, b).echoes; got != 1 {
		t.Errorf("%d echoes of what is not over, want 1", got)
	}
	m.mu.Lock()
	m.expire(midday.Add(time.Hour))
	m.mu.Unlock()
	if len(m.marks) != 0 {
		t.Errorf("%d marks are left of what is over", len(m.marks))
	}
}

func TestSpeakersRememberedAreBounded(t *testing.T) {
	m := newMemory(Loops{Memory: 100, Time: 10 * time.Second})
	for i := range 3 * maxSpeakers {
		m.hear(trace(i), new(receiveRule), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), midday)
		if len(m.speakers) > maxSpeakers {
			t.Fatalf("%d speakers are remembered", len(m.speakers))
		}
	}
}

// storm has the breaker admit the same message n times a second for some seconds,
// or until it opens, and returns when it did.
func (b *breaker) storm(print uint64, n, seconds int, from time.Time) (opened time.Time) {
	for i := range n * seconds {
		now := from.Add(time.Duration(i) * time.Second / time.Duration(n))
		if _, opens := b.admit(print, now); opens {
			return now
		}
	}
	return time.Time{}
}

func TestTheBreakerOpensWhenOnePayloadComesTooOftenThreeSecondsInARow(t *testing.T) {
	b := breaker{limit: 100}
	at := b.storm(7, 200, 10, midday)
	if after := at.Sub(midday); after < 2*time.Second || after > 3*time.Second {
		t.Fatalf("opened after %v, want in the third second", after)
	}
	if ok, opens := b.admit(8, at); ok || opens {
		t.Errorf("while the rule rests another message: passes %v, opens %v", ok, opens)
	}
	if got, want := b.resting(at), at.Add(minRest); !got.Equal(want) {
		t.Errorf("rests until %v, want %v", got, want)
	}
	if ok, _ := b.admit(7, at.Add(minRest)); !ok {
		t.Error("still stopped after the rest")
	}
	if !b.resting(at.Add(minRest)).IsZero() {
		t.Error("still said to rest after it")
	}
}

func TestTheBreakerStaysShut(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(*breaker) time.Time
	}{
		{"for the limit itself", func(b *breaker) time.Time { return b.storm(7, 100, 10, midday) }},
		{"for a burst of two seconds", func(b *breaker) time.Time { return b.storm(7, 10_000, 2, midday) }},
		{"for bursts with calm between", func(b *breaker) (opened time.Time) {
			for i := range 10 {
				opened = b.storm(7, 1000, 2, midday.Add(time.Duration(i)*4*time.Second))
			}
			return opened
		}},
		{"for bursts with a slow second between", func(b *breaker) (opened time.Time) {
			for i := range 10 {
				from := midday.Add(time.Duration(i) * 3 * time.Second)
				opened = b.storm(7, 1000, 2, from)
				b.storm(7, 50, 1, from.Add(2*time.Second))
			}
			return opened
		}},
		{"for a stream of different payloads", func(b *breaker) time.Time {
			for i := range 100_000 {
				now := midday.Add(time.Duration(i) * 100 * time.Microsecond)
				if _, opens := b.admit(fingerprint(fmt.Appendf(nil, "%d", i)), now); opens {
					return now
				}
			}
			return time.Time{}
		}},
	} {
		if at := c.play(&breaker{limit: 100}); !at.IsZero() {
			t.Errorf("%s: opened after %v", c.name, at.Sub(midday))
		}
	}
}

// A storm goes round among other traffic, and several messages go round at once.
func TestTheBreakerSeesAStormAmongOtherTraffic(t *testing.T) {
	for _, circling := range []int{1, 5, 20} {
		b := breaker{limit: 100}
		opened := false
		for i := range 800 * circling * 4 { // 200 a second of each, for four seconds
			print := fingerprint(fmt.Appendf(nil, "storm %d", i%circling))
			if i%4 == 3 {
				print = fingerprint(fmt.Appendf(nil, "other %d", i))
			}
			_, opens := b.admit(print, midday.Add(time.Duration(i)*time.Second/time.Duration(800*circling)))
			opened = opened || opens
		}
		if !opened {
			t.Errorf("not opened by %d messages that go round with a quarter of other traffic", circling)
		}
	}
}

func TestTheRestGrowsWhileTheRuleMisbehaves(t *testing.T) {
	b := breaker{limit: 1}
	now := midday
	var rests []time.Duration
	misbehave := func() {
		at := b.storm(7, 10, 5, now)
		until := b.resting(at)
		rests = append(rests, until.Sub(at))
		now = until.Add(time.Second)
	}
	for range 8 {
		misbehave()
	}
	now = now.Add(maxRest)
	misbehave()
	want := "[10s 20s 40s 1m20s 2m40s 5m20s 10m0s 10m0s 10s]" // the last after ten calm minutes
	if got := fmt.Sprint(rests); got != want {
		t.Errorf("rests %s, want %s", got, want)
	}
}

func TestOurAddressStaysKnownForAWhileAfterItsSocketIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o ownAddresses
		if o.has(someOwn) {
			t.Error("known before it is ours")
		}
		o.add(someOwn)
		if !o.has(someOwn) || o.has(netip.MustParseAddrPort("172.17.0.1:40001")) {
			t.Error("an address of ours is not known, or another port of it is")
		}
		o.remove(someOwn)
		o.add(someOwn) // opened again, on the same port
		o.remove(someOwn)
		time.Sleep(lingering - 1)
		if !o.has(someOwn) {
			t.Error("forgotten while datagrams from it may still arrive")
		}
		time.Sleep(2 * time.Nanosecond)
		if o.has(someOwn) {
			t.Error("still known long after it was closed")
		}
	})
}
