package main

import (
	"fmt"
	"strings"
	"testing"
)

// Without a spool one interface that is away fills what the broker keeps on its way to us,
// so that nothing comes for other rules: that is said, with the rule that is the cause.
func TestTheRuleThatFillsTheBrokersWindowIsNamed(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSystem(t, manyLamps)
	s.startBroker("max_inflight_messages 20")
	s.startBridge()
	s.ready()
	s.GW.Down("iso0")
	publisher := s.client("backend")
	for n := range 30 {
		s.publish(publisher, "lamps/1", fmt.Append(nil, n))
	}
	const window = 20
	s.eventually("the cause is told", func() error {
		_, body, err := s.get("/readyz")
		if want := fmt.Sprintf("\nacknowledgements lamps: degraded: %d messages of the broker are not acknowledged; the oldest waits in memory for rule lamps since ", window); err != nil || !strings.Contains(body, want) {
			return fmt.Errorf("/readyz: %s %v", body, err)
		}
		return nil
	})
	if got := s.metrics()["topicast_unacknowledged_messages"]; got != window {
		t.Errorf("topicast_unacknowledged_messages is %v", got)
	}
	if got := s.status().Broker.Unacknowledged; got != window {
		t.Errorf("unacknowledged: %v", got)
	}
	s.GW.Up("iso0")
	s.ready()
	s.eventually("nothing is withheld", func() error {
		if m := s.metrics(); m["topicast_unacknowledged_messages"] != 0 || m["topicast_left_messages"] != 0 {
			return fmt.Errorf("%v and %v", m["topicast_unacknowledged_messages"], m["topicast_left_messages"])
		}
		if _, body, _ := s.get("/readyz"); strings.Contains(body, "acknowledgements") {
			return fmt.Errorf("/readyz: %s", body)
		}
		return nil
	})
	s.eventually("all have left", func() error {
		if r := s.rule("lamps"); r.Sent != 30 {
			return fmt.Errorf("%d sent, drops %v", r.Sent, r.Drops)
		}
		return nil
	})
}
