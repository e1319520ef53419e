package receive_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// spooling is a bridge of receive rules on iso0 that has a spool in dir, and no
// connection yet. Its pump runs.
func spooling(t *testing.T, dir string, size int64, o rigOptions, send []mapping.SendRule, receive ...mapping.ReceiveRule) (*rig, *fake.Network, *fake.Publisher) {
	t.Helper()
	n := &fake.Network{}
	n.Set(fake.Iso0)
	if o.QueueSize == 0 {
		o.QueueSize = fake.Plenty
	}
	o.Spool.On = fake.OpenSpool(t, dir, size)
	b := newRig(t, n, o, send, receive)
	fake.Run(t, b.receive.Pump)
	return b, n, b.publisher()
}

// spooled waits until n messages are on disk.
func (b *rig) spooled(t *testing.T, n int) {
	t.Helper()
	fake.WaitFor(t, fmt.Sprint(n, " messages on disk"), func() bool { return b.safe(n) })
}

// safe reports whether n messages are on disk, and none is on its way there.
func (b *rig) safe(n int) bool {
	s := b.options.Spool.On
	return s.Len() == n && b.budget.Count() == 0 && s.Undecided() == 0
}

func TestWhatTheBrokerCannotTakeGoesThroughTheSpoolAndArrivesInOrder(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil,
		fake.ReceiveRule(t, "one", "239.1.1.1:5000", "one/{source}", func(r *mapping.ReceiveRule) { r.Retain = true }),
		fake.ReceiveRule(t, "none", "239.1.1.2:5000", "none", func(r *mapping.ReceiveRule) { r.QoS = 0 }))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	b.spooled(t, 3)
	n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "x")
	fake.WaitFor(t, "QoS 0 to be left to the session", func() bool { return len(p.Published()) == 1 })
	b.connect(true)
	want := []string{"none x", "one/172.17.0.9 1", "one/172.17.0.9 2", "one/172.17.0.9 3"}
	if diff := cmp.Diff(want, p.Deliver(t, 4)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	b.spooled(t, 0)
	fake.WaitFor(t, "the end of the spooling", func() bool { return !b.working.Rules[0].Spooling() })
	if got := b.Status().Receive[0].Published; got != 3 {
		t.Errorf("%d counted as published", got)
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4")
	fake.WaitFor(t, "the fourth", func() bool { return len(p.Published()) == 5 })
	if got := b.options.Spool.On.Len(); got != 0 {
		t.Errorf("%d on disk: what comes now is to go straight", got)
	}
}

func TestWhatIsNotAcknowledgedStaysOnDisk(t *testing.T) {
	dir := t.TempDir()
	b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	b.spooled(t, 2)
	b.connect(true)
	fake.WaitFor(t, "a message", func() bool { return len(p.Published()) > 0 })
	// The bridge ends, and the session gives them up.
	p.Mu.Lock()
	origins := p.Origins
	p.Mu.Unlock()
	for _, o := range origins {
		o.Lost(1, 1, session.ErrStopped)
	}
	if got := b.Status().Receive[0]; got.Drops != nil || got.Published != 0 {
		t.Errorf("drops %v, published %d: they are not lost, and not published", got.Drops, got.Published)
	}
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "other"))
	next.connect(true)
	if diff := cmp.Diff([]string{"t 1", "t 2"}, p.Deliver(t, 2)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

func TestWhatTheSessionHasInHandAtTheEndComesFirstTheNextTime(t *testing.T) {
	dir := t.TempDir()
	b, n, _ := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.QoS, r.Retain = 2, true }))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "3", "4")
	b.spooled(t, 2)
	b.working.Rules[0].Take(1)
	b.working.Rules[0].Take(1)
	for _, payload := range []string{"1", "2"} {
		origin, ok := b.working.Rules[0].Rescue(&session.Publication{Topic: []byte("t"), Payload: []byte(payload), QoS: 2, Retain: true})
		if !ok {
			t.Fatal("not rescued")
		}
		origin.Lost(1, 1, session.ErrStopped)
	}
	b.spooled(t, 4)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	if next.unused() != nil {
		t.Error("the queue of what is older is taken for one of a rule that is gone")
	}
	next.connect(true)
	if diff := cmp.Diff([]string{"t 1", "t 2", "t 3", "t 4"}, p.Deliver(t, 4)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if m := p.Batch(0); m.QoS != 2 || !m.Retain {
		t.Errorf("published with %+v, want the quality of service and the retain flag that it had", m)
	}
}

func TestWhatTheSessionLosesForGoodFromTheSpoolIsCounted(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
	b.spooled(t, 1)
	b.connect(true)
	fake.WaitFor(t, "the message", func() bool { return len(p.Published()) == 1 })
	p.Origins[0].(session.Refuser).Refused(&session.Publication{Topic: []byte("t"), Payload: []byte("1")}, session.ErrRefused)
	p.Origins[0].Lost(1, 1, session.ErrRefused)
	// A kill just now must not lose it: until it is kept elsewhere it is on disk.
	if n := receive.Unsettled(p.Origins[0]); n != 1 {
		t.Fatalf("the batch waits for %d messages", n)
	}
	b.spooled(t, 1)
	b.keep[0]()
	b.spooled(t, 0)
	if got := b.Status().Receive[0].Drops["broker_refused"]; got != 1 {
		t.Errorf("drops %v", b.Status().Receive[0].Drops)
	}
	if diff := cmp.Diff([]string{"r t 1"}, b.refused); diff != "" {
		t.Errorf("given to be kept: %s", diff)
	}
}

func TestAQueueThatFillsUpOverflowsToTheDisk(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{QueueSize: 8 << 10}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	const total = 64 // of them so many, each with its overhead, that a quarter of the queue overflows
	for i := range total {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i))
	}
	fake.WaitFor(t, "the disk", func() bool { return b.options.Spool.On.Len() > 0 })
	got := p.Deliver(t, total)
	for i, line := range got {
		if line != fmt.Sprint("t ", i) {
			t.Fatalf("message %d is %q", i, line)
		}
	}
	fake.WaitFor(t, "the end of the spooling", func() bool { p.Acknowledge(); return !b.working.Rules[0].Spooling() })
	if got := b.Status().Receive[0].Drops; got != nil {
		t.Errorf("drops %v", got)
	}
}

// A steady stream while the disk is emptied stays in order, and comes to go
// straight again, also if the broker goes away in between.
func TestAStreamToTheBrokerCatchesUpInOrder(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 16<<20, rigOptions{QueueSize: 16 << 20}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	const total = 12000
	acks, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-acks:
				return
			case <-time.After(time.Millisecond):
				p.Acknowledge()
			}
		}
	}()
	for i := 0; i < total; i += 4 {
		switch i {
		case total / 4, total / 2:
			b.connect(true)
		case total / 8 * 3:
			b.connect(false)
		}
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, fmt.Sprint(i), fmt.Sprint(i+1), fmt.Sprint(i+2), fmt.Sprint(i+3))
		if i%64 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	fake.WaitFor(t, "all", func() bool { return len(p.Published()) == total })
	fake.WaitFor(t, "the end of the spooling", func() bool { return !b.working.Rules[0].Spooling() })
	close(acks)
	<-ended
	for i, line := range p.Published() {
		if line != fmt.Sprint("t ", i) {
			t.Fatalf("message %d is %q", i, line)
		}
	}
}

func TestWhatIsTooOldForTheBrokerIsDropped(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{Spool: rigSpool{MaxAge: time.Nanosecond}}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	fake.WaitFor(t, "both to be dropped", func() bool { // the broker is still away
		b.expireOld()
		return b.Status().Receive[0].Drops["expired"] == 2
	})
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "3")
	fake.WaitFor(t, "one on disk", func() bool { s := b.options.Spool.On; return s.Len() == 1 && s.Undecided() == 0 })
	b.connect(true)
	fake.WaitFor(t, "all to be counted", func() bool { return b.Status().Receive[0].Drops["expired"] == 3 })
	if got := p.Published(); got != nil {
		t.Errorf("published %q", got)
	}
}

func TestADiskThatFailsIsCountedAndTheRestGoesOn(t *testing.T) {
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	if err := b.options.Spool.On.Close(); err != nil { // a spool that is closed fails every time
		t.Fatal(err)
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
	fake.WaitFor(t, "the loss", func() bool { return b.Status().Receive[0].Drops["spool_failed"] == 1 })
	b.connect(true)
	fake.WaitFor(t, "the end of the spooling", func() bool { return !b.working.Rules[0].Spooling() })
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "2")
	if got := p.Deliver(t, 1); !slices.Equal(got, []string{"t 2"}) {
		t.Errorf("published %q", got)
	}
	if got := b.budget.Count(); got != 0 {
		t.Errorf("%d messages count as waiting", got)
	}
}

func TestWhatTheDiskOrTheEndLosesIsCounted(t *testing.T) {
	b, n, _ := spooling(t, t.TempDir(), 4096, rigOptions{}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	large := strings.Repeat("x", 1000)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, large, large, large, large, large, large)
	fake.WaitFor(t, "a full disk", func() bool { return b.Status().Receive[0].Drops["spool_full"] > 0 })
	b.working.Rules[0].Lost(2, 2, session.ErrStopped)
	if got := b.Status().Receive[0].Drops["stopped"]; got != 2 {
		t.Errorf("stopped %d, want 2", got)
	}
}

// Rules that have much on disk do not keep one from its turn that comes after them in the
// configuration.
func TestEachRuleOnDiskHasItsTurn(t *testing.T) {
	const many, each, size = 8, 80, 60_000 // more than one round takes of so many
	var rules []mapping.ReceiveRule
	for i := range many {
		rules = append(rules, fake.ReceiveRule(t, fmt.Sprint("r", i), fmt.Sprintf("239.1.1.%d:5000", i), "much"))
	}
	rules = append(rules, fake.ReceiveRule(t, "last", "239.1.2.1:5000", "last"))
	b, n, p := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28}, nil, rules...)
	for i := range many {
		for range each {
			n.At(fmt.Sprintf("239.1.1.%d:5000", i), "iso0").Hear(fake.Device, strings.Repeat("x", size))
		}
	}
	n.At("239.1.2.1:5000", "iso0").Hear(fake.Device, "1")
	fake.WaitFor(t, "all to be on disk", func() bool {
		b.expireOld() // as the bridge does: what found no room because of other rules is tried again
		return b.safe(many*each + 1)
	})
	b.connect(true)
	acknowledged := 0
	fake.WaitFor(t, "the last rule's message", func() bool {
		if slices.Contains(p.Published(), "last 1") {
			return true
		}
		acknowledged += p.Acknowledge()
		return false
	})
	if acknowledged > 400 { // of 640; about 90 are on their way at a time
		t.Errorf("%d messages of others went before", acknowledged)
	}
}

// A message that the broker does not take holds up what its own rule has on disk, and nothing
// of others.
func TestARuleOnDiskWaitsForNoOther(t *testing.T) {
	const each = 2*receive.InflightSize + 10
	b, n, p := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28}, nil,
		fake.ReceiveRule(t, "bad", "239.1.1.1:5000", "bad"), fake.ReceiveRule(t, "good", "239.1.1.2:5000", "good"))
	for range each {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "x")
		n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "x")
	}
	b.spooled(t, 2*each)
	b.connect(true)
	told, good := 0, 0
	fake.WaitFor(t, "all of the other rule", func() bool {
		for ; told < len(p.Published()); told++ {
			if m := p.Batch(told); string(m.Topic) == "good" {
				m.Origin.Published(1, 1)
				good++
			}
		}
		return good == each
	})
	if got := b.Status().Receive[0].Published; got != 0 {
		t.Errorf("%d of the first are published", got)
	}
}

// What the disk turned away for what others had for it goes there soon after they have gone,
// though none of them tells the rule.
func TestWhatTheDiskTurnedAwayIsTriedAgain(t *testing.T) {
	b, n, _ := spooling(t, t.TempDir(), 1<<30, rigOptions{QueueSize: 1 << 28}, nil, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	s := b.options.Spool.On
	const size = 64 << 10
	others, goOn := fake.CrowdSpool(s, size)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, strings.Repeat("x", size))
	fake.WaitFor(t, "a message in memory", func() bool { return b.budget.Count() == 1 })
	goOn()
	fake.WaitFor(t, "the others on disk", func() bool { return s.Len() == others && s.Undecided() == 0 })
	b.receive.SpillAgain()
	b.spooled(t, others+1)
}
