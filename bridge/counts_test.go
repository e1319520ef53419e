package bridge

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What the page draws is what the status counts, of both directions, and makes no garbage.
func TestTheCountsOfRulesAreThoseOfTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty},
			[]mapping.SendRule{fake.SendRule(t, "lamps", "d/{id}", "239.7.7.{id}:5000")}, []mapping.ReceiveRule{fake.ReceiveRule(t, "meters", "239.2.1.1:5000", "m")})
		b.send.Handle([]session.Message{fake.Message("d/1", "x", 1), fake.Message("d/2", "x", 1), fake.Message("d/300", "x", 1)})
		n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "x")
		synctest.Wait()
		got := slices.Collect(b.Counts())
		s := b.Status()
		want := []RuleCounts{{"send", "lamps", 3, 2, 1}, {"receive", "meters", 1, s.Receive[0].Published, 0}}
		if !slices.Equal(got, want) || s.Rules[0].Received != 3 || s.Rules[0].Sent != 2 || s.Receive[0].Received != 1 {
			t.Errorf("%+v, want %+v", got, want)
		}
		for range b.Counts() {
			break // one that stops early is no trouble
		}
		if made := testing.AllocsPerRun(10, func() {
			for range b.Counts() {
			}
		}); made > 4 {
			t.Errorf("%v allocations", made)
		}
	})
}

func TestARuleThatIsInForceIsToldByItsKeys(t *testing.T) {
	o := Options{QueueSize: fake.Plenty, Keys: func(rule any) []Key {
		if r, is := rule.(*mapping.SendRule); is {
			return []Key{{Key: "ttl", Value: fmt.Sprint(r.Binding.TTL)}}
		}
		return []Key{{Key: "qos", Value: fmt.Sprint(rule.(*mapping.ReceiveRule).QoS)}}
	}}
	b := newTestBridgeOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, o,
		[]mapping.SendRule{fake.SendRule(t, "out", "a", "239.1.1.1:5000")}, []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.1:5000", "b")})
	for name, want := range map[string]string{"out": "ttl 1", "in": "qos 1"} {
		keys, ok := b.Effective(name)
		if !ok || len(keys) != 1 || keys[0].Key+" "+keys[0].Value != want {
			t.Errorf("%s: %+v %v, want %s", name, keys, ok, want)
		}
	}
	if _, ok := b.Effective("other"); ok {
		t.Error("a rule that is not there")
	}
}
