package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/internal/lab/netlab"
)

// The system tests of rules with several interfaces.

// vlan joins gateway and device by one more cable, vlan<n> on the gateway's side, whose network
// is 10.9.<n>.0/24.
func (s *system) vlan(n int) (on string) {
	s.t.Helper()
	on = fmt.Sprint("vlan", n)
	s.Link(s.GW, on, s.Dev, on)
	s.GW.Addr(on, fmt.Sprintf("10.9.%d.1/24", n))
	s.Dev.Addr(on, fmt.Sprintf("10.9.%d.50/24", n))
	return on
}

// seenOn are the payloads that a cable has carried to the lamps, each with its source.
func seenOn(wire *netlab.Capture, n int) (lines []string) {
	for _, f := range wire.WaitFor(n, func(f netlab.Frame) bool { return f.Dst == group("239.10.0.7:30000") }) {
		lines = append(lines, fmt.Sprintf("%s from %s", f.Payload, f.Src.Addr()))
	}
	return lines
}

// The example as it stands: a VLAN that comes while topicast runs is taken, each gets the message
// from this host's address there, and one that was away gets what it has missed.
func TestTheVLANExampleFollowsTheInterfaces(t *testing.T) {
	s := example(t, "vlans.yaml")
	vlan7 := s.vlan(7)
	wire7 := s.Dev.Capture(vlan7)
	p := s.startAll()
	backend, w := s.client("backend"), s.subscriber("building/#")
	lamp := func(payload string) { s.publish(backend, "lamps/7/set", []byte(payload)) }
	say := func(n int, payload string) {
		s.Dev.Talker(fmt.Sprint("vlan", n), netip.MustParseAddr(fmt.Sprintf("10.9.%d.50", n))).Say(group("239.10.1.0:30001"), []byte(payload))
	}
	lamp("1")
	if d := cmp.Diff([]string{"1 from 10.9.7.1"}, seenOn(wire7, 1)); d != "" {
		t.Error(d)
	}
	vlan8 := s.vlan(8)
	wire8 := s.Dev.Capture(vlan8)
	s.eventually("vlan8 is taken, in both directions", func() error {
		code, body, err := s.get("/status?match=@vlan8")
		if code != 200 || err != nil || strings.Count(body, `"state": "up"`)+strings.Count(body, `"state":"up"`) != 2 {
			return fmt.Errorf("%d %s %v", code, body, err)
		}
		return nil
	})
	lamp("2")
	if d := cmp.Diff([]string{"2 from 10.9.8.1"}, seenOn(wire8, 1)); d != "" {
		t.Error(d)
	}
	say(7, "a")
	s.settled(w, 1)
	say(8, "b")
	s.settled(w, 2)
	if d := cmp.Diff([]string{"building/vlan7/10.9.7.50 a", "building/vlan8/10.9.8.50 b"}, w.lines()); d != "" {
		t.Error(d)
	}

	left := func(what string, n uint64) {
		t.Helper()
		s.eventually(what, func() error {
			if r := s.rule("lamps@vlan7"); r.Sent != n || r.WaitingDisk+r.WaitingMemory != 0 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	}
	left("both count as sent", 2)
	s.GW.Down(vlan7)
	s.ruleBecomes("lamps@vlan7", account.StatePending)
	lamp("3")
	if d := cmp.Diff([]string{"2 from 10.9.8.1", "3 from 10.9.8.1"}, seenOn(wire8, 2)); d != "" {
		t.Error(d)
	}
	s.ready() // by the other
	s.GW.Up(vlan7)
	if d := cmp.Diff([]string{"1 from 10.9.7.1", "2 from 10.9.7.1", "3 from 10.9.7.1"}, seenOn(wire7, 3)); d != "" {
		t.Error(d)
	}

	left("all of it counts as sent", 3)

	// It goes for good, and comes back: another interface, which has the name.
	s.GW.Delete(vlan7)
	s.ruleBecomes("lamps@vlan7", account.StatePending)
	lamp("4")
	s.eventually("what is for vlan7 waits on disk", func() error {
		if r := s.rule("lamps@vlan7"); r.WaitingDisk != 1 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	s.vlan(7)
	lamp("5")
	left("both have left", 5)
	if _, body, err := s.get("/metrics"); err != nil || !strings.Contains(body, `topicast_datagrams_sent_total{rule="lamps",interface="vlan7"} 5`) {
		t.Errorf("the metrics do not have it: %v", err)
	}
	if text := p.Output(); !strings.Contains(text, "came=\"lamps@vlan8, states@vlan8\"") {
		t.Errorf("the log does not say which came:\n%s", text)
	}
}

func TestCheckAndExplainTellEachInterface(t *testing.T) {
	s := newSystem(t, `
  - { name: lamps, filter: 'lamps/#', group: '239.10.0.1:30000', interface: [iso0, 'tun*', 'priv*'] }
  - { name: none, filter: 'none', group: '239.10.0.3:30000', interface: 'wan*' }
receive:
  - { name: meters, group: '239.11.0.1:30001', interface: '*', topic: 'r/{interface}' }
`)
	wants := func(out string, texts ...string) {
		t.Helper()
		for _, want := range texts {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
	out := s.command("check", s.config)
	wants(out, "send[0].interface[1]: no interface matches tun* (there are lo, iso0, priv0); an interface that comes and matches is taken",
		"send[1].interface: no interface matches wan*", "2 send rules, ", "1 receive rule, 2 sockets")
	if strings.Contains(out, " lo ") {
		t.Errorf("a pattern has the loopback interface:\n%s", out)
	}
	wants(s.command("explain", "lamps/1", "--config", s.config), "matches 1 of 2 send rules", "rule lamps@iso0 (send[0])", "source      172.17.0.1",
		"rule lamps@priv0 (send[0])", "source      10.0.0.2")
	wants(s.command("explain", "239.11.0.1:30001", "--config", s.config), "heard by 1 of 1 receive rule", "r/iso0", "r/priv0")
	wants(s.command("check", "--no-host", s.config), "iso0, tun*, priv*", ": ok")
}
