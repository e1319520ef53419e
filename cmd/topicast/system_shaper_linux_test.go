package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"topicast/internal/lab/netlab"
)

// shape has iso0 shaped, and waits until topicast has noticed: what it sends until then in one segmented send
// may be dropped without a word.
func (s *system) shape(rate uint64, burst, limit uint32) {
	s.t.Helper()
	s.GW.Shape("iso0", rate, burst, limit)
	s.eventually("topicast has seen the shaper", func() error {
		if r := s.rule("lamps"); r.OneByOne != "the queueing discipline tbf of iso0 cuts segmented sends up and may drop parts of them without a word" {
			return fmt.Errorf("one_by_one: %q", r.OneByOne)
		}
		return nil
	})
}

// A burst of equal messages through a shaper of 10 Mbit/s, set while topicast runs,
// whose queue is shorter than one segmented send: what is counted and acknowledged is
// on the wire, and all of it arrives.
func TestABurstThroughAShaperArrivesWhole(t *testing.T) {
	const messages = 1000
	s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.1, interface: iso0 }\n")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	wire := s.GW.CaptureSent("iso0")
	s.startBroker("max_queued_messages 0", "max_inflight_messages 0")
	bridge := s.startBridge()
	s.ready()
	s.shape(1_250_000, 32<<10, 30_000)
	publisher := s.client("backend")
	var tally netlab.Tally
	var tokens []mqtt.Token
	filler := strings.Repeat(".", 1000)
	for n := range messages {
		p := netlab.Numbered("lamps", n)
		tokens = append(tokens, publisher.Publish("lamps/1", 1, false, append(p, filler[:1000-len(p)]...)))
	}
	for _, token := range tokens {
		s.done(token, "publish")
	}
	// All of it arrives; the order is that of the wire, for behind a shaper the two processors of a
	// veth pair may overtake each other.
	device.WaitFor(messages)
	for _, f := range wire.WaitFor(messages, func(f netlab.Frame) bool { return f.UDP() && strings.HasPrefix(string(f.Payload), "lamps") }) {
		tally.Note([]byte(strings.TrimRight(string(f.Payload), ".")))
	}
	if missing := tally.Missing("lamps", messages); missing != nil || tally.Disorders+tally.Duplicates+tally.Strange > 0 {
		t.Errorf("missing %v; %+v", missing, tally)
	}
	s.eventually("all are counted", func() error {
		if r := s.rule("lamps"); r.Sent != messages || len(r.Drops) > 0 {
			return fmt.Errorf("%d sent, drops %v", r.Sent, r.Drops)
		}
		return nil
	})
	if n := strings.Count(bridge.Output(), "datagrams are given to the kernel one by one"); n != 1 {
		t.Errorf("the log tells of the shaper %d times, want once", n)
	}
	s.GW.Unshape("iso0")
	s.eventually("topicast has seen that the shaper is gone", func() error {
		if r := s.rule("lamps"); r.OneByOne != "" {
			return fmt.Errorf("one_by_one: %q", r.OneByOne)
		}
		return nil
	})
}
