package main

import (
	"fmt"
	"strings"
	"testing"

	"topicast/bridge/account"
	"topicast/internal/lab/netlab"
)

// A local route for a group that comes while topicast runs: the kernel takes what is sent,
// and nothing leaves. Nothing counts as sent, what waits leaves in order once the route is
// gone, and the other groups of the interface are not concerned.
func TestALocalRouteForAGroupWithholdsWhatItWouldKeep(t *testing.T) {
	const atStart = "at the start"
	for name, way := range map[string]struct{ add, del string }{
		atStart:   {"route add local 239.10.0.1 dev iso0 table local", "route del local 239.10.0.1/32 dev iso0 table local"},
		"route":   {"route add local 239.10.0.1 dev iso0 table local", "route del local 239.10.0.1/32 dev iso0 table local"},
		"address": {"addr add 239.10.0.1/32 dev iso0 autojoin", "addr del 239.10.0.1/32 dev iso0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.10.0.1:5000, source: 172.17.0.1, interface: iso0 }\n"+
				"  - { name: doors, filter: doors/#, group: 239.10.0.2:5000, source: 172.17.0.1, interface: iso0 }\n")
			iso := s.Dev.Capture("eth0")
			ip := func(command string) {
				if out, err := s.GW.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
					t.Fatalf("ip %s: %v: %s", command, err, out)
				}
			}
			s.startBroker()
			if name == atStart {
				ip(way.add)
			}
			s.startBridge()
			if name != atStart {
				s.ready()
				ip(way.add)
			}
			pending := func() {
				s.eventually("the rule says why it is pending", func() error {
					if r := s.rule("lamps"); r.State != account.StatePending || !strings.Contains(r.Reason, "ip route del local 239.10.0.1/32 dev iso0 table local") {
						return fmt.Errorf("%s (%s)", r.State, r.Reason)
					}
					if _, body, _ := s.get("/readyz"); !strings.Contains(body, "rule lamps: pending: the route local 239.10.0.1/32 dev iso0 keeps") {
						return fmt.Errorf("/readyz: %s", body)
					}
					return nil
				})
			}
			publisher := s.client("backend")
			pending()
			s.eventually("the broker has the subscriptions", func() error {
				if n := s.status().Broker.Subscriptions; n < 2 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			for n := range 10 {
				s.publish(publisher, "lamps/1", fmt.Append(nil, "lamp ", n))
				s.publish(publisher, "doors/1", fmt.Append(nil, "door ", n))
			}
			iso.WaitFor(10, netlab.Frame.UDP) // the probe of the self-test may be one of them
			s.hasSent("doors", 10)
			if r := s.rule("lamps"); r.Sent != 0 || r.WaitingMemory+r.WaitingDisk != 10 {
				t.Errorf("with the route: %+v", r)
			}
			if r := s.rule("doors"); r.State != account.StateUp || r.Sent != 10 {
				t.Errorf("with the route: %+v", r)
			}
			if got := s.command("check", s.config); !strings.Contains(got, "keeps this group on this host") || !strings.Contains(got, "ip route del local 239.10.0.1/32 dev iso0 table local") {
				t.Errorf("check: %s", got)
			}
			if got := s.command("explain", "lamps/1", "--config", s.config); !strings.Contains(got, "keeps this group on this host") ||
				!strings.Contains(got, "ip route del local 239.10.0.1/32 dev iso0; or, ") { // no table: a look-up does not tell it
				t.Errorf("explain: %s", got)
			}
			binary, err := topicastBinary()
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.GW.Command(binary, "send", "239.10.0.1:5000", "hello", "--source", "172.17.0.1").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "not sent: the route local 239.10.0.1/32 dev iso0 keeps this group on this host") {
				t.Errorf("send: %v: %s", err, out)
			}
			ip(way.del)
			s.ready()
			var lamps []string
			for _, f := range iso.WaitFor(20, netlab.Frame.UDP) {
				if strings.HasPrefix(string(f.Payload), "lamp") {
					lamps = append(lamps, string(f.Payload))
				}
			}
			if got := strings.Join(lamps, ", "); got != "lamp 0, lamp 1, lamp 2, lamp 3, lamp 4, lamp 5, lamp 6, lamp 7, lamp 8, lamp 9" {
				t.Errorf("left %s", got)
			}
		})
	}
}
