package bridge

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/broker"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
)

func TestTheEndWaitsForABusySocketButNotForEver(t *testing.T) {
	for name, c := range map[string]struct {
		heals bool
		takes time.Duration
	}{
		"the socket has room again": {true, time.Second},
		"it never has":              {false, stopTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
				b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
				s := n.socket()
				s.allow(0, nil)
				<-s.free
				b.send.handle([]session.Message{message("t", "1", 0), message("t", "2", 1)})
				began := time.Now()
				if c.heals {
					time.AfterFunc(time.Second, func() { s.allow(2, nil) })
				}
				b.emptied(context.Background())
				if took := time.Since(began).Round(10 * time.Millisecond); took != c.takes {
					t.Errorf("took %v, want %v", took, c.takes)
				}
				if c.heals && len(s.took()) != 2 {
					t.Errorf("sent %q", s.took())
				}
			})
		})
	}
}

func TestTheEndDoesNotWaitForASourceThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBridge(t, &fakeNetwork{}, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
		b.send.handle([]session.Message{message("t", "1", 1)})
		began := time.Now()
		b.emptied(context.Background())
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestSubscriptionsInTroubleShowInTheirRules(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "refused", "a/b", "239.1.1.1:5000"), rule(t, "lowered", "b", "239.1.1.1:5000"), rule(t, "well", "c", "239.1.1.1:5000"))
	state := session.State{Connected: true, Active: 2, Unanswered: 1, Troubled: []session.SubscriptionState{
		{Subscription: session.Subscription{Filter: "a/#", QoS: 1}, Err: "refused"},
		{Subscription: session.Subscription{Filter: "b", QoS: 1}, Active: true, Granted: 0, Err: "granted with QoS 0, asked for 1"},
	}}
	refused, lowered := troubled(state.Troubled)
	for i, want := range []State{StatePending, StateDegraded, StateUp} {
		if got := b.parts().sends[i].status(b.parts().describeBindings()[b.parts().sends[i].binding], refused, lowered); got.State != want {
			t.Errorf("rule %s is %s (%s), want %s", got.Name, got.State, got.Reason, want)
		}
	}
	s := Status{Broker: b.brokerStatus(state)}
	if s.Broker.Subscriptions != 2 || len(s.Broker.Refused) != 1 || s.Broker.Unanswered != 1 {
		t.Errorf("%+v, want 2 granted, 1 refused and 1 unanswered", s.Broker)
	}
	if got := strings.Join(b.waiting(s.Broker, state), "; "); got != "rule refused is pending: the broker refuses the subscription to a/#; the broker has not confirmed 1 subscriptions yet" {
		t.Errorf("waiting for %q", got)
	}
}

// The whole bridge but for its sockets, with a broker.
func TestRunSendsWhatItTookBeforeItEnds(t *testing.T) {
	server, err := broker.Start(broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	o := b.options
	o.Session.URLs = []string{server.URL()}
	if b, err = New(o); err != nil {
		t.Fatal(err)
	}
	backend, err := session.New(session.Options{URLs: []string{server.URL()}, Clean: true, Handle: func([]session.Message) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ran, published := make(chan error, 1), make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	go func() { published <- backend.Run(ctx) }()
	waitFor(t, "the bridge and the backend", func() bool { return b.Status().Ready && backend.State().Connected })
	s := n.socket()
	s.allow(0, nil)
	<-s.free
	if err := backend.Publish(ctx, "t", []byte("waits"), 1, false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the message to wait", func() bool { return b.Status().Queue.Messages == 1 })
	end()
	select {
	case err := <-ran:
		t.Fatalf("ended (%v) while a datagram waits for a busy socket", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.allow(1, nil)
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if got := s.took(); len(got) != 1 || !s.closed {
		t.Errorf("sent %q, socket closed: %v", got, s.closed)
	}
	<-published
}

func TestABridgeThatHangsIsNotAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
		b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
		ctx, stop := context.WithCancel(context.Background())
		var ended sync.WaitGroup
		ended.Go(func() { b.watch(ctx) })
		time.Sleep(10 * lifeless)
		if !b.Alive() {
			t.Error("taken for dead while it works")
		}
		release := make(chan struct{})
		ended.Go(func() { // as a send that never returns
			b.send.mu.Lock()
			<-release
			b.send.mu.Unlock()
		})
		time.Sleep(2 * lifeless)
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
