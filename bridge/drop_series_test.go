package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// counted are the reasons that a rule's counters had when it was looked at last; a reload
// may have changed the rule since.
var counted sync.Map // of [account.NumReasons]bool, by *account.Counters

// checkSeries holds, at the end of every test with a bridge, that each reason that was
// counted is one that can happen to the rule as it is configured: then its series was
// there before, with 0.
func checkSeries(t testing.TB, b *Bridge) {
	t.Helper()
	check := func(rule string, of *account.Counters, can func(account.Reason) bool) {
		was, _ := counted.LoadOrStore(of, [account.NumReasons]bool{})
		known := was.([account.NumReasons]bool)
		for why := range of.All() {
			if !known[why] && !can(why) {
				t.Errorf("rule %s: %s was counted, and had no series before", rule, why)
			}
			known[why] = true
		}
		counted.Store(of, known)
	}
	g := b.current()
	for _, r := range g.send.Rules {
		check(r.Name, &r.Counters, r.CanCount)
	}
	for _, r := range g.receive.Rules {
		check(r.Name, &r.Counters, r.CanCount)
	}
}

// series are the samples of drops and of what was filtered.
func (b *Bridge) series(t testing.TB) map[string]string {
	t.Helper()
	var text strings.Builder
	if err := b.WriteRules(&text); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for line := range strings.Lines(text.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && (strings.HasPrefix(name, "topicast_drops_total{") || strings.HasPrefix(name, "topicast_filtered_total{")) {
			if was, twice := found[name+"}"]; twice {
				t.Errorf("%s} is there twice, with %s and %s", name, was, value)
			}
			found[name+"}"] = value
		}
	}
	return found
}

// seriesOf are the reasons of a rule, with what each counts.
func (b *Bridge) seriesOf(t testing.TB, direction, rule string) string {
	t.Helper()
	var drops, filtered []string
	for sample, value := range b.series(t) {
		labels := fmt.Sprintf(`_total{direction=%q,rule=%q,reason="`, direction, rule)
		name, reason, ofRule := strings.Cut(strings.TrimSuffix(sample, `"}`), labels)
		switch {
		case !ofRule:
		case name == "topicast_drops":
			drops = append(drops, reason+" "+value)
		default:
			filtered = append(filtered, reason+" "+value)
		}
	}
	slices.Sort(drops)
	slices.Sort(filtered)
	return strings.Join(drops, ", ") + "; " + strings.Join(filtered, ", ")
}

func TestTheSeriesOfARuleAreThereFromItsStart(t *testing.T) {
	send := []mapping.SendRule{
		fake.SendRule(t, "plain", "a", "239.1.1.1:5000"),
		fake.SendRule(t, "all", "b/{id}", "239.1.1.{id}:5000", fake.MaxAge(time.Hour), func(r *mapping.SendRule) {
			r.Payload, _ = mapping.ParsePayload("hex")
		}),
		fake.SendRule(t, "latest", "c", "239.1.1.1:5000", fake.OnDown(mapping.OnDownLatest), func(r *mapping.SendRule) { r.Retained = mapping.RetainedAlways }),
		fake.SendRule(t, "cycle", "d", "239.2.1.9:5000"),
	}
	receive := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "qos 0", "239.2.1.1:5000", "fixed", func(r *mapping.ReceiveRule) { r.QoS = 0 }),
		fake.ReceiveRule(t, "qos 1", "239.2.1.2:5000", "in/{source}", func(r *mapping.ReceiveRule) { r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")} }),
		fake.ReceiveRule(t, "paced", "239.2.1.3:5000", "paced", func(r *mapping.ReceiveRule) { r.QoS, r.OnChange, r.Every, r.DropEmpty = 0, true, time.Hour, true }),
		fake.ReceiveRule(t, "back", "239.2.1.9:5000", "d"),
	}
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Loops: guardedLoops, Spool: Spool{On: fake.OpenSpool(t, t.TempDir(), 1<<20), MaxAge: time.Hour}}, send, receive)
	always := "expired 0, firewall 0, flushed 0, no_buffer 0, oversize 0, "
	for _, c := range []struct{ direction, rule, want string }{
		{"send", "plain", always + "pending 0, queue_full 0, refused 0, removed 0, spool_failed 0, spool_full 0, stopped 0; retained 0"},
		{"send", "all", "bad_group 0, bad_payload 0, " + always + "pending 0, queue_full 0, refused 0, removed 0, spool_failed 0, spool_full 0, stopped 0; retained 0"},
		{"send", "latest", always + "queue_full 0, refused 0, removed 0, spool_failed 0, spool_full 0, stopped 0; superseded 0"},
		{"send", "cycle", always + "pending 0, queue_full 0, refused 0, removed 0, spool_failed 0, spool_full 0, stopped 0; loop 0, retained 0"},
		{"receive", "qos 0", "breaker 0, broker_refused 0, offline 0, receive_buffer 0, stopped 0; own 0"},
		{"receive", "qos 1", "bad_topic 0, breaker 0, broker_refused 0, expired 0, flushed 0, offline 0, queue_full 0, receive_buffer 0, spool_failed 0, spool_full 0, stopped 0; own 0, source 0"},
		{"receive", "paced", "breaker 0, broker_refused 0, offline 0, queue_full 0, receive_buffer 0, stopped 0; empty 0, own 0, superseded 0, unchanged 0"},
		{"receive", "back", "breaker 0, broker_refused 0, expired 0, flushed 0, offline 0, queue_full 0, receive_buffer 0, spool_failed 0, spool_full 0, stopped 0; loop 0, own 0"},
		{"send", "", "expired 0, flushed 0, no_rule 0, removed 0, spool_failed 0, spool_full 0, stopped 0; "},
		{"receive", "", "broker_refused 0, expired 0, flushed 0, offline 0, spool_failed 0, spool_full 0, stopped 0; "},
	} {
		if got := sortedDrops(b.seriesOf(t, c.direction, c.rule)); got != sortedDrops(c.want) {
			t.Errorf("%s %q:\n%s, want\n%s", c.direction, c.rule, got, sortedDrops(c.want))
		}
	}
}

// sortedDrops puts the reasons before and after the semicolon in order.
func sortedDrops(series string) string {
	drops, filtered, _ := strings.Cut(series, "; ")
	all := strings.Split(drops, ", ")
	slices.Sort(all)
	return strings.Join(all, ", ") + "; " + filtered
}

func TestTheSeriesOfRulesFollowAReload(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "kept", "a/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "old name", "b", "239.1.1.1:5000"), fake.SendRule(t, "gone", "c", "239.1.1.1:5000"))
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	b.send.Handle([]session.Message{fake.Message("a/300", "x", 1), fake.Message("c", "waits", 1)})
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "kept", "a/#", "239.1.1.1:5000"), fake.SendRule(t, "new name", "b", "239.1.1.1:5000"), fake.SendRule(t, "added", "d", "239.1.1.1:5000")}, nil)
	const fresh = "expired 0, firewall 0, flushed 0, no_buffer 0, oversize 0, pending 0, queue_full 0, refused 0, removed 0, stopped 0; retained 0"
	for rule, want := range map[string]string{
		"kept":     "bad_group 1, " + fresh, // it cannot happen any more, and a counter does not go away
		"new name": fresh,
		"added":    fresh,
		"old name": "; ",
		"gone":     "removed 1; ", // what waited for it
		"":         "expired 0, flushed 0, no_rule 0, removed 0, spool_failed 0, spool_full 0, stopped 0; ",
	} {
		if got := b.seriesOf(t, "send", rule); got != want {
			t.Errorf("rule %q:\n%s, want\n%s", rule, got, want)
		}
	}
}

func TestWhatIsLostOfAReceiveRuleThatIsGoneIsCounted(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")}
	b := newTestBridgeOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, Options{QueueSize: fake.Plenty}, nil, rules)
	r := b.current().receive.Rules[0]
	b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "other", "239.1.1.2:5000", "t")})
	r.Lost(2, 0, session.ErrNotConnected)
	r.Lost(3, 0, session.ErrStopped)
	if got, want := b.seriesOf(t, "receive", "r"), "offline 2, stopped 3; "; got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
}
