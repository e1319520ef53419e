package receive_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func expects(d time.Duration) func(*mapping.ReceiveRule) {
	return func(r *mapping.ReceiveRule) { r.Expect = d }
}

// pass lets time go by, with the looks of each second.
func (b *rig) pass(d time.Duration) {
	for range int(d / time.Second) {
		synctest.Wait()
		time.Sleep(time.Second)
		b.receive.WatchSilence(time.Now())
		select {
		case <-b.changed:
			b.reconcile(context.Background())
		default:
		}
	}
	synctest.Wait()
}

// state is that of the first rule.
func (b *rig) state() string {
	s := b.Status().Receive[0]
	judged, why := b.working.Rules[0].Judge(time.Now())
	if judged != s.State || why != s.Reason {
		return fmt.Sprintf("%s %s, judged %s %s", s.State, s.Reason, judged, why)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", s.State, s.Reason))
}

func wantState(t *testing.T, b *rig, want string) {
	t.Helper()
	if got := b.state(); got != want {
		t.Errorf("state %q, want %q", got, want)
	}
}

// A silence counts from the last datagram that the rule takes, or since it is up; while it is
// longer than expected the rule is degraded, and it joins once anew.
func TestALongSilenceIsAState(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", expects(5*time.Second)),
		fake.ReceiveRule(t, "b", "239.1.1.1:5000", "b"),
	}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		start := time.Now()
		b.pass(6 * time.Second)
		wantState(t, b, "up")
		b.pass(time.Second)
		at := func(d time.Duration) string { return start.Add(d).Format(time.TimeOnly) } // wherever this runs
		never := "degraded nothing was heard since the rule is up, at " + at(time.Second) + ", which is longer than 5s (expect)"
		wantState(t, b, never)
		inSince := func(d time.Duration) {
			t.Helper()
			if got := b.Status().Receive[0].Since.Sub(start); got != d {
				t.Errorf("in this state since %v, want %v", got, d)
			}
		}
		inSince(7 * time.Second)
		b.pass(time.Hour)
		inSince(7 * time.Second)
		wantState(t, b, never)
		b.reconcile(t.Context()) // a look for another reason
		s := b.Status().Receive
		if since := s[0].SilentSince; !since.Equal(start.Add(time.Second)) || s[1].State != account.StateUp || !s[1].SilentSince.IsZero() {
			t.Errorf("%+v", s)
		}
		if got := r.CountRejoins(); got != 1 {
			t.Errorf("%d joins anew, want 1 for one silence", got)
		}
		r.Hear(fake.Device, "1")
		b.pass(time.Second)
		wantState(t, b, "up")
		inSince(time.Hour + 8*time.Second)
		b.pass(5 * time.Second)
		inSince(time.Hour + 13*time.Second)
		wantState(t, b, "degraded nothing is heard since "+at(time.Hour+7*time.Second)+", which is longer than 5s (expect)")
		if got := r.CountRejoins(); got != 2 {
			t.Errorf("%d joins anew, want one for each silence", got)
		}
	})
}

// What a rule does not take is no sign of what it expects.
func TestWhatARuleDoesNotTakeEndsNoSilence(t *testing.T) {
	rule := fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", expects(5*time.Second), func(r *mapping.ReceiveRule) {
		r.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.8/31")}
		if err := r.When.UnmarshalText([]byte("u8@0 != 0x78")); err != nil {
			t.Fatal(err)
		}
	})
	receiving(t, rigOptions{}, nil, []mapping.ReceiveRule{rule}, func(b *rig, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		for range 7 {
			r.Hear("172.17.0.77:1", "another's")
			r.Hear("172.17.0.9:1", "x is not meant")
			b.pass(time.Second)
		}
		if got := b.state(); !strings.HasPrefix(got, "degraded nothing was heard") {
			t.Errorf("state %q", got)
		}
		r.Hear("172.17.0.9:1", "its own")
		b.pass(time.Second)
		wantState(t, b, "up")
	})
}

// While the rule waits for its interface nothing is expected, and then anew.
func TestAPendingRuleIsNotSilent(t *testing.T) {
	rule := fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", expects(5*time.Second))
	receiving(t, rigOptions{}, nil, []mapping.ReceiveRule{rule}, func(b *rig, n *fake.Network) {
		start := time.Now()
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
		b.pass(7 * time.Second)
		if got := b.state(); !strings.HasPrefix(got, "degraded nothing is heard") {
			t.Errorf("state %q", got)
		}
		down := fake.Iso0
		down.Carrier = false
		n.Present = []multicast.Interface{down}
		b.reconcile(t.Context())
		b.pass(time.Minute)
		if got := b.state(); !strings.HasPrefix(got, "pending interface iso0") {
			t.Errorf("state %q", got)
		}
		n.Present = []multicast.Interface{fake.Iso0}
		b.reconcile(t.Context())
		wantState(t, b, "up")
		b.pass(6 * time.Second)
		wantState(t, b, "up")
		b.pass(time.Second)
		if got := b.state(); !strings.HasPrefix(got, "degraded nothing was heard since the rule is up, at "+start.Add(68*time.Second).Format(time.TimeOnly)+",") {
			t.Errorf("state %q", got)
		}
	})
}

// A stream that ends some minutes after the join, and comes back with a new one, is what a
// switch without a querier makes of it.
func TestASwitchWithoutQuerierIsGuessed(t *testing.T) {
	const guess = "; it ended %v after the join: a switch with IGMP or MLD snooping, and no querier on the network, forgets who listens after 125 to 260 seconds"
	for _, tt := range []struct {
		after time.Duration
		port  bool
		want  bool
	}{
		{60 * time.Second, false, false}, {119 * time.Second, false, false}, {125 * time.Second, false, true}, {260 * time.Second, false, true},
		{300 * time.Second, false, false}, {time.Hour, false, false}, {260 * time.Second, true, false},
	} {
		rule := fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", expects(5*time.Second))
		if tt.port {
			rule = portRule(t, "a", "a", expects(5*time.Second))
		}
		receiving(t, rigOptions{}, nil, []mapping.ReceiveRule{rule}, func(b *rig, n *fake.Network) {
			r := n.OpenReceivers()[0]
			hears := func(d time.Duration) {
				for range int(d / time.Second) {
					b.pass(time.Second)
					r.Hear(fake.Device, "1")
				}
			}
			hears(tt.after)
			b.pass(6 * time.Second)
			got := b.state()
			if !strings.HasPrefix(got, "degraded nothing is heard since ") || strings.HasSuffix(got, fmt.Sprintf(guess, tt.after)) != tt.want || strings.Contains(got, "snooping") != tt.want {
				t.Errorf("after %v: %s", tt.after, got)
			}
			if !tt.want {
				return
			}
			hears(tt.after) // counted from the new join
			b.pass(6 * time.Second)
			if got := b.state(); !strings.HasSuffix(got, "; a new join has brought it back before, times: 1") {
				t.Errorf("after another %v: %s", tt.after, got)
			}
		})
	}
}

// A word below the status topic tells of the rule: when it changes, at each connection, and
// again where it was lost. It goes with the rule.
func TestAWordIsToldOfARuleThatExpectsSomething(t *testing.T) {
	rule := fake.ReceiveRule(t, "a+b/c", "239.1.1.1:5000", "a", expects(5*time.Second))
	other := fake.ReceiveRule(t, "other", "239.1.1.1:5000", "b")
	var log bytes.Buffer
	o := rigOptions{Status: "gw/status", Logger: slog.New(slog.NewTextHandler(&log, nil))}
	receiving(t, o, nil, []mapping.ReceiveRule{rule, other}, func(b *rig, n *fake.Network) {
		told := 0
		words := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for i, line := range b.publisher().Published()[told:] {
				if strings.HasPrefix(line, "gw/status/") {
					m := b.publisher().Batch(told + i)
					got = append(got, line)
					if !m.Retain || m.QoS != 1 {
						t.Errorf("%s: QoS %d, retain %t", line, m.QoS, m.Retain)
					}
				}
			}
			told = len(b.publisher().Published())
			if !slices.Equal(got, want) {
				t.Errorf("words %q, want %q", got, want)
			}
		}
		answer := func(err error) {
			b.publisher().Mu.Lock()
			origins := b.publisher().Origins
			b.publisher().Origins = nil
			b.publisher().Mu.Unlock()
			for _, o := range origins {
				if err != nil {
					o.Lost(1, 1, err)
				} else {
					o.Published(1, 1)
				}
			}
		}
		const topic = "gw/status/rule/a_b/c "
		b.pass(10 * time.Second)
		words() // there is no connection
		b.connect(true)
		b.pass(time.Second)
		words(topic + "silent")
		b.pass(time.Minute)
		words() // while it is on its way
		answer(session.ErrNotConnected)
		b.pass(time.Second)
		words(topic + "silent")
		answer(nil)
		b.pass(time.Minute)
		words()
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
		b.pass(time.Second)
		words(topic + "heard")
		answer(nil)
		b.connect(false)
		b.connect(true)
		b.pass(time.Second)
		words(topic + "heard")
		answer(nil)
		b.reload(t, nil, []mapping.ReceiveRule{other})
		b.pass(time.Second)
		words(topic)
		answer(session.ErrNotConnected)
		b.pass(time.Second)
		words(topic) // once more, for nobody else knows of it
		answer(session.ErrNotConnected)
		b.reload(t, nil, []mapping.ReceiveRule{rule})
		b.pass(10 * time.Second)
		words(topic + "silent")
		answer(session.ErrRefused)
		b.pass(time.Minute)
		b.connect(true)
		b.pass(time.Minute)
		words() // which would cost a connection each time
		if got := strings.Count(log.String(), "the broker refuses what is told of rules"); got != 1 {
			t.Errorf("%d lines tell of the refusal:\n%s", got, log.String())
		}
	})
}

// While a rule cannot hear, the word that was told last stands.
func TestAPendingRuleTellsNothing(t *testing.T) {
	rule := fake.ReceiveRule(t, "a", "239.1.1.1:5000", "a", expects(5*time.Second))
	receiving(t, rigOptions{Status: "gw"}, nil, []mapping.ReceiveRule{rule}, func(b *rig, n *fake.Network) {
		b.connect(true)
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1")
		for range 10 {
			b.pass(time.Second)
			b.publisher().Mu.Lock()
			origins := b.publisher().Origins
			b.publisher().Origins = nil
			b.publisher().Mu.Unlock()
			for _, o := range origins {
				o.Published(1, 1)
			}
		}
		down := fake.Iso0
		down.Carrier = false
		n.Present = []multicast.Interface{down}
		b.reconcile(t.Context())
		b.pass(time.Minute)
		synctest.Wait()
		var words []string
		for _, line := range b.publisher().Published() {
			if strings.HasPrefix(line, "gw/rule/a ") {
				words = append(words, line)
			}
		}
		if want := []string{"gw/rule/a heard", "gw/rule/a silent"}; !slices.Equal(words, want) {
			t.Errorf("words %q, want %q", words, want)
		}
	})
}

// Of many rules that fall silent together the log has one line.
func TestManySilentRulesAreOneLine(t *testing.T) {
	var log bytes.Buffer
	var rules []mapping.ReceiveRule
	for i := range 20 {
		rules = append(rules, fake.ReceiveRule(t, fmt.Sprint("r", i), "239.1.1.1:5000", "a", expects(5*time.Second)))
	}
	receiving(t, rigOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil, rules, func(b *rig, n *fake.Network) {
		b.pass(10 * time.Second)
		if got := strings.Count(log.String(), "degraded: nothing is heard"); got != 1 || !strings.Contains(log.String(), "rule=r0") || !strings.Contains(log.String(), "more_rules=19") {
			t.Errorf("%d lines:\n%s", got, log.String())
		}
	})
}
