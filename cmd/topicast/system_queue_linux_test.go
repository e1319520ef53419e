package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// What there is no room for, and no disk, is left to the broker: it comes again when
// there is room, in its order. mosquitto hands out 20 messages of 20 kB before it
// waits for an acknowledgement; the queue has room for three.
func TestWhatTheQueueCannotHoldIsLeftToTheBroker(t *testing.T) {
	s := newSystem(t, "  - { name: q, filter: q, group: '239.1.2.3:5000', source: 172.17.0.1, interface: iso0 }\nqueue: { size: 64KiB }\n")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	s.startAll()
	publisher := s.client("backend")
	s.GW.Down("iso0")
	s.eventually("the rule is pending", func() error {
		if got := s.rule("q"); got.State != "pending" {
			return fmt.Errorf("it is %s", got.State)
		}
		return nil
	})
	const total = 60
	padding := strings.Repeat("p", 20_000)
	for n := range total {
		s.publish(publisher, "q", append(netlab.Numbered("q"+padding, n), '\n'))
	}
	s.GW.Up("iso0")
	var tally netlab.Tally
	device.Watch(func(r netlab.Received) bool {
		tally.Note([]byte(strings.TrimRight(strings.Replace(string(r.Payload), padding, "", 1), "\n")))
		return tally.Received-tally.Duplicates == total || t.Failed()
	})
	if missing := tally.Missing("q", total); missing != nil || tally.Disorders > 0 {
		t.Errorf("missing %v; %v", missing, &tally)
	}
	s.balanced("q")
	if got := s.rule("q"); got.Drops != nil {
		t.Errorf("drops %v", got.Drops)
	}
}

// balanced waits until all that a rule has received is accounted for, as docs/monitoring.md says,
// some of it left with the broker and received again.
func (s *system) balanced(rule string) {
	s.eventually("what was received is accounted for", func() error {
		r := s.rule(rule)
		accounted := r.Sent + r.Left + uint64(r.WaitingMemory) + uint64(r.WaitingDisk)
		for _, counts := range []map[string]uint64{r.Drops, r.Filtered} {
			for _, n := range counts {
				accounted += n
			}
		}
		if r.Received != accounted || r.Left == 0 {
			return fmt.Errorf("%d received, %d accounted for, %d of them left with the broker", r.Received, accounted, r.Left)
		}
		return nil
	})
	if m := s.metrics(); m[`topicast_messages_left_total{rule="`+rule+`"}`] == 0 {
		s.t.Error("the metric does not count what was left with the broker")
	}
}

// Of QoS 2 a broker repeats nothing that it has a PUBREC for, so what there is no room
// for must be without one. The rule beside it, on another interface, goes on meanwhile.
func TestWhatTheQueueCannotHoldOfQoS2IsLeftToTheBroker(t *testing.T) {
	s := newSystem(t, "  - { name: q, filter: q, qos: 2, group: '239.1.2.3:5000', source: 172.17.0.1, interface: iso0 }\n"+
		"  - { name: beside, filter: beside, group: '239.1.2.4:5000', source: 10.0.0.2, interface: priv0 }\nqueue: { size: 64KiB }\n")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	lan := s.Lan.Device("eth0", netip.MustParseAddrPort("239.1.2.4:5000"))
	s.startBroker("max_inflight_messages 0")
	s.startBridge()
	s.ready()
	publisher := s.client("backend")
	s.GW.Down("iso0")
	s.eventually("the rule is pending", func() error {
		if got := s.rule("q"); got.State != "pending" {
			return fmt.Errorf("it is %s", got.State)
		}
		return nil
	})
	const total, others = 300, 50
	padding := strings.Repeat("p", 500)
	for n := range total {
		s.done(publisher.Publish("q", 2, false, netlab.Numbered("q"+padding, n)), "publish to q")
	}
	for n := range others {
		s.publish(publisher, "beside", netlab.Numbered("beside", n))
	}
	lan.WaitFor(others)
	s.GW.Up("iso0")
	var tally netlab.Tally
	device.Watch(func(r netlab.Received) bool {
		tally.Note([]byte(strings.Replace(string(r.Payload), padding, "", 1)))
		return tally.Received-tally.Duplicates == total || t.Failed()
	})
	if missing := tally.Missing("q", total); missing != nil || tally.Disorders > 0 {
		t.Errorf("missing %v; %v", missing, &tally)
	}
	s.balanced("q")
	if got := s.rule("q"); got.Drops != nil {
		t.Errorf("drops %v", got.Drops)
	}
	for n := range others {
		s.publish(publisher, "beside", netlab.Numbered("beside", others+n))
	}
	lan.WaitFor(2 * others)
}
