package bridge

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// waitFor waits until a state is reached.
func waitFor(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestARuleWaitsForItsInterfaceAndGoesOnByItself(t *testing.T) {
	n := &fakeNetwork{}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	s := b.Status()
	if s.Rules[0].State != StatePending || !strings.Contains(s.Rules[0].Reason, "iso0") {
		t.Fatalf("rule is %s (%s), want pending for want of iso0", s.Rules[0].State, s.Rules[0].Reason)
	}
	if s.Ready || !strings.Contains(strings.Join(s.Waiting, "\n"), "rule r is pending") {
		t.Errorf("ready=%v waiting=%q", s.Ready, s.Waiting)
	}
	batch := []session.Message{message("t", "1", 1), message("t", "2", 0), message("t", "3", 1)}
	b.send.handle(batch)
	if !batch[0].Hold || batch[1].Hold || !batch[2].Hold {
		t.Error("QoS 1 is to be held until it can leave, QoS 0 is not")
	}
	if got := b.Status().Rules[0].Drops; got["pending"] != 1 {
		t.Errorf("drops %v, want the QoS 0 message: it would be late by then", got)
	}
	a := newAcked()
	a.watch(b.parts().bindings[0])
	n.set(iso0)
	b.refresh(context.Background())
	if diff := cmp.Diff([]string{"1", "3"}, a.wait(2)); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"239.1.1.1:5000 1", "239.1.1.1:5000 3"}, n.socket().took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0]; got.State != StateUp || got.Source != "172.17.0.1:40000" || got.Interface != "iso0" {
		t.Errorf("rule is %+v", got)
	}
}

func TestRulesWithEqualBindingsShareOneSocket(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	var rules []mapping.SendRule
	for i := range 100 {
		rules = append(rules, rule(t, fmt.Sprint(i), fmt.Sprint("t/", i), fmt.Sprintf("239.1.1.%d:5000", i)))
	}
	newTestBridge(t, n, plenty, rules...)
	if len(n.sockets) != 1 {
		t.Errorf("%d sockets for one source", len(n.sockets))
	}
}

func TestARewrittenSourceIsNotUsed(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}, probe: multicast.Probe{
		Result: multicast.ProbeRewritten, Wanted: netip.MustParseAddrPort("172.17.0.1:40000"),
		Seen: netip.MustParseAddrPort("10.0.0.2:40000"), Detail: "a NAT rule of this host rewrites 172.17.0.1 to 10.0.0.2"}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	b.send.handle([]session.Message{message("t", "x", 1)})
	if got := n.socket().took(); got != nil || !n.socket().closed {
		t.Fatalf("sent %q from a source that is rewritten", got)
	}
	if got := b.Status().Rules[0]; got.State != StatePending || got.Reason != n.probe.Detail || got.SelfTest.Result != "rewritten" {
		t.Errorf("rule is %+v", got)
	}
	n.probe = multicast.Probe{Result: multicast.ProbeVerified}
	b.refresh(context.Background())
	waitFor(t, "the message to leave once the rule is gone", func() bool { return len(n.socket().took()) == 1 })
}

func TestTheSocketFollowsTheInterface(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	b.refresh(context.Background())
	if len(n.sockets) != 1 {
		t.Fatalf("an unchanged interface cost %d sockets", len(n.sockets))
	}
	first := n.socket()
	n.set(iface("iso0", 9, "172.17.0.1/16")) // recreated: another index
	b.refresh(context.Background())
	if !first.closed || n.socket().src.Index != 9 {
		t.Errorf("socket of index 3 closed: %v; now on index %d, want 9", first.closed, n.socket().src.Index)
	}
	n.set(iface("iso0", 9, "172.17.0.9/16")) // the address went
	b.refresh(context.Background())
	if !n.socket().closed || b.Status().Rules[0].State != StatePending {
		t.Error("still sending from an address that is no longer there")
	}
}

func TestASendThatFindsTheSourceGoneMakesTheBindingPendingAndItHeals(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	n.socket().allow(1, fmt.Errorf("network is unreachable: %w", multicast.ErrPending))
	batch := []session.Message{message("t", "1", 1), message("t", "2", 1)}
	b.send.handle(batch)
	if !n.socket().closed || b.Status().Rules[0].State != StatePending {
		t.Fatal("the binding is not pending")
	}
	if len(b.changed) != 1 {
		t.Error("nobody was told to look at the interfaces now")
	}
	if batch[0].Hold || !batch[1].Hold {
		t.Error("1 left and is done, 2 is to be held")
	}
	b.refresh(context.Background())
	if len(n.sockets) != 1 {
		t.Fatal("reopened at once: a socket that cannot send would be opened and tested without end")
	}
	b.parts().bindings[0].rest = time.Time{}
	b.refresh(context.Background())
	waitFor(t, "the datagram that waited", func() bool { return len(n.socket().took()) == 1 })
}

func TestADatagramTheKernelHasNoRoomForIsRetriedThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
		b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
		s := n.socket()
		s.allow(0, multicast.ErrNoBuffer)
		b.send.handle([]session.Message{message("t", "1", 1), message("t", "2", 1)})
		time.Sleep(bufferPatience / 2)
		if got := b.Status(); got.Queue.Messages != 2 {
			t.Fatalf("%d wait after half the patience, want 2", got.Queue.Messages)
		}
		time.Sleep(bufferPatience)
		s.allow(5, nil)
		time.Sleep(10 * bufferPause)
		if diff := cmp.Diff([]string{"239.1.1.1:5000 2"}, s.took()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if got := b.Status().Rules[0].Drops; got["no_buffer"] != 1 {
			t.Errorf("drops %v, want one no_buffer", got)
		}
	})
}

func TestWhatStillWaitsAtTheEndIsCountedOrLeftToTheBroker(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	n.socket().allow(0, nil)
	<-n.socket().free
	b.send.handle([]session.Message{message("t", "1", 0), message("t", "2", 1)})
	a := newAcked()
	a.watch(b.parts().bindings[0])
	b.parts().bindings[0].stop()
	if got := b.Status(); got.Rules[0].Drops["stopped"] != 1 || got.Queue.Messages != 0 {
		t.Errorf("drops %v, queue %+v", got.Rules[0].Drops, got.Queue)
	}
	if len(a.some) != 0 {
		t.Error("a message that did not leave was acknowledged")
	}
}

func TestOneTroubleOfManyRulesIsOneSentence(t *testing.T) {
	n := &fakeNetwork{}
	var rules []mapping.SendRule
	for i := range 50 {
		rules = append(rules, rule(t, fmt.Sprint(i), fmt.Sprint("t/", i), "239.1.1.1:5000"))
	}
	b := newTestBridge(t, n, plenty, rules...)
	got := b.Status().Waiting
	if len(got) != 2 || !strings.HasPrefix(got[1], "50 rules are pending: ") {
		t.Errorf("waiting for %q, want the broker, and 50 rules in one sentence", got)
	}
}

func TestAFirewallThatRefusesTheProbeDegradesTheRule(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}, probe: multicast.Probe{Result: multicast.ProbeRefused, Detail: "a firewall"}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	if got := b.Status().Rules[0]; got.State != StateDegraded || got.Reason != "a firewall" {
		t.Errorf("rule is %s (%s)", got.State, got.Reason)
	}
}

func TestAnotherDatagramHasItsOwnPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
		b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
		s := n.socket()
		s.allow(0, multicast.ErrNoBuffer)
		b.send.handle([]session.Message{message("t", "1", 1), message("t", "2", 1)})
		time.Sleep(bufferPatience * 6 / 10)
		s.allow(1, multicast.ErrNoBuffer)
		time.Sleep(bufferPatience * 6 / 10)
		if got := b.Status(); got.Queue.Messages != 1 || got.Rules[0].Drops != nil {
			t.Errorf("%d wait, drops %v: the second was given up early", got.Queue.Messages, got.Rules[0].Drops)
		}
		s.allow(1, nil)
	})
}

func TestTheInterfacesAreLookedAtOftenOnlyWhileSomethingWaits(t *testing.T) {
	n := &fakeNetwork{}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	if got := b.nextLook(); got != lookPending {
		t.Errorf("next look after %v while pending, want %v", got, lookPending)
	}
	n.set(iso0)
	b.refresh(context.Background())
	if got := b.nextLook(); got != lookSettled {
		t.Errorf("next look after %v while all is well, want %v", got, lookSettled)
	}
}
