package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestWhatIsNotAsItShouldBeIsListedOnePartALine(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Priv0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Spool: Spool{Dir: "/spool", Err: errors.New("read-only file system")}},
		[]mapping.SendRule{fake.SendRule(t, "waits", "a", "239.1.1.1:5000"), fake.SendRule(t, "well", "b", "239.1.1.1:5000", fake.OnPriv), fake.SendRule(t, "lowered", "c/#", "239.1.1.1:5000", fake.OnPriv)}, nil)
	troubled := []session.SubscriptionState{{Subscription: session.Subscription{Filter: "c/#"}, Active: true, Err: "granted with QoS 0, asked for 1"}}
	tell := func(broker BrokerStatus) (lines []string) {
		b.conditions(b.current().overview(broker, session.State{Troubled: troubled}, time.Now()), func(c Condition) { lines = append(lines, c.String()) })
		return lines
	}
	common := []string{
		"spool: pending: read-only file system",
		"rule waits: pending: " + b.Status().Rules[0].Reason,
		"rule lowered: degraded: the subscription to c/# is granted with QoS 0, asked for 1",
	}
	for _, c := range []struct {
		broker BrokerStatus
		want   []string
	}{
		{BrokerStatus{Connected: true}, common},
		{BrokerStatus{}, append([]string{"broker: pending: no connection to the broker"}, common...)},
		{BrokerStatus{Error: "refused"}, append([]string{"broker: pending: no connection to the broker: refused"}, common...)},
		{BrokerStatus{Connected: true, Unsteady: true, Losses: 12, LastLoss: "reset"},
			slices.Insert(slices.Clone(common), 0, "broker: degraded: the connection is lost again and again, 12 times lately: reset")},
		{BrokerStatus{Connected: true, Unanswered: 3}, append([]string{"subscriptions: pending: the broker has not confirmed 3 subscriptions yet"}, common...)},
	} {
		if diff := cmp.Diff(c.want, tell(c.broker)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.broker, diff)
		}
	}
	if r := b.readiness(b.current().overview(BrokerStatus{Connected: true}, session.State{}, time.Now())); r.Ready {
		t.Error("ready, though a rule is pending")
	}
}

// Subscriptions that the broker takes no more of are said in one line, and in one
// sentence for all rules; each rule is pending.
func TestSubscriptionsThatAreTooManyAreSaidOnce(t *testing.T) {
	const why = "no subscription: the broker takes only 1 on a connection"
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "had", "a", "239.1.1.1:5000"), fake.SendRule(t, "second", "b", "239.1.1.1:5000"), fake.SendRule(t, "third", "c/#", "239.1.1.1:5000"))
	state := session.State{Connected: true, Active: 1, Troubled: []session.SubscriptionState{
		{Subscription: session.Subscription{Filter: "b"}, Err: why, Surplus: true},
		{Subscription: session.Subscription{Filter: "c/#"}, Err: why, Surplus: true},
	}}
	r := b.readiness(b.current().overview(b.brokerStatus(state), state, time.Now()))
	want := Readiness{Conditions: []Condition{
		{Name: "subscriptions", Rule: "", State: account.StatePending, Reason: "2 are left out: " + why},
		{Name: "rule", Rule: "second", State: account.StatePending, Reason: why},
		{Name: "rule", Rule: "third", State: account.StatePending, Reason: why},
	}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := b.current().overview(BrokerStatus{}, state, time.Now()).sentences(r.Conditions), []string{"2 are left out: " + why, "2 rules are pending: " + why}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDegradedIsReady(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{Result: multicast.ProbeRefused, Detail: "a firewall"}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	want := Readiness{Ready: true, Conditions: []Condition{{Name: "rule", Rule: "r", State: account.StateDegraded, Reason: "a firewall"}}}
	if diff := cmp.Diff(want, b.readiness(b.current().overview(BrokerStatus{Connected: true}, session.State{}, time.Now()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The list ends somewhere, and what is pending is not crowded out by what is degraded.
func TestTheListOfConditionsIsBounded(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{Result: multicast.ProbeRefused, Detail: "a firewall"}}
	var rules []mapping.SendRule
	for i := range 2 * maxConditions {
		rules = append(rules, fake.SendRule(t, fmt.Sprint("degraded", i), fmt.Sprint("t/", i), "239.1.1.1:5000"))
	}
	for i := range maxConditions - 1 {
		rules = append(rules, fake.SendRule(t, fmt.Sprint("pending", i), fmt.Sprint("u/", i), "239.1.1.1:5000", fake.OnPriv))
	}
	r := newTestBridge(t, n, fake.Plenty, rules...).Readiness()
	pending := 0
	for _, c := range r.Conditions {
		if c.State == account.StatePending {
			pending++
		}
	}
	if len(r.Conditions) != maxConditions || pending != maxConditions || r.More != 2*maxConditions {
		t.Errorf("%d listed, %d of them pending, %d more; want %d, the broker and all rules that are pending, and %d more",
			len(r.Conditions), pending, r.More, maxConditions, 2*maxConditions)
	}
}

// A broker that refuses thousands of filters fills neither /status nor the time of who
// asks for it.
func TestRefusedFiltersInTheStatusAreBounded(t *testing.T) {
	b, state := refusing(t, 3*maxConditions)
	s := b.brokerStatus(state)
	if len(s.Refused) != maxConditions || s.MoreRefused != 2*maxConditions {
		t.Errorf("%d are listed, and %d more", len(s.Refused), s.MoreRefused)
	}
	r := b.readiness(b.current().overview(s, state, time.Now()))
	if len(r.Conditions) != maxConditions || r.More != 2*maxConditions {
		t.Errorf("%d conditions, and %d more", len(r.Conditions), r.More)
	}
}

// A broker that acknowledges nothing is told of, but not at once.
func TestABrokerThatAcknowledgesNothingIsACondition(t *testing.T) {
	b := newTestBridge(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	for ago, want := range map[time.Duration]int{0: 0, ackPatience - time.Second: 0, ackPatience + time.Second: 1} {
		state := session.State{Connected: true, Outstanding: 7}
		if ago > 0 {
			state.AcksSince = time.Now().Add(-ago)
		}
		got := b.conditionsOf("broker", state)
		if len(got) != want || want > 0 && (got[0].State != account.StateDegraded || got[0].Count != 7 || !got[0].Since.Equal(state.AcksSince) || !strings.Contains(got[0].Reason, "acknowledges no messages")) {
			t.Errorf("after %v: told %+v", ago, got)
		}
	}
}

// More than max_rate lets through is told of, when it is no burst.
func TestMoreThanMaxRateLetsThroughIsACondition(t *testing.T) {
	b := newTestBridge(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	for ago, want := range map[time.Duration]int{0: 0, pacePatience - time.Second: 0, pacePatience + time.Second: 1} {
		state := session.State{Connected: true, Outstanding: 7, Limits: session.Limits{MessageRate: 100}}
		if ago > 0 {
			state.PacedSince = time.Now().Add(-ago)
		}
		got := b.conditionsOf("broker", state)
		if len(got) != want || want > 0 && (got[0].State != account.StateDegraded || got[0].Count != 7 || !got[0].Since.Equal(state.PacedSince) || !strings.Contains(got[0].Reason, "broker.max_rate lets through, 100 a second")) {
			t.Errorf("after %v: told %+v", ago, got)
		}
	}
}

// A quota of the broker that is exceeded is told of at once.
func TestAQuotaThatIsExceededIsACondition(t *testing.T) {
	b := newTestBridge(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	state := session.State{Connected: true, Outstanding: 7, QuotaSince: time.Now()}
	got := b.conditionsOf("broker", state)
	if len(got) != 1 || got[0].State != account.StateDegraded || got[0].Count != 7 || !got[0].Since.Equal(state.QuotaSince) || !strings.Contains(got[0].Reason, "quota is exceeded") {
		t.Errorf("told %+v", got)
	}
}

// refusing is a bridge of so many rules, and the state of a session whose broker refuses
// the filters of all.
func refusing(t testing.TB, n int) (*Bridge, session.State) {
	state := session.State{Connected: true}
	var rules []mapping.SendRule
	for i := range n {
		filter := fmt.Sprint("site/", i, "/lamp/set")
		rules = append(rules, fake.SendRule(t, fmt.Sprint("r", i), filter, "239.1.1.1:5000"))
		state.Troubled = append(state.Troubled, session.SubscriptionState{Subscription: session.Subscription{Filter: filter}, Err: "not authorized"})
	}
	return newTestBridge(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, fake.Plenty, rules...), state
}

func BenchmarkReadinessOfRefusedFilters(b *testing.B) {
	bridge, state := refusing(b, 10_000)
	for b.Loop() {
		bridge.readiness(bridge.current().overview(bridge.brokerStatus(state), state, time.Now()))
	}
}
