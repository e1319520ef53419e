package send_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestARuleWaitsForItsInterfaceAndGoesOnByItself(t *testing.T) {
	n := &fake.Network{}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	s := b.Status()
	if s.Rules[0].State != account.StatePending || !strings.Contains(s.Rules[0].Reason, "iso0") {
		t.Fatalf("rule is %s (%s), want pending for want of iso0", s.Rules[0].State, s.Rules[0].Reason)
	}
	batch := []session.Message{fake.Message("t", "1", 1), fake.Message("t", "2", 0), fake.Message("t", "3", 1)}
	b.send.Handle(batch)
	if !batch[0].Hold || batch[1].Hold || !batch[2].Hold {
		t.Error("QoS 1 is to be held until it can leave, QoS 0 is not")
	}
	if got := b.Status().Rules[0].Drops; got["pending"] != 1 {
		t.Errorf("drops %v, want the QoS 0 message: it would be late by then", got)
	}
	a := b.acks()
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	if diff := cmp.Diff([]string{"1", "3"}, a.wait(2)); diff != "" {
		t.Errorf("acknowledged (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"239.1.1.1:5000 1", "239.1.1.1:5000 3"}, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := b.Status().Rules[0]; got.State != account.StateUp || got.Source != "172.17.0.1:40000" || got.Interface != "iso0" {
		t.Errorf("rule is %+v", got)
	}
}

func TestRulesWithEqualBindingsShareOneSocket(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	var rules []mapping.SendRule
	for i := range 100 {
		rules = append(rules, fake.SendRule(t, fmt.Sprint(i), fmt.Sprint("t/", i), fmt.Sprintf("239.1.1.%d:5000", i)))
	}
	newRig(t, n, fake.Plenty, rules...)
	if len(n.Sockets) != 1 {
		t.Errorf("%d sockets for one source", len(n.Sockets))
	}
}

func TestARewrittenSourceIsNotUsed(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{
		Result: multicast.ProbeRewritten, Wanted: netip.MustParseAddrPort("172.17.0.1:40000"),
		Seen: netip.MustParseAddrPort("10.0.0.2:40000"), Detail: "a NAT rule of this host rewrites 172.17.0.1 to 10.0.0.2"}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	b.send.Handle([]session.Message{fake.Message("t", "x", 1)})
	if got := n.LastSocket().Took(); got != nil || !n.LastSocket().Closed {
		t.Fatalf("sent %q from a source that is rewritten", got)
	}
	if got := b.Status().Rules[0]; got.State != account.StatePending || got.Reason != n.Probe.Detail || got.SelfTest.Result != "rewritten" {
		t.Errorf("rule is %+v", got)
	}
	n.Probe = multicast.Probe{Result: multicast.ProbeVerified}
	b.reconcile(context.Background())
	fake.WaitFor(t, "the message to leave once the rule is gone", func() bool { return len(n.LastSocket().Took()) == 1 })
}

func TestTheSocketFollowsTheInterface(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	b.reconcile(context.Background())
	if len(n.Sockets) != 1 {
		t.Fatalf("an unchanged interface cost %d sockets", len(n.Sockets))
	}
	first := n.LastSocket()
	n.Set(fake.Interface("iso0", 9, "172.17.0.1/16")) // recreated: another index
	b.reconcile(context.Background())
	if !first.Closed || n.LastSocket().Src.Index != 9 {
		t.Errorf("socket of index 3 closed: %v; now on index %d, want 9", first.Closed, n.LastSocket().Src.Index)
	}
	n.Set(fake.Interface("iso0", 9, "172.17.0.9/16")) // the address went
	b.reconcile(context.Background())
	if !n.LastSocket().Closed || b.Status().Rules[0].State != account.StatePending {
		t.Error("still sending from an address that is no longer there")
	}
}

func TestASendThatFindsTheSourceGoneMakesTheBindingPendingAndItHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		n.LastSocket().Allow(1, fmt.Errorf("network is unreachable: %w", multicast.ErrPending))
		batch := []session.Message{fake.Message("t", "1", 1), fake.Message("t", "2", 1)}
		b.send.Handle(batch)
		if !n.LastSocket().Closed || b.Status().Rules[0].State != account.StatePending {
			t.Fatal("the binding is not pending")
		}
		if len(b.changed) != 1 {
			t.Error("nobody was told to look at the interfaces now")
		}
		if batch[0].Hold || !batch[1].Hold {
			t.Error("1 left and is done, 2 is to be held")
		}
		b.reconcile(context.Background())
		if len(n.Sockets) != 1 {
			t.Fatal("reopened at once: a socket that cannot send would be opened and tested without end")
		}
		time.Sleep(send.ReopenPause)
		b.reconcile(context.Background())
		fake.WaitFor(t, "the datagram that waited", func() bool { return len(n.LastSocket().Took()) == 1 })
	})
}

func TestWhatStillWaitsAtTheEndIsCountedOrLeftToTheBroker(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	b.send.Handle([]session.Message{fake.Message("t", "1", 0), fake.Message("t", "2", 1)})
	a := b.acks()
	b.send.Stop(t.Context())
	if got := b.Status(); got.Rules[0].Drops["stopped"] != 1 || got.Queue.Messages != 0 {
		t.Errorf("drops %v, queue %+v", got.Rules[0].Drops, got.Queue)
	}
	if len(a.list()) != 0 {
		t.Error("a message that did not leave was acknowledged")
	}
}

func TestAFirewallThatRefusesTheProbeDegradesTheRule(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{Result: multicast.ProbeRefused, Detail: "a firewall"}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	if got := b.Status().Rules[0]; got.State != account.StateDegraded || got.Reason != "a firewall" {
		t.Errorf("rule is %s (%s)", got.State, got.Reason)
	}
}

// The self-test is repeated while it is refused: the rule is well again when the firewall is, and pending if what
// the test shows then is another source.
func TestARefusedSelfTestIsRepeated(t *testing.T) {
	refused := multicast.Probe{Result: multicast.ProbeRefused, Detail: "a firewall"}
	for name, tt := range map[string]struct {
		then   multicast.Probe
		state  account.State
		reason string
		result multicast.ProbeResult
	}{
		"lets pass":        {multicast.Probe{Result: multicast.ProbeVerified}, account.StateUp, "", multicast.ProbeVerified},
		"cannot be tested": {multicast.Probe{Result: multicast.ProbeSkipped}, account.StateDegraded, "a firewall", multicast.ProbeRefused},
		"rewrites":         {multicast.Probe{Result: multicast.ProbeRewritten, Detail: "another source"}, account.StatePending, "another source", multicast.ProbeRewritten},
	} {
		t.Run(name, func(t *testing.T) {
			n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: refused}
			b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
			b.reconcile(t.Context())
			s := n.LastSocket()
			if got := b.Status().Rules[0]; got.State != account.StateDegraded {
				t.Fatalf("the rule is %s (%s)", got.State, got.Reason)
			}
			n.Probe = tt.then
			b.reconcile(t.Context())
			if got := b.Status().Rules[0]; got.State != tt.state || got.Reason != tt.reason || got.SelfTest.Result != tt.result.String() {
				t.Errorf("the rule is %s (%s), its self-test %v", got.State, got.Reason, got.SelfTest)
			}
			if closed := tt.state == account.StatePending; s.Closed != closed || n.LastSocket() != s {
				t.Errorf("the socket is closed: %t", s.Closed)
			}
			n.Probe = refused // one that has passed is not repeated
			b.reconcile(t.Context())
			if got := b.Status().Rules[0]; tt.state == account.StateUp && got.State != tt.state {
				t.Errorf("the rule is %s (%s)", got.State, got.Reason)
			}
		})
	}
}

// Where datagrams leave, a firewall that refuses the self-test has let them pass.
func TestARuleWhoseDatagramsLeaveIsNotDegradedByItsSelfTest(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{Result: multicast.ProbeRefused, Detail: "a firewall"}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	n.LastSocket().Reject = map[string]error{"refused": syscall.EPERM}
	b.send.Handle([]session.Message{fake.Message("t", "refused", 0)})
	if got := b.Status().Rules[0]; got.State != account.StateDegraded {
		t.Errorf("after one that is refused too the rule is %s (%s)", got.State, got.Reason)
	}
	b.send.Handle([]session.Message{fake.Message("t", "on", 0)})
	if got := b.Status().Rules[0]; got.State != account.StateUp || got.Reason != "" || got.SelfTest.Result != multicast.ProbeRefused.String() {
		t.Errorf("the rule is %s (%s), its self-test %v", got.State, got.Reason, got.SelfTest)
	}
}
