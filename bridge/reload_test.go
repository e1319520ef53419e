package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// reload puts other rules to work.
func (b *Bridge) reload(t testing.TB, send []mapping.SendRule, receive []mapping.ReceiveRule) {
	t.Helper()
	checkSeries(t, b)
	table, err := mapping.Compile(send, receive)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context(), table); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsUnchangedDoesNotNoticeAReload(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	one, two := fake.SendRule(t, "one", "a/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "two", "b", "239.1.1.1:5000", fake.OnPriv)
	hear, many := fake.ReceiveRule(t, "hear", "239.2.1.1:5000", "heard"), fake.ReceiveRule(t, "many", "239.2.1.1-239.2.1.3:5000", "many")
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty}, []mapping.SendRule{one, two}, []mapping.ReceiveRule{hear, many})
	first := b.current()
	for name, c := range map[string]struct {
		send    []mapping.SendRule
		receive []mapping.ReceiveRule
	}{
		"the same":    {[]mapping.SendRule{one, two}, []mapping.ReceiveRule{hear, many}},
		"in disorder": {[]mapping.SendRule{two, one}, []mapping.ReceiveRule{many, hear}},
		"more": {[]mapping.SendRule{fake.SendRule(t, "new", "c", "239.1.1.9:5000"), one, two},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "new in", "239.2.1.2:5000", "new"), hear, many}},
		"changed": {[]mapping.SendRule{fake.SendRule(t, "one", "a/{id}", "239.7.7.7:5000"), two},
			[]mapping.ReceiveRule{fake.ReceiveRule(t, "hear", "239.2.1.1:5000", "elsewhere"), many}},
		"less": {[]mapping.SendRule{one, fake.SendRule(t, "other", "b", "239.1.1.1:5000", fake.OnPriv)}, []mapping.ReceiveRule{many}},
	} {
		t.Run(name, func(t *testing.T) {
			b.reload(t, c.send, c.receive)
			g := b.current()
			if i := slices.IndexFunc(g.receive.Rules, func(r *receive.Rule) bool { return r.Name == "many" }); g.receive.Rules[i] != first.receive.Rules[1] {
				t.Error("an unchanged receive rule is another")
			}
			if sockets, receivers, inUse := n.Opened(); sockets != 2 || receivers != 3 || inUse != 5 {
				t.Errorf("opened %d sockets and %d receivers, of which %d are in use; want 2, 3 and 5 for all the time", sockets, receivers, inUse)
			}

		})
	}
}

func TestCountersOutliveAReload(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty},
		[]mapping.SendRule{fake.SendRule(t, "kept", "a/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "moved", "b/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "gone", "c/{id}", "239.1.1.{id}:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.1:5000", "in"), fake.ReceiveRule(t, "in gone", "239.2.1.2:5000", "in")})
	for _, topic := range []string{"a/1", "a/300", "b/1", "b/300", "c/1", "c/300"} {
		b.send.Handle([]session.Message{fake.Message(topic, "x", 1)})
	}
	n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3")
	fake.WaitFor(t, "three datagrams", func() bool { return b.Status().Receive[0].Received == 3 })
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "moved", "b/#", "239.9.9.9:5000", fake.OnPriv), fake.SendRule(t, "kept", "a/{id}", "239.1.1.{id}:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.7:5000", "other")})
	b.send.Handle([]session.Message{fake.Message("a/2", "x", 1), fake.Message("b/2", "x", 1)})
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
	// Of rules that are gone only what was lost is there.
	text := metrics.String()
	const lost = `topicast_drops_total{direction="send",rule="gone",reason="bad_group"} 1`
	if strings.Count(text, "gone") != 1 || !strings.Contains(text, lost) || !strings.Contains(text, `topicast_messages_received_total{rule="moved"} 3`) {
		t.Errorf("metrics:\n%s", text)
	}
}

func TestAReloadWithoutARunningBridgeChangesNothing(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	next, err := mapping.Compile([]mapping.SendRule{fake.SendRule(t, "other", "t", "239.1.1.1:5000", fake.OnPriv)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	was, running := b.current(), b.running
	b.attach(nil)
	if err := b.Reload(t.Context(), next); err == nil || b.current() != was {
		t.Errorf("err %v", err)
	}
	b.attach(running)
	n.InterfacesErr = errors.New("netlink says no")
	if err := b.Reload(t.Context(), next); err == nil || b.current() != was {
		t.Errorf("err %v without interfaces", err)
	}
	if s := b.Status().Reload; s.OK || s.Error != "list the interfaces: netlink says no" {
		t.Errorf("%+v", s)
	}
}

func TestARefusedConfigurationShows(t *testing.T) {
	b := newTestBridge(t, &fake.Network{}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
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
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	check("1")
	if s := b.Status().Reload; !s.OK || s.Error != "" || s.Count != 1 || !s.LastOK.Equal(s.At) {
		t.Errorf("%+v", s)
	}
}
