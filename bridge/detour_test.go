package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// detouring is a bridge of receive rules on iso0 that has a spool in dir, and no
// connection yet. Its pump runs.
func detouring(t *testing.T, dir string, size int64, o Options, send []mapping.SendRule, receive ...mapping.ReceiveRule) (*Bridge, *fakeNetwork, *fakePublisher) {
	t.Helper()
	n := &fakeNetwork{}
	n.set(iso0)
	if o.QueueSize == 0 {
		o.QueueSize = plenty
	}
	o.Spool.On = openSpool(t, dir, size)
	b := newTestBridgeOf(t, n, o, send, receive)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.receive.pump(ctx, func() []*detour { return b.parts().detours })
	}()
	t.Cleanup(func() { stop(); <-ended })
	return b, n, b.receive.publisher.(*fakePublisher)
}

// connect is what the session tells of its connection.
func (b *Bridge) connect(is bool) { b.sessionChanged(session.State{Connected: is}) }

// acknowledge tells the origins of the messages published since it was last called.
func (p *fakePublisher) acknowledge() (n int) {
	p.mu.Lock()
	origins := p.origins
	p.origins = nil
	p.mu.Unlock()
	for _, o := range origins {
		o.Published(1, 1)
	}
	return len(origins)
}

// deliver acknowledges what is published until n messages are.
func (p *fakePublisher) deliver(t *testing.T, n int) []string {
	t.Helper()
	waitFor(t, fmt.Sprint(n, " messages"), func() bool {
		p.acknowledge()
		return len(p.published()) >= n
	})
	p.acknowledge()
	return p.published()
}

// spooled waits until n messages are on disk.
func (b *Bridge) spooled(t *testing.T, n int) {
	t.Helper()
	waitFor(t, fmt.Sprint(n, " messages on disk"), func() bool {
		return b.options.Spool.On.Len() == n && b.room.messages.Load() == 0
	})
}

func TestWhatTheBrokerCannotTakeTakesTheDetourAndArrivesInOrder(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{}, nil,
		listenRule(t, "one", "239.1.1.1:5000", "one/{source}", func(r *mapping.ReceiveRule) { r.Retain = true }),
		listenRule(t, "none", "239.1.1.2:5000", "none", func(r *mapping.ReceiveRule) { r.QoS = 0 }))
	n.at("239.1.1.1:5000", "iso0").hear(device, "1", "2", "3")
	b.spooled(t, 3)
	n.at("239.1.1.2:5000", "iso0").hear(device, "x")
	waitFor(t, "QoS 0 to be left to the session", func() bool { return len(p.published()) == 1 })
	b.connect(true)
	want := []string{"none x", "one/172.17.0.9 1", "one/172.17.0.9 2", "one/172.17.0.9 3"}
	if diff := cmp.Diff(want, p.deliver(t, 4)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	b.spooled(t, 0)
	waitFor(t, "the end of the detour", func() bool { return !b.parts().detours[0].on.Load() })
	if got := b.parts().receives[0].published.Load(); got != 3 {
		t.Errorf("%d counted as published", got)
	}
	n.at("239.1.1.1:5000", "iso0").hear(device, "4")
	waitFor(t, "the fourth", func() bool { return len(p.published()) == 5 })
	if got := b.options.Spool.On.Len(); got != 0 {
		t.Errorf("%d on disk: what comes now is to go straight", got)
	}
}

func TestWhatIsNotAcknowledgedStaysOnDisk(t *testing.T) {
	dir := t.TempDir()
	b, n, p := detouring(t, dir, 1<<20, Options{}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	n.at("239.1.1.1:5000", "iso0").hear(device, "1", "2")
	b.spooled(t, 2)
	b.connect(true)
	waitFor(t, "a message", func() bool { return len(p.published()) > 0 })
	// The bridge ends, and the session gives them up.
	p.mu.Lock()
	origins := p.origins
	p.mu.Unlock()
	for _, o := range origins {
		o.Lost(1, 1, session.ErrStopped)
	}
	if got := b.Status().Receive[0]; got.Drops != nil || got.Published != 0 {
		t.Errorf("drops %v, published %d: they are not lost, and not published", got.Drops, got.Published)
	}
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := detouring(t, dir, 1<<20, Options{}, nil, listenRule(t, "r", "239.1.1.1:5000", "other"))
	next.connect(true)
	if diff := cmp.Diff([]string{"t 1", "t 2"}, p.deliver(t, 2)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

func TestWhatTheSessionHasInHandAtTheEndComesFirstTheNextTime(t *testing.T) {
	dir := t.TempDir()
	b, n, _ := detouring(t, dir, 1<<20, Options{}, nil, listenRule(t, "r", "239.1.1.1:5000", "t", func(r *mapping.ReceiveRule) { r.QoS, r.Retain = 2, true }))
	n.at("239.1.1.1:5000", "iso0").hear(device, "3", "4")
	b.spooled(t, 2)
	b.room.take(1)
	b.room.take(1)
	for _, payload := range []string{"1", "2"} {
		if !b.parts().receives[0].Rescue(&session.Publication{Topic: []byte("t"), Payload: []byte(payload), QoS: 2, Retain: true}) {
			t.Fatal("not rescued")
		}
	}
	b.spooled(t, 4)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := detouring(t, dir, 1<<20, Options{}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	if next.orphans() != nil {
		t.Error("the queue of what is older is taken for one of a rule that is gone")
	}
	next.connect(true)
	if diff := cmp.Diff([]string{"t 1", "t 2", "t 3", "t 4"}, p.deliver(t, 4)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if m := p.batch(0); m.QoS != 2 || !m.Retain {
		t.Errorf("published with %+v, want the quality of service and the retain flag that it had", m)
	}
}

func TestWhatTheSessionLosesForGoodOnTheDetourIsCounted(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	n.at("239.1.1.1:5000", "iso0").hear(device, "1")
	b.spooled(t, 1)
	b.connect(true)
	waitFor(t, "the message", func() bool { return len(p.published()) == 1 })
	p.origins[0].Lost(1, 1, session.ErrRefused)
	b.spooled(t, 0)
	if got := b.Status().Receive[0].Drops["offline"]; got != 1 {
		t.Errorf("drops %v", b.Status().Receive[0].Drops)
	}
}

func TestAQueueThatFillsUpOverflowsToTheDisk(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{QueueSize: 8 << 10}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	b.connect(true)
	const total = 64 // of them so many, each with its overhead, that a quarter of the queue overflows
	for i := range total {
		n.at("239.1.1.1:5000", "iso0").hear(device, fmt.Sprint(i))
	}
	waitFor(t, "the disk", func() bool { return b.options.Spool.On.Len() > 0 })
	got := p.deliver(t, total)
	for i, line := range got {
		if line != fmt.Sprint("t ", i) {
			t.Fatalf("message %d is %q", i, line)
		}
	}
	waitFor(t, "the end of the detour", func() bool { p.acknowledge(); return !b.parts().detours[0].on.Load() })
	if got := b.Status().Receive[0].Drops; got != nil {
		t.Errorf("drops %v", got)
	}
}

// A steady stream while the disk is emptied stays in order, and comes to go
// straight again, also if the broker goes away in between.
func TestAStreamToTheBrokerCatchesUpInOrder(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 16<<20, Options{QueueSize: 16 << 20}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	const total = 12000
	acks, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-acks:
				return
			case <-time.After(time.Millisecond):
				p.acknowledge()
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
		n.at("239.1.1.1:5000", "iso0").hear(device, fmt.Sprint(i), fmt.Sprint(i+1), fmt.Sprint(i+2), fmt.Sprint(i+3))
		if i%64 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	waitFor(t, "all", func() bool { return len(p.published()) == total })
	waitFor(t, "the end of the detour", func() bool { return !b.parts().detours[0].on.Load() })
	close(acks)
	<-ended
	for i, line := range p.published() {
		if line != fmt.Sprint("t ", i) {
			t.Fatalf("message %d is %q", i, line)
		}
	}
}

func TestWhatIsTooOldForTheBrokerIsDropped(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{Spool: Spool{MaxAge: 20 * time.Millisecond}}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	n.at("239.1.1.1:5000", "iso0").hear(device, "1", "2")
	b.spooled(t, 2)
	time.Sleep(25 * time.Millisecond)
	waitFor(t, "both to be dropped", func() bool { // the broker is still away
		b.tidy(time.Now())
		return b.Status().Receive[0].Drops["expired"] == 2
	})
	n.at("239.1.1.1:5000", "iso0").hear(device, "3")
	b.spooled(t, 1)
	time.Sleep(25 * time.Millisecond)
	b.connect(true)
	waitFor(t, "all to be counted", func() bool { return b.Status().Receive[0].Drops["expired"] == 3 })
	if got := p.published(); got != nil {
		t.Errorf("published %q", got)
	}
}

// The loop guard forgets after seconds what may be published after hours.
func TestTheLoopGuardKnowsWhatComesOffTheDisk(t *testing.T) {
	dir := t.TempDir()
	send := []mapping.SendRule{rule(t, "back", "t", "239.1.1.1:5000")}
	loops := guarded
	loops.Hold = 0
	o := Options{Loops: loops}
	b, n, _ := detouring(t, dir, 1<<20, o, send, listenRule(t, "r", "239.1.1.1:5000", "t"))
	n.at("239.1.1.1:5000", "iso0").hear(device, "hello")
	b.spooled(t, 1)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, n, p := detouring(t, dir, 1<<20, o, send, listenRule(t, "r", "239.1.1.1:5000", "t"))
	next.connect(true)
	p.deliver(t, 1)
	next.send.handle([]session.Message{message("t", "hello", 1)})
	if got := n.socket().took(); got != nil {
		t.Errorf("sent %q: that is our own message", got)
	}
	if got := next.Status().Rules[0].Drops["loop"]; got != 1 {
		t.Errorf("drops %v", next.Status().Rules[0].Drops)
	}
}

func TestADiskThatFailsIsCountedAndTheRestGoesOn(t *testing.T) {
	b, n, p := detouring(t, t.TempDir(), 1<<20, Options{}, nil, listenRule(t, "r", "239.1.1.1:5000", "t"))
	if err := b.options.Spool.On.Close(); err != nil { // a spool that is closed fails every time
		t.Fatal(err)
	}
	n.at("239.1.1.1:5000", "iso0").hear(device, "1")
	waitFor(t, "the loss", func() bool { return b.Status().Receive[0].Drops["spool_failed"] == 1 })
	b.connect(true)
	waitFor(t, "the end of the detour", func() bool { return !b.parts().detours[0].on.Load() })
	n.at("239.1.1.1:5000", "iso0").hear(device, "2")
	if got := p.deliver(t, 1); !slices.Equal(got, []string{"t 2"}) {
		t.Errorf("published %q", got)
	}
	if got := b.room.messages.Load(); got != 0 {
		t.Errorf("%d messages count as waiting", got)
	}
}

func TestASpoolInTroubleShowsInTheStatus(t *testing.T) {
	b := newTestBridgeOf(t, &fakeNetwork{}, Options{QueueSize: plenty, Spool: Spool{Dir: "/var/lib/x", Size: 7, Err: spool.ErrInUse}}, nil,
		[]mapping.ReceiveRule{listenRule(t, "r", "239.1.1.1:5000", "t")})
	if s := b.Status().Spool; s == nil || s.Dir != "/var/lib/x" || s.Size != 7 || !strings.Contains(s.Error, spool.ErrInUse.Error()) {
		t.Errorf("%+v", s)
	}
}
