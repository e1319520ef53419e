package bridge

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// conditionsOf are those of a name, as /readyz has them, while the broker is there.
func (b *Bridge) conditionsOf(name string, state session.State) (all []Condition) {
	b.conditions(b.current().overview(BrokerStatus{Connected: true}, state, time.Now()), func(c Condition) {
		if c.Name == name {
			all = append(all, c)
		}
	})
	return all
}

// The broker's window is full of what waits for one interface: that is the cause why
// nothing comes for the others.
func TestTheRuleThatWithholdsAcknowledgementsIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Priv0}}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "away", "a", "239.1.1.1:5000"), fake.SendRule(t, "well", "b", "239.1.1.2:5000", fake.OnPriv),
			fake.SendRule(t, "also", "c", "239.1.1.1:5000", func(r *mapping.SendRule) { r.Binding.TTL = 7 }))
		held := func(n int) []Condition {
			return b.conditionsOf("acknowledgements", session.State{Connected: true, Held: n})
		}
		began := time.Now()
		b.send.Handle([]session.Message{fake.Message("a", "1", 1), fake.Message("b", "2", 1)})
		time.Sleep(time.Second)
		b.send.Handle([]session.Message{fake.Message("c", "3", 1)})
		if got := held(20); got != nil {
			t.Errorf("told after a second: %v", got)
		}
		time.Sleep(withheldPatience)
		got := held(20)
		if len(got) != 1 || got[0].Rule != "away" || got[0].Count != 20 || !got[0].Since.Equal(began) || got[0].State != account.StateDegraded {
			t.Fatalf("told %+v", got)
		}
		for _, want := range []string{"20 messages", "rule away", b.Status().Rules[0].Reason, "1 more", "with a spool"} {
			if !strings.Contains(got[0].Reason, want) {
				t.Errorf("%q does not say %q", got[0].Reason, want)
			}
		}
		if got := held(0); got != nil {
			t.Errorf("told of nothing: %v", got)
		}
		n.Set(fake.Iso0, fake.Priv0)
		b.reconcile(t.Context())
		time.Sleep(time.Second)
		if got := held(1); got != nil {
			t.Errorf("told when nothing waits: %v", got)
		}
		n.LastSocket().Allow(0, multicast.ErrNoBuffer)
		for _, s := range n.Sockets {
			s.Allow(0, multicast.ErrNoBuffer)
		}
		b.send.Handle([]session.Message{fake.Message("b", "4", 1)})
		b.watching(withheldPatience + time.Second)
		if got := held(1); len(got) != 1 || got[0].Rule != "well" || !strings.Contains(got[0].Reason, "takes no datagrams") {
			t.Errorf("told %+v of a queue that is full", got)
		}
	})
}

// What there is no room for stays with the broker, and that shows.
func TestMessagesThatStayWithTheBrokerAreCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Priv0}}
		b := newTestBridge(t, n, 40_000, fake.SendRule(t, "away", "a", "239.1.1.1:5000"), fake.SendRule(t, "too", "c", "239.1.1.3:5000"), fake.SendRule(t, "well", "b", "239.1.1.2:5000", fake.OnPriv))
		left := func() []Condition { return b.conditionsOf("queue", session.State{Connected: true}) }
		if got := left(); got != nil {
			t.Errorf("told %v", got)
		}
		began := time.Now()
		const messages = 400
		for i := range messages {
			b.send.Handle([]session.Message{fake.Message("a", fmt.Sprint(i), 2)})
		}
		for range 20 { // the first have the room that is kept for their rule
			b.send.Handle([]session.Message{fake.Message("c", "x", 1)})
		}
		waits, too := b.current().send.Rules[0].InMemory(), b.current().send.Rules[1].InMemory()
		if waits == 0 || waits == messages || too == 0 || too >= 20 {
			t.Fatalf("%d and %d wait", waits, too)
		}
		got := left()
		if len(got) != 2 || got[0].Rule != "away" || got[0].Count != messages-waits || got[0].Since.Sub(began).Abs() > time.Second || got[1].Rule != "too" || got[1].Count != 20-too {
			t.Fatalf("told %+v", got)
		}
		if n := gaugeOf(t, b, descLeft); n != float64(messages-waits+20-too) {
			t.Errorf("the metric counts %v, want %d", n, messages-waits+20-too)
		}
		for _, want := range []string{fmt.Sprintf("%d messages of rule away", messages-waits), "what waits for rule away: " + b.Status().Rules[0].Reason, "queue.size"} {
			if !strings.Contains(got[0].Reason, want) {
				t.Errorf("%q does not say %q", got[0].Reason, want)
			}
		}
		r := b.readiness(b.current().overview(BrokerStatus{Connected: true}, session.State{Connected: true}, time.Now()))
		if r.Ready {
			t.Error("ready, though what comes is not taken")
		}
		if why := b.current().overview(BrokerStatus{}, session.State{}, time.Now()).sentences(r.Conditions); !strings.Contains(strings.Join(why, "|"), got[0].Reason) || !strings.Contains(strings.Join(why, "|"), "1 more") {
			t.Errorf("sentences %q", why)
		}
		n.Set(fake.Iso0, fake.Priv0)
		b.reconcile(t.Context())
		time.Sleep(time.Second)
		if got := left(); len(got) != 2 || !strings.Contains(got[0].Reason, "there is room again") {
			t.Errorf("told %+v when there is room", got)
		}
		b.send.ClearRedelivery() // on the next connection the broker repeats them
		if got := left(); got != nil {
			t.Errorf("told %+v when they are repeated", got)
		}
		if n := gaugeOf(t, b, descLeft); n != 0 {
			t.Errorf("the metric counts %v when they are repeated", n)
		}
		for _, r := range b.current().send.Rules {
			if n, _ := r.LeftWithBroker(time.Now()); n != 0 {
				t.Errorf("%d messages of rule %s count as left when they are repeated", n, r.Name)
			}
		}
	})
}

// gaugeOf is the value of a metric that is not of a rule.
func gaugeOf(t *testing.T, b *Bridge, desc *prometheus.Desc) float64 {
	t.Helper()
	all := make(chan prometheus.Metric, 100)
	b.Collect(all)
	close(all)
	for m := range all {
		if m.Desc() == desc {
			var value dto.Metric
			if err := m.Write(&value); err != nil {
				t.Fatal(err)
			}
			return value.GetGauge().GetValue()
		}
	}
	t.Fatalf("no %v", desc)
	return 0
}
