package loopguard_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/loopguard"
)

var (
	groupA  = netip.MustParseAddrPort("239.1.1.1:5000")
	midday  = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	someOwn = netip.MustParseAddrPort("172.17.0.1:40000")
)

// said is the digest of a text, and source that of an address.
func said(text string) loopguard.Digest { return loopguard.SentDigest(3, groupA, []byte(text)) }
func source(address string) uint64      { return loopguard.SourceDigest(netip.MustParseAddr(address)) }

// forged is the digest of one of many addresses.
func forged(i int) uint64 {
	return loopguard.SourceDigest(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
}

func TestWhatComesBackIsKnownAsOftenAsItWasSent(t *testing.T) {
	c := loopguard.NewDedupCache(loopguard.Options{Memory: 100, Time: 10 * time.Second})
	on, off := loopguard.SentDigest(3, groupA, []byte("ON")), loopguard.SentDigest(3, groupA, []byte("OFF"))
	for _, x := range []loopguard.Digest{on, off, on} {
		c.Add(x, midday)
	}
	for i, x := range []struct {
		digest loopguard.Digest
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
	digests := []loopguard.Digest{
		loopguard.SentDigest(3, groupA, []byte("ab")),
		loopguard.SentDigest(4, groupA, []byte("ab")),
		loopguard.SentDigest(3, other, []byte("ab")),
		loopguard.SentDigest(3, netip.MustParseAddrPort("239.1.1.2:5000"), []byte("ab")),
		loopguard.SentDigest(3, groupA, []byte("abc")),
		loopguard.PublishedDigest(3, groupA, []byte("a"), []byte("b")),
		loopguard.PublishedDigest(3, groupA, []byte("ab"), nil),
		loopguard.PublishedDigest(3, groupA, []byte("b"), []byte("a")),
	}
	seen := make(map[loopguard.Digest]int)
	for i, x := range digests {
		if j, twice := seen[x]; twice {
			t.Errorf("digests %d and %d are equal", i, j)
		}
		seen[x] = i
	}
}

func TestWhatIsRememberedIsForgottenInTime(t *testing.T) {
	c := loopguard.NewDedupCache(loopguard.Options{Memory: 100, Time: 10 * time.Second})
	x := said("7")
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
	if n := c.Usage().Remembered; n != 0 {
		t.Errorf("%d events are left of what is over", n)
	}
}

func TestTheOldestIsForgottenWhereThereAreTooMany(t *testing.T) {
	c := loopguard.NewDedupCache(loopguard.Options{Memory: 100, Time: time.Hour})
	for i := range 250 {
		c.Add(said(fmt.Sprint(i)), midday)
	}
	if c.TakeBack(said("149"), midday) {
		t.Error("more are remembered than allowed")
	}
	for i := 200; i < 250; i++ { // each echo is remembered too
		if !c.TakeBack(said(fmt.Sprint(i)), midday) {
			t.Errorf("%d is forgotten though there was room", i)
		}
	}
	if u := c.Usage(); u.Remembered > 100 || u.Forgotten < 150 {
		t.Errorf("%d are remembered for 100, and %d said to be forgotten", u.Remembered, u.Forgotten)
	}
}

// The cache's count of our own publications against a list searched from its front.
func TestTheDedupCacheCountsLikeAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	c := loopguard.NewDedupCache(loopguard.Options{Memory: 1 << 20, Time: 10 * time.Second})
	type entry struct {
		digest loopguard.Digest
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
		x := said(fmt.Sprint(r.IntN(8)))
		if r.IntN(2) == 0 {
			c.Add(x, now)
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
		m := loopguard.NewDedupCache(loopguard.Options{Memory: 100, Time: 10 * time.Second})
		const by = 1
		for i, s := range c.steps {
			x := said(s.say)
			if s.from == "" {
				m.Add(x, midday)
			} else if got := m.HeardBefore(x, by, source(s.from), midday); got != s.known {
				t.Errorf("%s: step %d, %s says %s: known %v, want %v", c.name, i, s.from, s.say, got, s.known)
			}
		}
	}
}

func TestEachRuleHearsForItself(t *testing.T) {
	c := loopguard.NewDedupCache(loopguard.Options{Memory: 100, Time: 10 * time.Second})
	x, from := said("ON"), source("172.17.0.2")
	c.Add(x, midday)
	for i := range 2 {
		if !c.HeardBefore(x, uint64(i)+1, from, midday) {
			t.Errorf("rule %d does not know what another bridge sent", i)
		}
	}
}

func TestWhatWasHeardIsForgottenToo(t *testing.T) {
	c := loopguard.NewDedupCache(loopguard.Options{Memory: 100, Time: 10 * time.Second})
	const by = 1
	x := said("ON")
	d, b := source("172.17.0.9"), source("172.17.0.2")
	heard := func(from uint64, second int) bool {
		return c.HeardBefore(x, by, from, midday.Add(time.Duration(second)*time.Second))
	}
	heard(d, 0)
	if heard(b, 11) {
		t.Error("what was heard is known after its time")
	}
	c.Add(x, midday.Add(30*time.Second)) // now it is known for a bridge
	heard(b, 31)
	heard(b, 32)
	c.Add(x, midday.Add(50*time.Second))
	c.Add(x, midday.Add(51*time.Second))
	for i, want := range []bool{true, true, false} { // the second one when the first is over
		if got := heard(b, 52+9*i); got != want {
			t.Errorf("echo %d known: %v, want %v", i, got, want)
		}
	}
	c.TakeBack(x, midday.Add(time.Hour))
	if n := c.Usage().Remembered; n != 0 {
		t.Errorf("%d are left of what is over", n)
	}
}

// alarms are what a device says that somebody else said just before, and which of them are taken
// for his.
func alarms(c *loopguard.DedupCache, device, other uint64, now time.Time) (lost int) {
	for i := range 9 {
		alarm := said(fmt.Sprint("alarm ", i))
		c.HeardBefore(alarm, 1, other, now)
		if c.HeardBefore(alarm, 1, device, now) {
			lost++
		}
	}
	return lost
}

// Forged senders do not have the guard forget who says things of his own, nor take what he
// says for what they have said before.
func TestForgedSendersWipeNoReputation(t *testing.T) {
	for _, c := range []struct {
		name   string
		forged int // senders, each with some datagrams, a second apart
		each   int
	}{
		{"a few thousand, once", 4200, 1},
		{"many, once", 100_000, 1},
		{"as many as can become known, as often as that takes", 10_000, 6},
	} {
		g := loopguard.NewDedupCache(loopguard.Options{Memory: 65536, Time: 10 * time.Second})
		device, bridge, now := source("172.17.0.9"), source("172.17.0.2"), midday
		for i := range 6 {
			g.HeardBefore(said(fmt.Sprint("reading ", i)), 1, device, now)
			g.Add(said(fmt.Sprint("sent ", i)), now)
			g.HeardBefore(said(fmt.Sprint("sent ", i)), 1, bridge, now)
			now = now.Add(time.Second)
		}
		for round := range c.each {
			for i := range c.forged {
				g.HeardBefore(said(fmt.Sprint("forged ", round, i)), 1, forged(i), now)
			}
			now = now.Add(time.Second)
		}
		if lost := alarms(g, device, forged(1<<20), now); lost > 0 {
			t.Errorf("%s: %d of 9 alarms are taken for an echo", c.name, lost)
		}
		g.Add(said("ON"), now)
		if !g.HeardBefore(said("ON"), 1, bridge, now) {
			t.Errorf("%s: a bridge is not known any more", c.name)
		}
	}
}

// Where it may be one who was forgotten, a sender has the benefit of the doubt.
func TestANewSenderIsHeardWhileOthersAreForgotten(t *testing.T) {
	g := loopguard.NewDedupCache(loopguard.Options{Memory: 65536, Time: 10 * time.Second})
	for i := range 3 * loopguard.MaxPeers {
		g.HeardBefore(said(fmt.Sprint(i)), 1, forged(i), midday)
	}
	if lost := alarms(g, source("172.17.0.9"), forged(1<<20), midday); lost > 0 {
		t.Errorf("%d of 9 alarms are taken for an echo", lost)
	}
	bridge, echoes := source("172.17.0.2"), 0
	for i := range 20 {
		g.Add(said(fmt.Sprint("sent ", i)), midday)
		if g.HeardBefore(said(fmt.Sprint("sent ", i)), 1, bridge, midday) {
			echoes++
		}
	}
	if echoes < 10 {
		t.Errorf("a bridge that comes meanwhile is found out in %d of 20 cases", echoes)
	}
	if u := g.Usage(); u.SendersForgotten == 0 {
		t.Error("nothing tells that senders were forgotten")
	}
}

// What strangers say does not have the guard forget what we sent, and would know again.
func TestAFloodDoesNotHaveTheGuardForgetWhatWeSent(t *testing.T) {
	g := loopguard.NewDedupCache(loopguard.Options{Memory: 1000, Time: time.Hour})
	flood := func() {
		for i := range 10_000 {
			g.HeardBefore(said(fmt.Sprint("forged ", i)), 1, forged(i), midday)
		}
	}
	flood() // the whole memory is theirs
	for i := range 500 {
		g.Add(said(fmt.Sprint("sent ", i)), midday)
	}
	flood()
	for i := range 250 { // of those the echoes are remembered too
		if !g.TakeBack(said(fmt.Sprint("sent ", i)), midday) {
			t.Fatalf("what was sent is forgotten: %d", i)
		}
	}
	if u := g.Usage(); u.Remembered > 1000 || u.Forgotten < 9000 {
		t.Errorf("%+v", u)
	}
}

// However many senders say one and the same, what is done for one more does not depend on
// it. This test would take hours.
func TestManySendersOfOneDatagramCostAsMuchEach(t *testing.T) {
	g := loopguard.NewDedupCache(loopguard.Options{Memory: 1 << 20, Time: 10 * time.Second})
	g.Add(said("ON"), midday)
	for i := range 500_000 {
		g.HeardBefore(said("ON"), 1, forged(i), midday)
	}
	if u := g.Usage(); u.Remembered > 1<<20 {
		t.Errorf("%d are remembered", u.Remembered)
	}
	g.TakeBack(said("other"), midday.Add(time.Minute))
	if u := g.Usage(); u.Remembered > 0 || u.Senders > 4*loopguard.MaxPeers {
		t.Errorf("%+v", u)
	}
}

func TestTheOldestKnownSendersAreForgottenAfterAWhile(t *testing.T) {
	g := loopguard.NewDedupCache(loopguard.Options{Memory: 65536, Time: 10 * time.Second})
	now := midday
	for hour := range 5 {
		for range 6 {
			for i := range 5000 {
				g.HeardBefore(said(fmt.Sprint(now, i)), 1, forged(hour*5000+i), now)
			}
			now = now.Add(time.Second)
		}
		now = now.Add(time.Hour)
		if u := g.Usage(); u.Senders > 4*loopguard.MaxPeers {
			t.Fatalf("%d senders are remembered", u.Senders)
		}
	}
	// Those that came last are known, as those that came first are not any more.
	if lost := alarms(g, forged(4*5000), forged(1<<20), now); lost > 0 {
		t.Errorf("%d of 9 alarms of a known sender are taken for an echo", lost)
	}
}

func TestOurAddressStaysKnownForAWhileAfterItsSocketIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o loopguard.OwnAddresses
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
		time.Sleep(10*time.Second - 1)
		if !o.Has(someOwn) {
			t.Error("forgotten while datagrams from it may still arrive")
		}
		time.Sleep(2 * time.Nanosecond)
		if o.Has(someOwn) {
			t.Error("still known long after it was closed")
		}
	})
}
