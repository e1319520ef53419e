package bridge

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// switchTo disables or enables a rule.
func (b *Bridge) switchTo(t testing.TB, on bool, name string) []string {
	t.Helper()
	do := b.Disable
	if on {
		do = b.Enable
	}
	rules, err := do(name, "the operator")
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestADisabledSendRuleSendsNothingAndOthersDoNotNotice(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	one, two := fake.SendRule(t, "one", "a/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "two", "b", "239.1.1.1:5000")
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{one, two}, nil)
	send := func(payload string) {
		t.Helper()
		batch := []session.Message{fake.Message("a/7", payload, 1), fake.Message("b", payload, 1)}
		b.send.Handle(batch)
		if batch[0].Hold || batch[1].Hold {
			t.Errorf("%s is not acknowledged", payload)
		}
	}
	send("1")
	before := time.Now()
	if got := b.switchTo(t, false, "one"); fmt.Sprint(got) != "[one]" {
		t.Errorf("%q", got)
	}
	send("2")
	s := b.Status()
	if r := s.Rules[0]; r.State != "disabled" || !strings.Contains(r.Reason, "disabled by the operator") || r.Since.Before(before) || r.Filtered["disabled"] != 1 || len(r.Drops) > 0 || r.Received != 2 || r.Sent != 1 {
		t.Errorf("%+v", r)
	}
	if s.Summary.Disabled != 1 || len(s.Conditions) > 1 || s.Rules[1].State != "up" { // there is no broker
		t.Errorf("%+v, %+v", s.Summary, s.Conditions)
	}
	if narrowed := b.StatusOf(Query{State: "disabled"}); len(narrowed.Rules) != 1 || narrowed.Rules[0].Name != "one" {
		t.Errorf("%+v", narrowed.Rules)
	}
	if sockets, _, inUse := n.Opened(); sockets != 1 || inUse != 1 {
		t.Errorf("%d sockets opened, %d in use", sockets, inUse)
	}
	// A reload leaves it as it is, and what was done twice is said.
	b.reload(t, []mapping.SendRule{two, one}, nil)
	send("3")
	for _, c := range []struct {
		on         bool
		name, want string
	}{
		{false, "one", `the rule "one" is disabled already, by the operator since `}, {true, "two", `the rule "two" is not disabled`}, {true, "onee", `there is no rule "onee"; did you mean "one"?`},
	} {
		do := b.Disable
		if c.on {
			do = b.Enable
		}
		if _, err := do(c.name, ""); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if got := b.switchTo(t, true, "one"); fmt.Sprint(got) != "[one]" {
		t.Errorf("%q", got)
	}
	send("4")
	if got := n.Payloads(); got != "1,1,2,3,4,4" {
		t.Errorf("%s", got)
	}
	if r := b.Status().Rules[1]; r.State != "up" || r.Filtered["disabled"] != 2 {
		t.Errorf("%+v", r)
	}
	// One that a reload has removed works if it comes again.
	b.switchTo(t, false, "one")
	b.reload(t, []mapping.SendRule{two}, nil)
	b.reload(t, []mapping.SendRule{two, one}, nil)
	if r := b.Status().Rules[1]; r.State != "up" {
		t.Errorf("%+v", r)
	}
}

// What waits for a disabled rule stays, in memory and on disk, over a reload too, and is sent in its
// order when the rule is enabled.
func TestWhatWaitsForADisabledRuleStays(t *testing.T) {
	for _, disk := range []bool{false, true} {
		for _, on := range []mapping.OnDown{mapping.OnDownSpool, mapping.OnDownLatest} {
			t.Run(fmt.Sprint(disk, on), func(t *testing.T) {
				n := &fake.Network{}
				rule := fake.SendRule(t, "one", "a/{id}", "239.1.1.{id}:5000", fake.OnDown(on))
				o := Options{QueueSize: fake.Plenty}
				if disk {
					o.Spool.On = fake.OpenSpool(t, t.TempDir(), 1<<20)
				}
				b := newTestBridgeOf(t, n, o, []mapping.SendRule{rule}, nil)
				b.send.Handle([]session.Message{fake.Message("a/1", "1", 1), fake.Message("a/2", "2", 1), fake.Message("a/3", "3", 1)})
				waits := func() int {
					r := b.Status().Rules[0]
					return r.WaitingMemory + r.WaitingDisk
				}
				b.switchTo(t, false, "one")
				n.Set(fake.Iso0)
				b.reconcile(t.Context())
				b.send.Handle([]session.Message{fake.Message("a/4", "lost on purpose", 1)})
				b.reload(t, []mapping.SendRule{rule}, nil)
				if r := b.Status().Rules[0]; waits() != 3 || len(r.Drops) > 0 || n.Payloads() != "" || r.State != "disabled" {
					t.Errorf("%+v, sent %q", r, n.Payloads())
				}
				b.switchTo(t, true, "one")
				fake.WaitFor(t, "what waited leaves", func() bool { return waits() == 0 })
				if got := n.Payloads(); got != "1,2,3" {
					t.Errorf("%s", got)
				}
				if r := b.Status().Rules[0]; len(r.Drops) > 0 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestADisabledRuleRefreshesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "one", "a", "239.1.1.1:5000", func(r *mapping.SendRule) { r.Refresh = time.Second }))
		b.send.Handle([]session.Message{fake.Message("a", "1", 1)})
		time.Sleep(3 * time.Second)
		b.switchTo(t, false, "one")
		before := n.Payloads()
		time.Sleep(10 * time.Second)
		b.switchTo(t, true, "one") // and then it is old
		time.Sleep(10 * time.Second)
		if got := n.Payloads(); got != before || !strings.HasPrefix(before, "1,1,1") {
			t.Errorf("%q, before it was disabled %q", got, before)
		}
	})
}

func TestADisabledReceiveRuleLeavesItsGroups(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	one := fake.ReceiveRule(t, "one", "239.2.1.1:5000", "one", func(r *mapping.ReceiveRule) { r.Expect = time.Hour })
	both := fake.ReceiveRule(t, "both", "239.2.1.1-239.2.1.2:5000", "both")
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{one, both})
	n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "1")
	publisherOf(b).Await(t, 2)
	b.switchTo(t, false, "both")
	if _, _, inUse := n.Opened(); inUse != 1 {
		t.Errorf("%d in use, and the group of the other is one", inUse)
	}
	n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "2")
	publisherOf(b).Await(t, 3)
	b.switchTo(t, false, "one")
	s := b.Status()
	if _, _, inUse := n.Opened(); inUse != 0 || s.Receive[0].State != "disabled" || s.Receive[1].State != "disabled" || s.Receive[0].Since.IsZero() || s.Summary.Disabled != 2 || len(s.Conditions) > 1 {
		t.Errorf("%d in use, %+v", inUse, s.Receive)
	}
	b.receive.WatchSilence(time.Now())
	if _, err := b.receive.JoinAnew("one"); err == nil || !strings.Contains(err.Error(), `"one" is disabled`) {
		t.Error(err)
	}
	b.switchTo(t, true, "both")
	n.At("239.2.1.2:5000", "iso0").Hear(fake.Device, "3")
	publisherOf(b).Await(t, 4)
	if got, want := fmt.Sprint(publisherOf(b).Published()), "[one 1 both 1 one 2 both 3]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if s := b.Status(); s.Receive[1].State != "up" || s.Receive[0].State != "disabled" {
		t.Errorf("%+v", s.Receive)
	}
}

// A bridge that takes messages from others of a shared subscription, and then drops them, would be a loss.
func TestADisabledRuleTakesNothingOfASharedSubscription(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	shared := func(r *mapping.SendRule) { r.Share = "gateways" }
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "one", "a/#", "239.1.1.1:5000", shared), fake.SendRule(t, "two", "b/#", "239.1.1.1:5000", shared), fake.SendRule(t, "three", "c/#", "239.1.1.1:5000"))
	filters := func() (all []string) {
		b.reloadMu.Lock()
		defer b.reloadMu.Unlock()
		for _, s := range b.subscriptions(b.current().table) {
			all = append(all, s.Filter)
		}
		return all
	}
	b.switchTo(t, false, "one")
	b.switchTo(t, false, "three")
	if got := fmt.Sprint(filters()); got != "[$share/gateways/b/# c/#]" {
		t.Errorf("%s", got)
	}
	b.switchTo(t, true, "one")
	if got := fmt.Sprint(filters()); got != "[$share/gateways/a/# $share/gateways/b/# c/#]" {
		t.Errorf("%s", got)
	}
}
