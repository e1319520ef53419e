package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"topicast/bridge/netlab"
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
	if got := s.rule("q"); got.Drops != nil {
		t.Errorf("drops %v", got.Drops)
	}
}
