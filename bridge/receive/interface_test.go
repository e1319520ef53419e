package receive_test

import (
	"bytes"
	"errors"
	"log/slog"
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

func TestAReceiveRuleFollowsItsInterface(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a")}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		state := func(what string, want account.State, reason string, sockets int) {
			t.Helper()
			b.reconcile(t.Context())
			s := b.Status().Receive[0]
			if s.State != want || !strings.Contains(s.Reason, reason) || len(n.OpenReceivers()) != sockets {
				t.Errorf("%s: %s (%s) with %d sockets, want %s (%s) with %d", what, s.State, s.Reason, len(n.OpenReceivers()), want, reason, sockets)
			}
		}
		state("at first", account.StateUp, "", 1)
		first := n.LastReceiver()
		down := fake.Iso0
		down.Carrier = false
		n.Set(down)
		state("without carrier", account.StatePending, "no carrier", 1)
		n.Set(fake.Iso0)
		state("with carrier again", account.StateUp, "", 1)
		if first != n.LastReceiver() || first.Rejoins != 1 {
			t.Errorf("after the carrier came back it joined again %d times, want once on the same socket", first.Rejoins)
		}
		b.interfacesChanged(multicast.Change{Returned: []int{4}})
		state("with carrier away too short to be seen elsewhere", account.StateUp, "", 1)
		b.interfacesChanged(multicast.Change{Returned: []int{3}})
		state("with carrier away too short to be seen", account.StateUp, "", 1)
		if first.Rejoins != 2 {
			t.Errorf("joined again %d times, want once more", first.Rejoins)
		}
		down.Up = false
		n.Set(down)
		state("down", account.StatePending, "is down", 1)
		n.Set(fake.Iso0)
		state("up", account.StateUp, "", 1)
		n.Set(fake.Priv0)
		state("gone", account.StatePending, "iso0", 0)
		again := fake.Iso0
		again.Index = 9
		n.Set(again)
		state("back under another index", account.StateUp, "", 1)
		second := n.LastReceiver()
		b.interfacesChanged(multicast.Change{Deleted: []int{8}})
		state("another one deleted", account.StateUp, "", 1)
		if n.LastReceiver() != second {
			t.Error("joined anew because another interface was deleted")
		}
		b.interfacesChanged(multicast.Change{Deleted: []int{9}})
		state("deleted and back under the same index", account.StateUp, "", 1)
		if n.LastReceiver() == second {
			t.Error("the socket of an interface that was deleted is still used")
		}
		third := n.LastReceiver()
		b.interfacesChanged(multicast.Change{Overflow: true})
		state("after news were missed", account.StateUp, "", 1)
		if n.LastReceiver() == third {
			t.Error("the socket is still used though its interface may have been deleted")
		}
		n.Set()
		n.ListenErr = errors.New("port 5000 is taken")
		n.Set(fake.Iso0)
		b.interfacesChanged(multicast.Change{Deleted: []int{3, 9}})
		state("port taken", account.StatePending, "port 5000 is taken", 0)
		n.ListenErr = nil
		state("port free", account.StateUp, "", 1)
	})
}

// News of the interfaces that were missed tell nothing of the groups: whoever can have them
// missed, again and again, must not have all groups left, and lost what comes meanwhile.
func TestNoGroupIsLeftThatIsStillJoinedWhenNewsWereMissed(t *testing.T) {
	var tables []multicast.Joins // what is read next; the last is read again and again
	read := func() (multicast.Joins, error) {
		if len(tables) == 0 {
			return nil, errors.New("cannot be read")
		}
		table := tables[0]
		if len(tables) > 1 {
			tables = tables[1:]
		}
		return table, nil
	}
	table := func(index int, group string) multicast.Joins {
		j := make(multicast.Joins)
		j.Add(index, netip.MustParseAddr(group))
		return j
	}
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a")}
	receiving(t, rigOptions{Joins: read}, nil, rules, func(b *rig, n *fake.Network) {
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		here, elsewhere, other := table(3, "239.1.1.1"), table(4, "239.1.1.1"), table(3, "239.1.1.2")
		for _, tt := range []struct {
			name   string
			tables []multicast.Joins
			kept   bool
		}{
			{"still joined", []multicast.Joins{here}, true},
			{"not seen at first", []multicast.Joins{other, here}, true},
			{"joined on another interface only", []multicast.Joins{elsewhere}, false},
			{"another group is joined", []multicast.Joins{other}, false},
			{"nobody knows", nil, false},
		} {
			before := n.LastReceiver()
			tables = tt.tables
			b.interfacesChanged(multicast.Change{Overflow: true})
			b.reconcile(t.Context())
			if kept := n.LastReceiver() == before; kept != tt.kept {
				t.Errorf("%s: the socket is kept: %t, want %t", tt.name, kept, tt.kept)
			}
			if got := b.Status().Receive[0]; got.State != account.StateUp {
				t.Errorf("%s: the rule is %s: %s", tt.name, got.State, got.Reason)
			}
		}
		tables = []multicast.Joins{here}
		before := n.LastReceiver()
		b.interfacesChanged(multicast.Change{Overflow: true, Returned: []int{3}})
		b.reconcile(t.Context())
		if n.LastReceiver() != before || before.Rejoins == 0 {
			t.Errorf("after its carrier was away it was joined again %d times on the same socket", before.Rejoins)
		}
	})
}

// Closing a stale socket takes the membership of a fresh one with it, so no
// socket may be opened on an interface before all the stale ones are closed.
func TestAllStaleSocketsAreClosedBeforeOneIsOpened(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a"),
		fake.ReceiveRule(t, "b", "239.1.1.1:5000", "b", func(r *mapping.ReceiveRule) {
			r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.9/32")}
		}),
	}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		stale := n.OpenReceivers()
		n.OnListen = func() {
			for _, r := range stale {
				if slices.Contains(n.OpenReceivers(), r) {
					t.Error("a socket is opened while a stale one is open")
				}
			}
		}
		b.interfacesChanged(multicast.Change{Deleted: []int{fake.Iso0.Index}})
		b.reconcile(t.Context())
		if len(n.OpenReceivers()) != 2 {
			t.Errorf("%d sockets, want 2", len(n.OpenReceivers()))
		}
	})
}

func TestASocketThatFailsIsOpenedAgain(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a")}
	got := receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		first := n.LastReceiver()
		first.Failure = errors.New("network is down")
		close(first.In)
		synctest.Wait()
		if s := b.Status().Receive[0]; s.State != account.StatePending || s.Reason != "network is down" {
			t.Errorf("after a failure: %s (%s)", s.State, s.Reason)
		}
		select {
		case <-b.changed:
		default:
			t.Error("nobody asked for a look at the interfaces")
		}
		b.reconcile(t.Context())
		if s := b.Status().Receive[0]; s.State != account.StateUp || n.LastReceiver() == first {
			t.Errorf("after the next look: %s (%s)", s.State, s.Reason)
		}
		n.LastReceiver().Hear(fake.Device, "x")
	})
	if diff := cmp.Diff([]string{"a x"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestARangeInPartJoinedIsDegraded(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "a", "239.1.1.1-239.1.1.4:5000", "a")}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		n.ListenErr = errors.New("no")
		third := n.At("239.1.1.3:5000", "iso0")
		third.Failure = errors.New("x")
		close(third.In)
		synctest.Wait()
		b.reconcile(t.Context())
		s := b.Status().Receive[0]
		if s.State != account.StateDegraded || s.Reason != "1 of 4 groups are not joined: no" || s.Joined != 3 || s.Sockets != 4 {
			t.Errorf("%s (%s), %d of %d joined", s.State, s.Reason, s.Joined, s.Sockets)
		}
	})
}

func TestAReceiveRuleTellsOnceOfEachChangeOfItsState(t *testing.T) {
	var log bytes.Buffer
	o := rigOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "many", "239.1.1.1-239.1.1.3:5000", "a")}
	receiving(t, o, nil, rules, func(b *rig, n *fake.Network) {
		b.reconcile(t.Context())
		n.Set()
		b.reconcile(t.Context())
		b.reconcile(t.Context())
		n.Set(fake.Priv0) // what else there is, is no news
		b.reconcile(t.Context())
		down := fake.Iso0
		down.Up = false
		n.Set(down)
		b.reconcile(t.Context())
		b.reconcile(t.Context())
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
	})
	var told []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "rule=many") {
			_, line, _ = strings.Cut(line, "msg=")
			told = append(told, strings.TrimSpace(line))
		}
	}
	want := []string{
		`receiving rule=many interface=iso0 joined=3 buffer=4096`,
		`"receive rule pending; it goes on by itself when it can" rule=many interface=iso0 joined=0 groups=3 err="there is no interface iso0`,
		`"receive rule pending; it goes on by itself when it can" rule=many interface=iso0 joined=3 buffer=4096 groups=3 err="interface iso0 is down"`,
		`receiving rule=many interface=iso0 joined=3 buffer=4096`,
	}
	if len(told) != len(want) {
		t.Fatalf("told:\n%s", strings.Join(told, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(told[i], want[i]) {
			t.Errorf("told %s\nwant %s", told[i], want[i])
		}
	}
}

func TestARuleJoinsItsGroupsAnewWhenItIsAskedTo(t *testing.T) {
	g, _ := mapping.ParseGroupRange("239.1.1.1:5000")
	to, _ := mapping.ParseTopic("t")
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, rigOptions{QueueSize: fake.Plenty}, nil, []mapping.ReceiveRule{
		{Name: "r", Groups: []mapping.GroupRange{g}, Interface: "iso0", Topic: to},
		{Name: "away", Groups: []mapping.GroupRange{g}, Interface: "eth9", Topic: to},
	})
	if rules, err := b.receive.JoinAnew("r"); err != nil || !slices.Equal(rules, []string{"r"}) {
		t.Errorf("%q, %v", rules, err)
	}
	select {
	case <-b.changed:
	default:
		t.Error("no look was asked for")
	}
	b.reconcile(t.Context())
	b.reconcile(t.Context())
	if got := n.LastReceiver().CountRejoins(); got != 1 {
		t.Errorf("joined anew %d times, want once", got)
	}
	for _, name := range []string{"away", "other"} {
		if rules, err := b.receive.JoinAnew(name); err == nil {
			t.Errorf("%s: %q", name, rules)
		}
	}
}
