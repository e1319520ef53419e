package loopguard

import (
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
	c := NewDedupCache(Options{Memory: 100, Time: 10 * time.Second})
	on, off := SentDigest(3, groupA, []byte("ON")), SentDigest(3, groupA, []byte("OFF"))
	for _, x := range []digest{on, off, on} {
		c.Add(x, midday)
	}
	for i, x := range []struct {
		digest digest
		want   bool
	}{{on, true}, {on, true}, {on, false}, {off, true}, {off, false}} {
		if got := c.TakeBack(x.digest, midday); got != x.want {
			t.Errorf("arrival %d known: %v, want %v", i, got, x.want)
		}
	}
	c.Add(on, midday)
	if !c.TakeBack(on, midday) {
		t.Error("what is sent once more is not known once more")
	}
}

func TestDigestsTellInterfaceGroupTopicAndPayloadApart(t *testing.T) {
	other := netip.MustParseAddrPort("239.1.1.1:5001")
	digests := []digest{
		SentDigest(3, groupA, []byte("ab")),
		SentDigest(4, groupA, []byte("ab")),
		SentDigest(3, other, []byte("ab")),
		SentDigest(3, netip.MustParseAddrPort("239.1.1.2:5000"), []byte("ab")),
		SentDigest(3, groupA, []byte("abc")),
		PublishedDigest(3, groupA, []byte("a"), []byte("b")),
		PublishedDigest(3, groupA, []byte("ab"), nil),
		PublishedDigest(3, groupA, []byte("b"), []byte("a")),
	}
	seen := make(map[digest]int)
	for i, x := range digests {
		if j, twice := seen[x]; twice {
			t.Errorf("digests %d and %d are equal", i, j)
		}
		seen[x] = i
	}
}

func TestWhatIsRememberedIsForgottenInTime(t *testing.T) {
	c := NewDedupCache(Options{Memory: 100, Time: 10 * time.Second})
	x := digest(7)
	c.Add(x, midday)
	c.Add(x, midday.Add(5*time.Second))
	if !c.TakeBack(x, midday.Add(9*time.Second)) {
		t.Fatal("not known within its time")
	}
	// The one that came back stands for the older one, which is over by now.
	if !c.TakeBack(x, midday.Add(14*time.Second)) {
		t.Error("the younger one is not known within its time")
	}
	c.Add(x, midday.Add(14*time.Second))
	if c.TakeBack(x, midday.Add(25*time.Second)) {
		t.Error("known after its time")
	}
	if len(c.entries) != 0 || c.head != c.tail {
		t.Errorf("%d entries and %d events are left of what is over", len(c.entries), c.tail-c.head)
	}
}

func TestTheOldestIsForgottenWhereThereAreTooMany(t *testing.T) {
	c := NewDedupCache(Options{Memory: 100, Time: time.Hour})
	for i := range 250 {
		c.Add(digest(i), midday)
	}
	if c.TakeBack(149, midday) {
		t.Error("more are remembered than allowed")
	}
	for i := 150; i < 250; i++ {
		if !c.TakeBack(digest(i), midday) {
			t.Errorf("%d is forgotten though there was room", i)
		}
	}
	if len(c.ring) > 128 || len(c.entries) > 100 {
		t.Errorf("%d events and %d entries are kept for 100", len(c.ring), len(c.entries))
	}
}

// The cache's count of our own publications against a list searched from its front.
func TestTheDedupCacheCountsLikeAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	c := NewDedupCache(Options{Memory: 50, Time: 10 * time.Second})
	type entry struct {
		digest digest
		until  time.Time
		came   bool
	}
	var list []entry
	now := midday
	for range 100_000 {
		now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		for len(list) > 0 && list[0].until.Before(now) {
			list = list[1:]
		}
		x := digest(r.IntN(8))
		if r.IntN(2) == 0 {
			c.Add(x, now)
			if len(list) == 50 {
				list = list[1:]
			}
			list = append(list, entry{x, now.Add(10 * time.Second), false})
			continue
		}
		want := false
		for i := range list {
			if list[i].digest == x && !list[i].came {
				list[i].came, want = true, true
				break
			}
		}
		if got := c.TakeBack(x, now); got != want {
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
		m := NewDedupCache(Options{Memory: 100, Time: 10 * time.Second})
		const by = 1
		for i, s := range c.steps {
			x := SentDigest(3, groupA, []byte(s.say))
			if s.from == "" {
				m.Add(x, midday)
			} else if got := m.HeardBefore(x, by, netip.MustParseAddr(s.from), midday); got != s.known {
				t.Errorf("%s: step %d, %s says %s: known %v, want %v", c.name, i, s.from, s.say, got, s.known)
			}
		}
	}
}

func TestEachRuleHearsForItself(t *testing.T) {
	c := NewDedupCache(Options{Memory: 100, Time: 10 * time.Second})
	x, from := SentDigest(3, groupA, []byte("ON")), netip.MustParseAddr("172.17.0.2")
	c.Add(x, midday)
	for i := range 2 {
		if !c.HeardBefore(x, uint64(i)+1, from, midday) {
			t.Errorf("rule %d does not know what another bridge sent", i)
		}
	}
}

func TestWhatWasHeardIsForgottenToo(t *testing.T) {
	c := NewDedupCache(Options{Memory: 100, Time: 10 * time.Second})
	const by = 1
	x := SentDigest(3, groupA, []byte("ON"))
	d, b := netip.MustParseAddr("172.17.0.9"), netip.MustParseAddr("172.17.0.2")
	c.HeardBefore(x, by, d, midday)
	if c.HeardBefore(x, by, b, midday.Add(11*time.Second)) {
		t.Error("what was heard is known after its time")
	}
	c.HeardBefore(x, by, d, midday.Add(30*time.Second))
	c.HeardBefore(x, by, d, midday.Add(31*time.Second))
	c.HeardBefore(x, by, b, midday.Add(32*time.Second)) // for the first
	c.HeardBefore(x, by, b, midday.Add(41*time.Second)) // when the first is over, for the second
	if got := c.entries[x].observationOf(by, b).echoes; got != 1 {
		t.Errorf("%d echoes of what is not over, want 1", got)
	}
	c.mu.Lock()
	c.expire(midday.Add(time.Hour))
	c.mu.Unlock()
	if len(c.entries) != 0 {
		t.Errorf("%d entries are left of what is over", len(c.entries))
	}
}

func TestPeersRememberedAreBounded(t *testing.T) {
	c := NewDedupCache(Options{Memory: 100, Time: 10 * time.Second})
	for i := range 3 * maxPeers {
		c.HeardBefore(digest(i), uint64(i)+1, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), midday)
		if len(c.peers) > maxPeers {
			t.Fatalf("%d peers are remembered", len(c.peers))
		}
	}
}

func TestOurAddressStaysKnownForAWhileAfterItsSocketIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o OwnAddresses
		if o.Has(someOwn) {
			t.Error("known before it is ours")
		}
		o.Add(someOwn)
		if !o.Has(someOwn) || o.Has(netip.MustParseAddrPort("172.17.0.1:40001")) {
			t.Error("an address of ours is not known, or another port of it is")
		}
		o.Remove(someOwn)
		o.Add(someOwn) // opened again, on the same port
		o.Remove(someOwn)
		time.Sleep(ownLinger - 1)
		if !o.Has(someOwn) {
			t.Error("forgotten while datagrams from it may still arrive")
		}
		time.Sleep(2 * time.Nanosecond)
		if o.Has(someOwn) {
			t.Error("still known long after it was closed")
		}
	})
}
