package receive_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What waits for the broker goes by what the rule is, not by its name alone: here the names
// of two rules are swapped, one is renamed, and one is removed.
func TestWhatWaitsForTheBrokerFollowsItsRule(t *testing.T) {
	rules := func(one, two string) []mapping.ReceiveRule {
		return []mapping.ReceiveRule{fake.ReceiveRule(t, one, "239.1.1.1:5000", "one"), fake.ReceiveRule(t, two, "239.1.1.2:5000", "two")}
	}
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart=", restart), func(t *testing.T) {
			dir := t.TempDir()
			b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, rules("a", "b")...)
			change := func(rules ...mapping.ReceiveRule) {
				t.Helper()
				if !restart {
					b.reload(t, nil, rules)
					return
				}
				if err := b.options.Spool.On.Close(); err != nil {
					t.Fatal(err)
				}
				b, n, p = spooling(t, dir, 1<<20, rigOptions{}, nil, rules...)
			}
			hear := func(group string, on int, payloads ...string) {
				t.Helper()
				n.At(group, "iso0").Hear(fake.Device, payloads...)
				b.onDisk(t, on)
			}
			hear("239.1.1.1:5000", 2, "1", "2")
			hear("239.1.1.2:5000", 3, "x")
			change(rules("b", "a")...)
			hear("239.1.1.1:5000", 4, "3")
			hear("239.1.1.2:5000", 5, "y")
			change(rules("b", "new")[0])
			change(rules("b", "third")...)
			hear("239.1.1.2:5000", 6, "z")
			b.connect(true)
			var one, two []string
			for _, line := range p.Deliver(t, 6) {
				if line[:3] == "one" {
					one = append(one, line)
				} else {
					two = append(two, line)
				}
			}
			if diff := cmp.Diff([]string{"one 1", "one 2", "one 3"}, one); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"two x", "two y", "two z"}, two); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			b.onDisk(t, 0)
			for _, s := range b.Status().Receive {
				if s.Drops != nil {
					t.Errorf("rule %s: drops %v", s.Name, s.Drops)
				}
			}
		})
	}
}

// What the session had when its rule was renamed is published by it, and not again by the
// rule; and by the next process, should this one be killed.
func TestTheCopiesOfARenamedRuleAreItsOwn(t *testing.T) {
	dir := t.TempDir()
	b, n, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "old", "239.1.1.1:5000", "t"))
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2")
	p.Await(t, 2)
	p.Rescue()
	b.onDisk(t, 2)
	b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "new", "239.1.1.1:5000", "t")})
	if got := b.Status().Receive[0].WaitingDisk; got != 2 {
		t.Errorf("%d on disk by the status of the rule", got)
	}
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "3")
	p.Await(t, 3)
	p.AcknowledgeSome(1)
	b.onDisk(t, 1)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, _, p := spooling(t, dir, 1<<20, rigOptions{}, nil, fake.ReceiveRule(t, "newest", "239.1.1.1:5000", "t"))
	next.connect(true)
	if diff := cmp.Diff([]string{"t 2"}, p.Deliver(t, 1)); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	next.onDisk(t, 0)
}

// What counts in memory is given back, whatever becomes of the names.
func TestTheMemoryOfRulesThatSwapNamesAddsUp(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Iso0)
	rules := func(one, two string) []mapping.ReceiveRule {
		return []mapping.ReceiveRule{fake.ReceiveRule(t, one, "239.1.1.1:5000", "one"), fake.ReceiveRule(t, two, "239.1.1.2:5000", "two")}
	}
	b, n, p := spooling(t, t.TempDir(), 1<<20, rigOptions{}, nil, rules("a", "b")...)
	b.connect(true)
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
	p.Await(t, 1)
	b.reload(t, nil, rules("b", "a"))
	n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, "2", "3")
	p.Await(t, 3)
	b.reload(t, nil, rules("c", "b")[:1])
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "4")
	p.Await(t, 4)
	p.Acknowledge()
	if got := b.budget.Count(); got != 0 || b.budget.Bytes() != 0 {
		t.Errorf("%d messages, %d bytes count as waiting", got, b.budget.Bytes())
	}
	for _, s := range b.Status().Receive {
		if s.WaitingBytes != 0 {
			t.Errorf("rule %s: %d bytes wait", s.Name, s.WaitingBytes)
		}
	}
}

// A source list that changes leaves the group joined, on the socket that has what has come:
// nothing of a source that stays is lost, and whom the rule heard without naming goes on too.
func TestAChangedSourceListKeepsTheSocket(t *testing.T) {
	from := func(name string, sources ...string) mapping.ReceiveRule {
		return fake.ReceiveRule(t, name, "239.1.1.1-239.1.1.2:5000", "t/{source}", func(r *mapping.ReceiveRule) {
			for _, s := range sources {
				r.Sources = append(r.Sources, netip.MustParsePrefix(s))
			}
		})
	}
	n := &fake.Network{}
	n.Set(fake.Iso0)
	b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{from("r", "172.17.0.9/32")})
	heard := 0
	hear := func(payload string) {
		t.Helper()
		heard++
		n.At("239.1.1.2:5000", "iso0").Hear(fake.Device, payload)
		fake.WaitFor(t, payload, func() bool { return len(b.publisher().Published()) == heard })
	}
	for i, rules := range [][]mapping.ReceiveRule{
		{from("r", "172.17.0.9/32", "172.17.0.10/32")}, {from("r")}, {from("other", "172.17.0.9/32")}, {from("other", "172.17.0.0/16")},
	} {
		hear(fmt.Sprint("before ", i))
		b.reload(t, nil, rules)
		hear(fmt.Sprint("after ", i))
		want := rules[0].JoinedSources()
		if got := n.At("239.1.1.2:5000", "iso0").Options.Sources; !slices.Equal(got, want) {
			t.Errorf("joined for %v, want %v", got, want)
		}
	}
	if _, receivers, inUse := n.Opened(); receivers != 2 || inUse != 2 {
		t.Errorf("%d sockets opened, %d in use; want one for each group, for all the time", receivers, inUse)
	}
	// Where the system cannot, another one is opened.
	n.At("239.1.1.2:5000", "iso0").Refuse = errors.ErrUnsupported
	b.reload(t, nil, []mapping.ReceiveRule{from("other", "172.17.0.9/32")})
	hear("anew")
	if _, receivers, inUse := n.Opened(); receivers != 3 || inUse != 2 {
		t.Errorf("%d sockets opened, %d in use; want one more", receivers, inUse)
	}
}

// Two rules that name sources of their own have sockets of their own, also where one of them
// comes to name what the other has named.
func TestSourceListsOfTwoRulesAreNotMixedUp(t *testing.T) {
	from := func(name, source string) mapping.ReceiveRule {
		return fake.ReceiveRule(t, name, "239.1.1.1:5000", name, func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix(source + "/32")}
		})
	}
	n := &fake.Network{}
	n.Set(fake.Iso0)
	b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{from("a", "172.17.0.9"), from("b", "172.17.0.10")})
	b.reload(t, nil, []mapping.ReceiveRule{from("a", "172.17.0.10"), from("b", "172.17.0.11")})
	var joined []string
	for _, r := range n.OpenReceivers() {
		joined = append(joined, r.Options.Sources[0].String())
	}
	slices.Sort(joined)
	if _, receivers, _ := n.Opened(); receivers != 2 || !slices.Equal(joined, []string{"172.17.0.10", "172.17.0.11"}) {
		t.Errorf("joined for %v on %d sockets", joined, receivers)
	}
	b.reload(t, nil, []mapping.ReceiveRule{from("a", "172.17.0.10")})
	if _, _, inUse := n.Opened(); inUse != 1 {
		t.Errorf("%d sockets in use, want one", inUse)
	}
}
