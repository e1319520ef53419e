package send_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestWhatWaitsInMemoryGoesWhereTheNextTableSendsIt(t *testing.T) {
	for name, c := range map[string]struct {
		next      []mapping.SendRule
		iso, priv []string
		drops     map[string]uint64
	}{
		"unchanged": {next: []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000")},
			iso: []string{"239.1.1.1:5000 a", "239.1.1.1:5000 b", "239.1.1.1:5000 c", "239.1.1.1:5000 later"}},
		"to another group": {next: []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.3.3.{id}:5000")},
			iso: []string{"239.3.3.1:5000 a", "239.3.3.1:5000 b", "239.3.3.1:5000 c", "239.3.3.1:5000 later"}},
		"from another source": {next: []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", fake.OnPriv)},
			priv: []string{"239.1.1.1:5000 a", "239.1.1.1:5000 b", "239.1.1.1:5000 c", "239.1.1.1:5000 later"}},
		"the rule is gone": {next: []mapping.SendRule{fake.SendRule(t, "other", "t/{id}", "239.1.1.{id}:5000", fake.OnPriv)},
			priv: []string{"239.1.1.1:5000 later"}, drops: map[string]uint64{"removed": 3}},
		"the topic is none of the rule's": {next: []mapping.SendRule{fake.SendRule(t, "r", "u/{id}", "239.1.1.{id}:5000")},
			drops: map[string]uint64{"removed": 3}},
		"there is no group for it": {next: []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id+300}:5000")},
			drops: map[string]uint64{"bad_group": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
				b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
				busy := n.LastSocket()
				busy.Allow(0, nil)
				<-busy.Free
				b.send.Handle([]session.Message{fake.Message("t/1", "a", 1), fake.Message("t/1", "b", 2), fake.Message("t/1", "c", 1)})
				acks := b.acks()
				of := b.working.Rules[0]
				b.reload(t, c.next, nil)
				synctest.Wait()
				b.send.Handle([]session.Message{fake.Message("t/1", "later", 1)})
				busy.Allow(100, nil)
				synctest.Wait()
				if diff := cmp.Diff(c.iso, n.From("iso0")); diff != "" {
					t.Errorf("from iso0 (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(c.priv, n.From("priv0")); diff != "" {
					t.Errorf("from priv0 (-want +got):\n%s", diff)
				}
				drops, _, _ := of.Describe()
				if diff := cmp.Diff(c.drops, drops); diff != "" {
					t.Errorf("drops (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"a", "b", "c"}, acks.list()); diff != "" {
					t.Errorf("acknowledged (-want +got):\n%s", diff)
				}
				if got := b.Status().Queue; got.Messages != 0 || got.Bytes != 0 {
					t.Errorf("%+v is taken for waiting", got)
				}
			})
		})
	}
}

// Of a rule that wants the latest only the latest waits, though a busy socket of
// before kept all.
func TestARuleThatMovesToASourceThatIsAwayKeepsItsPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		latest := fake.OnDown(mapping.OnDownLatest)
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "latest", "a", "239.1.1.1:5000", latest), fake.SendRule(t, "drop", "b", "239.1.1.1:5000", fake.OnDown(mapping.OnDownDrop)), fake.SendRule(t, "all", "c", "239.1.1.1:5000"))
		n.LastSocket().Allow(0, nil)
		<-n.LastSocket().Free
		b.send.Handle([]session.Message{fake.Message("a", "1", 1), fake.Message("a", "2", 1), fake.Message("b", "3", 1), fake.Message("c", "4", 0), fake.Message("c", "5", 1)})
		b.reload(t, []mapping.SendRule{fake.SendRule(t, "latest", "a", "239.1.1.1:5000", latest, fake.OnPriv),
			fake.SendRule(t, "drop", "b", "239.1.1.1:5000", fake.OnDown(mapping.OnDownDrop), fake.OnPriv), fake.SendRule(t, "all", "c", "239.1.1.1:5000", fake.OnPriv)}, nil)
		n.Set(fake.Iso0, fake.Priv0)
		b.reconcile(t.Context())
		synctest.Wait()
		if diff := cmp.Diff([]string{"239.1.1.1:5000 2", "239.1.1.1:5000 5"}, slices.Sorted(slices.Values(n.From("priv0")))); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		for i, want := range []string{"map[] map[superseded:1]", "map[pending:1] map[]", "map[pending:1] map[]"} {
			r := b.Status().Rules[i]
			if diff := cmp.Diff(want, fmt.Sprint(r.Drops, " ", r.Filtered)); diff != "" {
				t.Errorf("drops of rule %d, and what was filtered (-want +got):\n%s", i, diff)
			}
		}
		if _, _, inUse := n.Opened(); inUse != 1 {
			t.Errorf("%d sockets are open, want the new one", inUse)
		}
	})
}

func TestARetainedMessageIsSentAgainOnlyIfItsRuleHasChanged(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	retained := func(payload string) []session.Message {
		m := fake.Message("t/1", payload, 1)
		m.Retain = true
		return []session.Message{m}
	}
	r := fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000")
	b := newRig(t, n, fake.Plenty, r)
	b.send.Handle(retained("x"))
	for _, c := range []struct {
		what  string
		rule  mapping.SendRule
		again bool
	}{
		{"nothing changed", r, false},
		{"the age changed", fake.SendRule(t, "r", "t/#", "239.1.1.1:5000", fake.MaxAge(time.Hour)), false},
		{"the group changed", fake.SendRule(t, "r", "t/#", "239.1.1.2:5000"), true},
		{"the source changed", fake.SendRule(t, "r", "t/#", "239.1.1.2:5000", fake.OnPriv), true},
		{"the name changed", fake.SendRule(t, "other", "t/#", "239.1.1.2:5000", fake.OnPriv), true},
	} {
		b.reload(t, []mapping.SendRule{c.rule}, nil)
		b.reload(t, []mapping.SendRule{c.rule}, nil) // what is known lasts, though no message came in between
		for range 2 {
			before := len(n.From("iso0")) + len(n.From("priv0"))
			b.send.Handle(retained("x"))
			if sent := len(n.From("iso0")) + len(n.From("priv0")) - before; (sent == 1) != c.again {
				t.Errorf("%s: sent %d times", c.what, sent)
			}
			c.again = false
		}
	}
}

func TestASourcePortIsFreeBeforeItIsTakenAgain(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	on := func(port uint16, ttl uint8) func(*mapping.SendRule) {
		return func(r *mapping.SendRule) { r.Binding.SourcePort, r.Binding.TTL = port, ttl }
	}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", on(7000, 1)))
	n.OnOpen = func(src multicast.Source) error {
		for _, s := range n.Sockets {
			if s.Src.Binding.SourcePort == src.Binding.SourcePort && !s.Closed {
				t.Error("opened while the old socket has the port")
			}
		}
		return nil
	}
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", on(7000, 9))}, nil)
	if s := b.Status().Rules[0]; s.State != account.StateUp || n.LastSocket().Src.Binding.TTL != 9 {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	// Where nobody has the port, there is no moment without a socket.
	n.OnOpen = func(multicast.Source) error {
		if n.Sockets[1].Closed {
			t.Error("the old socket is closed before the new one is open")
		}
		return nil
	}
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", on(7001, 9))}, nil)
	if sockets, _, inUse := n.Opened(); sockets != 3 || inUse != 1 {
		t.Errorf("%d sockets opened, %d in use", sockets, inUse)
	}
}

func TestABindingCountsItsRulesAfterEachReload(t *testing.T) {
	var log bytes.Buffer
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	one, two := fake.SendRule(t, "one", "a/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "two", "b", "239.1.1.1:5000", fake.OnPriv)
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))}, []mapping.SendRule{one, two}, nil)
	for _, rules := range [][]mapping.SendRule{{one, two}, {two, one}, {fake.SendRule(t, "new", "c", "239.1.1.9:5000"), one, two}, {one, two}} {
		before, _, _ := n.Opened()
		b.reload(t, rules, nil)
		if after, _, inUse := n.Opened(); after != before || inUse != 2 {
			t.Error("a binding that is wanted still is another")
		}
		log.Reset()
		n.Set()
		b.reconcile(t.Context())
		n.Set(fake.Iso0, fake.Priv0)
		b.reconcile(t.Context())
		for on, want := range map[string]int{"iso0": len(rules) - 1, "priv0": 1} {
			is := regexp.MustCompile(fmt.Sprintf(`interface=%s .*\brules=%d\b`, on, want))
			if got := len(is.FindAllString(log.String(), -1)); got != 2 { // pending, and up
				t.Errorf("the binding on %s has not %d rules of %d:\n%s", on, want, len(rules), &log)
			}
		}
	}
}
