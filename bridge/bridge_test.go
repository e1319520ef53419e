package bridge

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/demobroker"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestTheEndWaitsForABusySocketButNotForEver(t *testing.T) {
	for name, c := range map[string]struct {
		heals bool
		takes time.Duration
	}{
		"the socket has room again": {true, time.Second},
		"it never has":              {false, theEnd.drained},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
				b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
				s := n.LastSocket()
				s.Allow(0, nil)
				<-s.Free
				b.send.Handle([]session.Message{fake.Message("t", "1", 0), fake.Message("t", "2", 1)})
				began := time.Now()
				if c.heals {
					time.AfterFunc(time.Second, func() { s.Allow(2, nil) })
				}
				ctx, cancel := context.WithTimeout(context.Background(), theEnd.drained)
				defer cancel()
				b.waitDrained(ctx)
				if took := time.Since(began).Round(10 * time.Millisecond); took != c.takes {
					t.Errorf("took %v, want %v", took, c.takes)
				}
				if c.heals && len(s.Took()) != 2 {
					t.Errorf("sent %q", s.Took())
				}
			})
		})
	}
}

func TestTheEndDoesNotWaitForASourceThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBridge(t, &fake.Network{}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		b.send.Handle([]session.Message{fake.Message("t", "1", 1)})
		began := time.Now()
		b.waitDrained(context.Background())
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestSubscriptionsInTroubleShowInTheirRules(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "refused", "a/b", "239.1.1.1:5000"), fake.SendRule(t, "lowered", "b", "239.1.1.1:5000"), fake.SendRule(t, "well", "c", "239.1.1.1:5000"))
	state := session.State{Connected: true, Active: 2, Unanswered: 1, Troubled: []session.SubscriptionState{
		{Subscription: session.Subscription{Filter: "a/#", QoS: 1}, Err: "refused by the broker"},
		{Subscription: session.Subscription{Filter: "b", QoS: 1}, Active: true, Granted: 0, Err: "granted with QoS 0, asked for 1"},
	}}
	view := b.current().send.View(state.Troubled, time.Now())
	for i, want := range []account.State{account.StatePending, account.StateDegraded, account.StateUp} {
		if got := view.Status(b.current().send.Rules[i], i); got.State != want {
			t.Errorf("rule %s is %s (%s), want %s", got.Name, got.State, got.Reason, want)
		}
	}
	s := Status{Broker: b.brokerStatus(state)}
	if s.Broker.Subscriptions != 2 || len(s.Broker.Refused) != 1 || s.Broker.Unanswered != 1 {
		t.Errorf("%+v, want 2 granted, 1 refused and 1 unanswered", s.Broker)
	}
	want := "subscriptions: pending: the broker has not confirmed 1 subscriptions yet; rule refused: pending: no subscription to a/#: refused by the broker; " +
		"rule lowered: degraded: the subscription to b is granted with QoS 0, asked for 1"
	var got []string
	b.conditions(b.current().overview(s.Broker, state, time.Now()), func(c Condition) { got = append(got, c.String()) })
	if strings.Join(got, "; ") != want {
		t.Errorf("conditions %q", got)
	}
}

// The whole bridge but for its sockets, with a broker.
func TestRunSendsWhatItTookBeforeItEnds(t *testing.T) {
	server, err := demobroker.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	o := b.options
	o.Session.URLs, o.Session.Protocol = []string{server.URL()}, session.ProtocolAuto
	if b, err = New(o); err != nil {
		t.Fatal(err)
	}
	backend, err := session.New(session.Options{URLs: []string{server.URL()}, Protocol: session.ProtocolAuto, Clean: true, Handle: func([]session.Message) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ran, published := make(chan error, 1), make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	go func() { published <- backend.Run(ctx) }()
	fake.WaitFor(t, "the bridge and the backend", func() bool { return b.Status().Ready && backend.State().Connected })
	s := n.LastSocket()
	s.Allow(0, nil)
	<-s.Free
	if err := backend.Publish(ctx, "t", []byte("waits"), 1, false); err != nil {
		t.Fatal(err)
	}
	fake.WaitFor(t, "the message to wait", func() bool { return b.Status().Queue.Messages == 1 })
	end()
	select {
	case err := <-ran:
		t.Fatalf("ended (%v) while a datagram waits for a busy socket", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.Allow(1, nil)
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if got := s.Took(); len(got) != 1 || !s.Closed {
		t.Errorf("sent %q, socket closed: %v", got, s.Closed)
	}
	<-published
}

// hangingLog hangs once, where the send path asks for the level.
type hangingLog struct {
	slog.Handler
	armed   atomic.Bool
	release chan struct{}
}

func (h *hangingLog) Enabled(_ context.Context, l slog.Level) bool {
	if l == slog.LevelDebug && h.armed.CompareAndSwap(true, false) {
		<-h.release
	}
	return false
}

func TestABridgeThatHangsIsNotAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		hang := &hangingLog{Handler: slog.DiscardHandler}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Logger: slog.New(hang)}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
		ctx, stop := context.WithCancel(context.Background())
		var ended sync.WaitGroup
		ended.Go(func() { b.watch(ctx) })
		time.Sleep(10 * stallTimeout)
		if !b.Alive() {
			t.Error("taken for dead while it works")
		}
		release := make(chan struct{})
		hang.release = release
		hang.armed.Store(true)
		ended.Go(func() { b.send.Handle([]session.Message{fake.Message("t", "x", 1)}) })
		time.Sleep(2 * stallTimeout)
		if b.Alive() {
			t.Error("taken for alive while the send path hangs")
		}
		close(release)
		time.Sleep(2 * countEvery)
		if !b.Alive() {
			t.Error("taken for dead after it went on")
		}
		stop()
		ended.Wait()
	})
}

// Behind a firewall that drops what comes in, each self-test waits for what never comes.
func TestABridgeLivesWhileThousandsOfBindingsTestThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		var rules []mapping.SendRule
		for i := range 5000 {
			r := fake.SendRule(t, fmt.Sprintf("r%d", i), fmt.Sprintf("t/%d", i), "239.1.1.1:5000")
			r.Binding.SourcePort = uint16(1024 + i)
			rules = append(rules, r)
		}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, rules, nil)
		n.ProbeTakes = 300 * time.Millisecond
		n.Set()
		b.reconcile(t.Context())
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { b.watch(ctx) })
		n.Set(fake.Iso0)
		looked := make(chan struct{})
		ended.Go(func() {
			b.reconcile(ctx)
			close(looked)
		})
		for i := 0; ; i++ {
			select {
			case <-looked:
				if i < 30 {
					t.Errorf("the look took %d s: this test is to take longer than the watchdog waits", i)
				}
				stop()
				ended.Wait()
				return
			case <-time.After(time.Second):
				if !b.Alive() {
					t.Fatalf("taken for dead after %d s of self-tests", i)
				}
			}
		}
	})
}

func TestALookThatHangsIsNoLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{ProbeTakes: 2 * stallTimeout}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { b.watch(ctx) })
		n.Set(fake.Iso0)
		ended.Go(func() { b.reconcile(ctx) })
		time.Sleep(stallTimeout - countEvery)
		if !b.Alive() {
			t.Error("taken for dead too early")
		}
		time.Sleep(4 * countEvery)
		if b.Alive() {
			t.Error("taken for alive while a look hangs")
		}
		stop()
		ended.Wait()
	})
}

// What waits for a socket is sent by a goroutine that nobody else waits for.
func TestASendThatHangsIsNoLifeAndTheStatusSaysIt(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	var armed atomic.Bool
	hangs, release := make(chan struct{}), make(chan struct{})
	s := n.LastSocket()
	s.OnSend = func() {
		if armed.CompareAndSwap(true, false) {
			close(hangs)
			<-release
		}
	}
	waits := make(chan struct{}, 1)
	s.OnWait = func() {
		select {
		case waits <- struct{}{}:
		default:
		}
	}
	s.Allow(0, nil)
	<-s.Free
	b.send.Handle([]session.Message{fake.Message("t", "x", 1)})
	<-waits // else a call that has begun may find room, and not hang
	armed.Store(true)
	s.Allow(9, nil)
	<-hangs
	now := time.Now()
	b.updateHeartbeat(now)
	if !b.alive(now.Add(stallTimeout - time.Second)) {
		t.Error("taken for dead too early")
	}
	b.reconcile(t.Context())
	if r := b.Status().Rules[0]; r.State != account.StateDegraded || !strings.Contains(r.Reason, "iso0") {
		t.Errorf("the rule is %s (%s)", r.State, r.Reason)
	}
	b.reconcile(t.Context())
	now = now.Add(stallTimeout)
	b.updateHeartbeat(now)
	if b.alive(now) {
		t.Error("taken for alive while a send hangs")
	}
	close(release)
	fake.WaitFor(t, "the send to return", func() bool { return !b.send.Hangs() })
	b.updateHeartbeat(now)
	if !b.alive(now) {
		t.Error("taken for dead after it went on")
	}
}
