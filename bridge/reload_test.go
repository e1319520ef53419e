package bridge

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// reload puts other rules to work.
func (b *Bridge) reload(t testing.TB, send []mapping.SendRule, receive []mapping.ReceiveRule) {
	t.Helper()
	table, err := mapping.Compile(send, receive)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context(), table); err != nil {
		t.Fatal(err)
	}
}

// opened is what was opened so far, and what of it is not closed.
func (n *fakeNetwork) opened() (sockets, receivers, inUse int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sockets {
		select {
		case <-s.gone:
		default:
			inUse++
		}
	}
	for _, r := range n.receivers {
		select {
		case <-r.done:
		default:
			inUse++
		}
	}
	return len(n.sockets), len(n.receivers), inUse
}

// from is what left from the sockets of an interface.
func (n *fakeNetwork) from(on string) (lines []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sockets {
		if s.src.Interface == on {
			lines = append(lines, s.took()...)
		}
	}
	return lines
}

func TestWhatIsUnchangedDoesNotNoticeAReload(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	one, two := rule(t, "one", "a/{id}", "239.1.1.{id}:5000"), rule(t, "two", "b", "239.1.1.1:5000", onPriv)
	hear, many := listenRule(t, "hear", "239.2.1.1:5000", "heard"), listenRule(t, "many", "239.2.1.1-239.2.1.3:5000", "many")
	b := newTestBridgeOf(t, n, Options{QueueSize: plenty}, []mapping.SendRule{one, two}, []mapping.ReceiveRule{hear, many})
	first := b.parts()
	for name, c := range map[string]struct {
		send    []mapping.SendRule
		receive []mapping.ReceiveRule
	}{
		"the same":    {[]mapping.SendRule{one, two}, []mapping.ReceiveRule{hear, many}},
		"in disorder": {[]mapping.SendRule{two, one}, []mapping.ReceiveRule{many, hear}},
		"more": {[]mapping.SendRule{rule(t, "new", "c", "239.1.1.9:5000"), one, two},
			[]mapping.ReceiveRule{listenRule(t, "new in", "239.2.1.2:5000", "new"), hear, many}},
		"changed": {[]mapping.SendRule{rule(t, "one", "a/{id}", "239.7.7.7:5000"), two},
			[]mapping.ReceiveRule{listenRule(t, "hear", "239.2.1.1:5000", "elsewhere"), many}},
		"less": {[]mapping.SendRule{one, rule(t, "other", "b", "239.1.1.1:5000", onPriv)}, []mapping.ReceiveRule{many}},
	} {
		t.Run(name, func(t *testing.T) {
			b.reload(t, c.send, c.receive)
			p := b.parts()
			if got, want := addresses(p.bindings), addresses(first.bindings); !maps.Equal(got, want) {
				t.Errorf("other bindings: %v, want %v", got, want)
			}
			if got, want := addresses(p.memberships), addresses(first.memberships); !maps.Equal(got, want) {
				t.Errorf("other memberships: %v, want %v", got, want)
			}
			if i := slices.IndexFunc(p.receives, func(r *receiveRule) bool { return r.Name == "many" }); p.receives[i] != first.receives[1] {
				t.Error("an unchanged receive rule is another")
			}
			if sockets, receivers, inUse := n.opened(); sockets != 2 || receivers != 3 || inUse != 5 {
				t.Errorf("opened %d sockets and %d receivers, of which %d are in use; want 2, 3 and 5 for all the time", sockets, receivers, inUse)
			}
			for i, o := range p.bindings {
				o.mu.Lock()
				if want := 1 + len(c.send) - 2; o.want.Interface == "iso0" && o.rules != want || o.want.Interface == "priv0" && o.rules != 1 {
					t.Errorf("binding %d of %s has %d rules", i, o.want.Interface, o.rules)
				}
				o.mu.Unlock()
			}
		})
	}
}

func addresses[T any](of []*T) map[*T]bool {
	all := make(map[*T]bool)
	for _, x := range of {
		all[x] = true
	}
	return all
}

func TestCountersOutliveAReload(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: plenty},
		[]mapping.SendRule{rule(t, "kept", "a/{id}", "239.1.1.{id}:5000"), rule(t, "moved", "b/{id}", "239.1.1.{id}:5000"), rule(t, "gone", "c/{id}", "239.1.1.{id}:5000")},
		[]mapping.ReceiveRule{listenRule(t, "in", "239.2.1.1:5000", "in"), listenRule(t, "in gone", "239.2.1.2:5000", "in")})
	for _, topic := range []string{"a/1", "a/300", "b/1", "b/300", "c/1", "c/300"} {
		b.send.handle([]session.Message{message(topic, "x", 1)})
	}
	b.parts().receives[0].received.Add(3)
	b.reload(t, []mapping.SendRule{rule(t, "moved", "b/#", "239.9.9.9:5000", onPriv), rule(t, "kept", "a/{id}", "239.1.1.{id}:5000")},
		[]mapping.ReceiveRule{listenRule(t, "in", "239.2.1.7:5000", "other")})
	b.send.handle([]session.Message{message("a/2", "x", 1), message("b/2", "x", 1)})
	var lines []string
	for _, r := range b.Status().Rules {
		lines = append(lines, fmt.Sprint(r.Name, " ", r.Received, " ", r.Sent, " ", r.Drops, " ", r.FirstDrops["bad_group"] != ""))
	}
	for _, r := range b.Status().Receive {
		lines = append(lines, fmt.Sprint(r.Name, " ", r.Received))
	}
	want := []string{"moved 3 2 map[bad_group:1] true", "kept 3 2 map[bad_group:1] true", "in 3"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var metrics strings.Builder
	if err := b.WriteRules(&metrics); err != nil {
		t.Fatal(err)
	}
	if text := metrics.String(); strings.Contains(text, "gone") || !strings.Contains(text, `topicast_messages_received_total{rule="moved"} 3`) {
		t.Errorf("metrics:\n%s", text)
	}
}

func TestWhatWaitsInMemoryGoesWhereTheNextTableSendsIt(t *testing.T) {
	for name, c := range map[string]struct {
		next      []mapping.SendRule
		iso, priv []string
		drops     map[string]uint64
	}{
		"unchanged": {next: []mapping.SendRule{rule(t, "r", "t/{id}", "239.1.1.{id}:5000")},
			iso: []string{"239.1.1.1:5000 a", "239.1.1.1:5000 b", "239.1.1.1:5000 c", "239.1.1.1:5000 later"}},
		"to another group": {next: []mapping.SendRule{rule(t, "r", "t/{id}", "239.3.3.{id}:5000")},
			iso: []string{"239.3.3.1:5000 a", "239.3.3.1:5000 b", "239.3.3.1:5000 c", "239.3.3.1:5000 later"}},
		"from another source": {next: []mapping.SendRule{rule(t, "r", "t/{id}", "239.1.1.{id}:5000", onPriv)},
			priv: []string{"239.1.1.1:5000 a", "239.1.1.1:5000 b", "239.1.1.1:5000 c", "239.1.1.1:5000 later"}},
		"the rule is gone": {next: []mapping.SendRule{rule(t, "other", "t/{id}", "239.1.1.{id}:5000", onPriv)},
			priv: []string{"239.1.1.1:5000 later"}, drops: map[string]uint64{"removed": 3}},
		"the topic is none of the rule's": {next: []mapping.SendRule{rule(t, "r", "u/{id}", "239.1.1.{id}:5000")},
			drops: map[string]uint64{"removed": 3}},
		"there is no group for it": {next: []mapping.SendRule{rule(t, "r", "t/{id}", "239.1.1.{id+300}:5000")},
			drops: map[string]uint64{"bad_group": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
				b := newTestBridge(t, n, plenty, rule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
				busy := n.socket()
				busy.allow(0, nil)
				<-busy.free
				b.send.handle([]session.Message{message("t/1", "a", 1), message("t/1", "b", 2), message("t/1", "c", 1)})
				acks := newAcked()
				acks.watch(b.parts().bindings[0])
				account := b.parts().sends[0].sendAccount
				b.reload(t, c.next, nil)
				synctest.Wait()
				b.send.handle([]session.Message{message("t/1", "later", 1)})
				busy.allow(100, nil)
				synctest.Wait()
				if diff := cmp.Diff(c.iso, n.from("iso0")); diff != "" {
					t.Errorf("from iso0 (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(c.priv, n.from("priv0")); diff != "" {
					t.Errorf("from priv0 (-want +got):\n%s", diff)
				}
				drops, _ := account.describe()
				if diff := cmp.Diff(c.drops, drops); diff != "" {
					t.Errorf("drops (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"a", "b", "c"}, acks.done); diff != "" {
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
		n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
		latest := onDown(mapping.OnDownLatest)
		b := newTestBridge(t, n, plenty, rule(t, "latest", "a", "239.1.1.1:5000", latest), rule(t, "drop", "b", "239.1.1.1:5000", onDown(mapping.OnDownDrop)), rule(t, "all", "c", "239.1.1.1:5000"))
		n.socket().allow(0, nil)
		<-n.socket().free
		b.send.handle([]session.Message{message("a", "1", 1), message("a", "2", 1), message("b", "3", 1), message("c", "4", 0), message("c", "5", 1)})
		b.reload(t, []mapping.SendRule{rule(t, "latest", "a", "239.1.1.1:5000", latest, onPriv),
			rule(t, "drop", "b", "239.1.1.1:5000", onDown(mapping.OnDownDrop), onPriv), rule(t, "all", "c", "239.1.1.1:5000", onPriv)}, nil)
		n.set(iso0, priv0)
		b.refresh(t.Context())
		synctest.Wait()
		if diff := cmp.Diff([]string{"239.1.1.1:5000 2", "239.1.1.1:5000 5"}, n.from("priv0")); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		for i, want := range []map[string]uint64{{"superseded": 1}, {"pending": 1}, {"pending": 1}} {
			if diff := cmp.Diff(want, b.Status().Rules[i].Drops); diff != "" {
				t.Errorf("drops of rule %d (-want +got):\n%s", i, diff)
			}
		}
		if _, _, inUse := n.opened(); inUse != 1 {
			t.Errorf("%d sockets are open, want the new one", inUse)
		}
	})
}

func TestARetainedMessageIsSentAgainOnlyIfItsRuleHasChanged(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	retained := func(payload string) []session.Message {
		m := message("t/1", payload, 1)
		m.Retain = true
		return []session.Message{m}
	}
	r := rule(t, "r", "t/{id}", "239.1.1.{id}:5000")
	b := newTestBridge(t, n, plenty, r)
	b.send.handle(retained("x"))
	for _, c := range []struct {
		what  string
		rule  mapping.SendRule
		again bool
	}{
		{"nothing changed", r, false},
		{"the age changed", rule(t, "r", "t/#", "239.1.1.1:5000", maxAge(time.Hour)), false},
		{"the group changed", rule(t, "r", "t/#", "239.1.1.2:5000"), true},
		{"the source changed", rule(t, "r", "t/#", "239.1.1.2:5000", onPriv), true},
		{"the name changed", rule(t, "other", "t/#", "239.1.1.2:5000", onPriv), true},
	} {
		b.reload(t, []mapping.SendRule{c.rule}, nil)
		b.reload(t, []mapping.SendRule{c.rule}, nil) // what is known lasts, though no message came in between
		for range 2 {
			before := len(n.from("iso0")) + len(n.from("priv0"))
			b.send.handle(retained("x"))
			if sent := len(n.from("iso0")) + len(n.from("priv0")) - before; (sent == 1) != c.again {
				t.Errorf("%s: sent %d times", c.what, sent)
			}
			c.again = false
		}
	}
}

func TestASourcePortIsFreeBeforeItIsTakenAgain(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	on := func(port uint16, ttl uint8) func(*mapping.SendRule) {
		return func(r *mapping.SendRule) { r.Binding.SourcePort, r.Binding.TTL = port, ttl }
	}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000", on(7000, 1)))
	n.onOpen = func(src multicast.Source) error {
		for _, s := range n.sockets {
			if s.src.Binding.SourcePort == src.Binding.SourcePort && !s.closed {
				t.Error("opened while the old socket has the port")
			}
		}
		return nil
	}
	b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000", on(7000, 9))}, nil)
	if s := b.Status().Rules[0]; s.State != StateUp || n.socket().src.Binding.TTL != 9 {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	// Where nobody has the port, there is no moment without a socket.
	n.onOpen = func(multicast.Source) error {
		if n.sockets[1].closed {
			t.Error("the old socket is closed before the new one is open")
		}
		return nil
	}
	b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000", on(7001, 9))}, nil)
	if sockets, _, inUse := n.opened(); sockets != 3 || inUse != 1 {
		t.Errorf("%d sockets opened, %d in use", sockets, inUse)
	}
}

func TestAReloadWithoutARunningBridgeChangesNothing(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	next, err := mapping.Compile([]mapping.SendRule{rule(t, "other", "t", "239.1.1.1:5000", onPriv)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	was, duties := b.parts(), b.duties
	b.employ(nil)
	if err := b.Reload(t.Context(), next); err == nil || b.parts() != was {
		t.Errorf("err %v", err)
	}
	b.employ(duties)
	n.interfacesErr = errors.New("netlink says no")
	if err := b.Reload(t.Context(), next); err == nil || b.parts() != was {
		t.Errorf("err %v without interfaces", err)
	}
	if s := b.Status().Reload; s.OK || s.Error != "list the interfaces: netlink says no" {
		t.Errorf("%+v", s)
	}
}

func TestARefusedConfigurationShows(t *testing.T) {
	b := newTestBridge(t, &fakeNetwork{}, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	check := func(metric string) {
		t.Helper()
		const head = "# HELP topicast_config_last_reload_successful 0 while a configuration was refused and the one before it is in force.\n# TYPE topicast_config_last_reload_successful gauge\ntopicast_config_last_reload_successful "
		if err := testutil.CollectAndCompare(b, strings.NewReader(head+metric+"\n"), "topicast_config_last_reload_successful"); err != nil {
			t.Error(err)
		}
	}
	check("1")
	if b.Status().Reload != nil {
		t.Error("a reload shows before there was one")
	}
	b.ReloadFailed(errors.New("line 3: no such key"))
	check("0")
	if s := b.Status().Reload; s.OK || s.Error != "line 3: no such key" || s.Count != 0 || !s.LastOK.IsZero() {
		t.Errorf("%+v", s)
	}
	b.reload(t, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000")}, nil)
	check("1")
	if s := b.Status().Reload; !s.OK || s.Error != "" || s.Count != 1 || !s.LastOK.Equal(s.At) {
		t.Errorf("%+v", s)
	}
}
