package bridge

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// also is an interface with an alternative name, and a label for its address.
func also(i multicast.Interface, name, label string) multicast.Interface {
	i.AltNames = []string{name}
	i.Addresses = slices.Clone(i.Addresses)
	i.Addresses[0].Label = label
	return i
}

func onInterface(name string) func(*mapping.ReceiveRule) {
	return func(r *mapping.ReceiveRule) { r.Interface = name }
}

// A topic has the name that the rule has, so that it does not depend on how the
// kernel calls the interface at this start; for want of a name it has the kernel's.
func TestTheInterfaceOfATopicIsCalledAsInTheRule(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "a", "239.1.1.1:5000", "{interface}"),
		fake.ReceiveRule(t, "b", "239.1.1.2:5000", "{interface}", onInterface("enp3s0")),
		fake.ReceiveRule(t, "c", "239.1.1.3:5000", "{interface}", onInterface("iso0:1")),
		fake.ReceiveRule(t, "d", "239.1.1.4:5000", "{interface}", onInterface("172.17.0.1")),
	}
	got := bridgeReceiving(t, Options{}, nil, rules, func(b *Bridge, n *fake.Network) {
		n.Set(also(fake.Iso0, "enp3s0", "iso0:1"))
		b.reconcile(t.Context())
		for _, g := range []string{"239.1.1.1:5000", "239.1.1.2:5000", "239.1.1.3:5000", "239.1.1.4:5000"} {
			n.At(g, "iso0").Hear(fake.Device, "x")
			synctest.Wait()
		}
	})
	if d := cmp.Diff([]string{"iso0 x", "enp3s0 x", "iso0:1 x", "iso0 x"}, got); d != "" {
		t.Error(d)
	}
}

// An alternative name that comes while the bridge runs may close a cycle: from then
// on the loop guard is at work, and when the name has gone it is not.
func TestTheLoopGuardFollowsTheNamesOfInterfaces(t *testing.T) {
	send := []mapping.SendRule{fake.SendRule(t, "s", "in/+", "239.1.1.1:5000")}
	receive := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "in/{source}", onInterface("enp3s0"))}
	bridgeReceiving(t, Options{Loops: guardedLoops}, send, receive, func(b *Bridge, n *fake.Network) {
		guardedNow := func() bool {
			g := b.current()
			return g.receive.Rules[0].CanCount(account.ReasonLoop) && g.send.Rules[0].CanCount(account.ReasonLoop)
		}
		look := func(i multicast.Interface) {
			n.Set(i)
			b.reconcile(t.Context())
			b.followHost(t.Context())
		}
		if guardedNow() {
			t.Error("guarded before there is such a name")
		}
		look(also(fake.Iso0, "enp3s0", ""))
		if !guardedNow() || n.At("239.1.1.1:5000", "iso0") == nil {
			t.Error("not guarded, or not joined, when there is")
		}
		again := b.current()
		look(also(fake.Iso0, "enp3s0", "iso0:1"))
		if b.current() != again {
			t.Error("a name that no rule uses has made other parts")
		}
		b.reload(t, send, receive)
		if !guardedNow() {
			t.Error("not guarded after a reload")
		}
		look(fake.Iso0)
		if guardedNow() || n.At("239.1.1.1:5000", "iso0") != nil {
			t.Error("guarded, or joined, after the name has gone")
		}
	})
}
