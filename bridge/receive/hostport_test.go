package receive_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

const anyFour, anySix = "0.0.0.0:6454", "[::]:6454"

// portRule is a rule for what comes to the host itself.
func portRule(t testing.TB, name, topic string, change ...func(*mapping.ReceiveRule)) mapping.ReceiveRule {
	return fake.ReceiveRule(t, name, "239.1.1.1:1", topic, append([]func(*mapping.ReceiveRule){func(r *mapping.ReceiveRule) {
		r.Groups, r.Port = nil, 6454
	}}, change...)...)
}

// came is a datagram that came to the host.
func came(from, to, payload string) multicast.Datagram {
	return multicast.Datagram{Source: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to), Payload: []byte(payload)}
}

func TestWhatComesToAPortIsPublishedByWhereItWasSentTo(t *testing.T) {
	rules := []mapping.ReceiveRule{
		portRule(t, "to", "to/{destination}/{port}"),
		portRule(t, "from", "from/{source}", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.9/32")}
		}),
		portRule(t, "both", "both/{source}/{destination&255}"),
	}
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		if open := n.OpenReceivers(); len(open) != 2 {
			t.Errorf("%d sockets, want one for each family", len(open))
		}
		n.At(anyFour, "iso0").In <- []multicast.Datagram{
			came("172.17.0.9:1", "172.17.0.1:6454", "1"), came("172.17.0.9:1", "172.17.255.255:6454", "2"),
			came("172.17.0.8:1", "172.17.255.255:6454", "3"), came("172.17.0.9:1", "172.17.0.1:6454", "4"),
		}
		synctest.Wait()
		n.At(anySix, "iso0").In <- []multicast.Datagram{came("[fd17::9]:1", "[fd17::1]:6454", "5")}
		synctest.Wait()
		if s := b.Status().Receive[1]; s.Filtered["source"] != 1 || s.Port != 6454 || s.State != account.StateUp || s.Sockets != 1 || s.Joined != 1 {
			t.Errorf("%+v", s)
		}
		if s := b.Status().Receive[0]; s.Sockets != 2 || s.Joined != 2 {
			t.Errorf("%+v", s)
		}
	})
	want := []string{
		"to/172.17.0.1/6454 1", "from/172.17.0.9 1", "both/172.17.0.9/1 1", "to/172.17.255.255/6454 2", "from/172.17.0.9 2", "both/172.17.0.9/255 2",
		"to/172.17.255.255/6454 3", "both/172.17.0.8/255 3", "to/172.17.0.1/6454 4", "from/172.17.0.9 4", "both/172.17.0.9/1 4",
		"to/fd17::1/6454 5", "both/fd17::9/1 5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// However many addresses are written to, each datagram goes where it was sent to, and what is
// remembered is given back.
func TestDestinationsBeyondThoseRememberedAreToldApart(t *testing.T) {
	remembering(t, []mapping.ReceiveRule{portRule(t, "to", "to/{destination&255}/{source}")}, func(b *rig, p *published) {
		r := b.working.Reader(0)
		var want []string
		for round := range 3 {
			for i := range 40 {
				payload := fmt.Sprint(round, i)
				r.Handle([]multicast.Datagram{came("172.17.0.9:1", fmt.Sprintf("127.0.0.%d:6454", i), payload)})
				want = append(want, fmt.Sprintf("to/%d/172.17.0.9 %s", i, payload))
			}
		}
		if diff := cmp.Diff(want, p.take()); diff != "" {
			t.Error(diff)
		}
		if n := b.Status().Receive[0].Remembered.Senders; n < 1 || n > 9 {
			t.Errorf("%d senders are remembered, want one for each of few destinations", n)
		}
	})
}

// The parts of one host that are not there, or another program's.
func TestAPortSaysWhatItDoesNotHear(t *testing.T) {
	states := func(b *rig) (texts []string) {
		b.reconcile(t.Context())
		for _, s := range b.Status().Receive {
			texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s %s", s.State, s.Reason)))
		}
		return texts
	}
	expect := func(b *rig, want ...string) {
		t.Helper()
		if got := states(b); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	rules := []mapping.ReceiveRule{portRule(t, "name", "a"), portRule(t, "address", "b", func(r *mapping.ReceiveRule) { r.Interface = "172.17.0.1" })}
	receiving(t, rigOptions{}, nil, rules[:1], func(b *rig, n *fake.Network) {
		expect(b, "up")
		n.At(anyFour, "iso0").SetPortConflicts([]string{"a program has 172.17.0.1"}, []string{"another one shares"})
		expect(b, "degraded a program has 172.17.0.1")
		if got := b.Status().Receive[0].Sharers; !slices.Equal(got, []string{"another one shares"}) {
			t.Errorf("sharers %q", got)
		}
		n.At(anyFour, "iso0").SetPortConflicts(nil, nil)
		expect(b, "up")
		if got := b.Status().Receive[0].Sharers; got != nil {
			t.Errorf("sharers %q", got)
		}
		// The same interface by another name would be a second socket, which gets no unicast.
		b.reload(t, nil, rules)
		expect(b, "up", "pending another rule listens to port 6454 of IPv4 by this interface, and names it iso0: name it so here too")
		b.reload(t, nil, rules[1:])
		expect(b, "up")
	})
	receiving(t, rigOptions{}, nil, nil, func(b *rig, n *fake.Network) {
		n.RefuseIPv6(multicast.ErrNoFamily)
		b.reload(t, nil, rules[:1])
		expect(b, "up") // of a family that the host does not have nothing can come
		if s := b.Status().Receive[0]; s.Sockets != 1 || s.Joined != 1 {
			t.Errorf("%+v", s)
		}
		b.reload(t, nil, []mapping.ReceiveRule{portRule(t, "six", "c", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("fd17::/64")}
		})})
		expect(b, "pending "+multicast.ErrNoFamily.Error())
		n.ListenErr = multicast.ErrPending
		b.reload(t, nil, []mapping.ReceiveRule{portRule(t, "four", "d")})
		expect(b, "pending "+multicast.ErrPending.Error())
		n.ListenErr = nil
		n.RefuseIPv6(multicast.ErrPending)
		b.reload(t, nil, rules[:1])
		expect(b, "degraded 1 of 2 sockets of the port are not open: pending")
	})
}

// News of the interfaces that were missed do not close it: it has no membership to lose.
func TestAPortStaysOpenWhereNewsWereMissed(t *testing.T) {
	nothing := func() (multicast.Joins, error) { return multicast.Joins{}, nil }
	receiving(t, rigOptions{Joins: nothing}, nil, []mapping.ReceiveRule{portRule(t, "a", "a")}, func(b *rig, n *fake.Network) {
		before := n.OpenReceivers()
		b.interfacesChanged(multicast.Change{Overflow: true})
		b.reconcile(t.Context())
		if !slices.Equal(before, n.OpenReceivers()) {
			t.Error("other sockets")
		}
		b.interfacesChanged(multicast.Change{Deleted: []int{fake.Iso0.Index}})
		b.reconcile(t.Context())
		if after := n.OpenReceivers(); len(after) != 2 || slices.Contains(after, before[0]) {
			t.Error("the sockets of an interface that was deleted are still open")
		}
	})
}
