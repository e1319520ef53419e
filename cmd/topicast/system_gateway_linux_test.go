package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"topicast/bridge/account"
	"topicast/internal/lab/netlab"
)

// command runs the command on the gateway and returns what it printed.
func (s *system) command(args ...string) string {
	s.t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.GW.Command(binary, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("topicast %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A route to the groups that names a gateway does not make datagrams leave in
// frames that only the gateway hears: not one that stands before the start, nor one
// that comes later; and check, explain and send know of it.
func TestARouteToAGatewayIsNotFollowed(t *testing.T) {
	s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.1, interface: iso0 }\n"+
		"  - { name: doors, filter: \"doors/{door}\", group: \"239.1.{door}.4:5000\", source: 172.17.0.1, interface: iso0, ttl: 16 }\n"+
		"  - { name: site, filter: site/#, group: \"[ff15::17]:5000\", source: \"fd17::1\", interface: iso0 }\n")
	const viaDev = "172.17.0.50"
	s.GW.Route("239.0.0.0/8", viaDev)
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")

	warned := s.command("check", s.config)
	const route = "the route 239.0.0.0/8 via 172.17.0.50 dev iso0 (table main) would hand this group to a gateway; topicast sends on the link all the same"
	for _, path := range []string{"send[0].group", "send[1].group"} {
		if !strings.Contains(warned, path+": "+route) {
			t.Errorf("check does not warn of %s:\n%s", path, warned)
		}
	}
	if strings.Count(warned, "would hand") != 2 {
		t.Errorf("check warns of more than two:\n%s", warned)
	}
	if got := s.command("explain", "lamps/1", "--config", s.config); !strings.Contains(got, "route       "+route) {
		t.Errorf("explain does not tell of the route:\n%s", got)
	}

	s.startAll()
	publisher := s.client("backend")
	all := []string{"lamps/1", "doors/7", "site/1"}
	sendAll := func() {
		for _, topic := range all {
			s.publish(publisher, topic, thirteen)
		}
	}
	sendAll()
	s.GW.DelRoute("239.0.0.0/8", viaDev)
	sendAll()
	s.GW.Route("224.0.0.0/4", viaDev) // while it runs
	s.GW.Route("ff15::/16", "fd17::50")
	sendAll()
	s.command("send", "239.1.2.3:5000", "hello", "--source", "172.17.0.1")
	s.command("send", "239.1.2.3:5000", "hello", "--source", "172.17.0.1", "--ttl", "16")
	iso.WaitFor(3*len(all)+2, nil)
	iso.None(func(f netlab.Frame) bool { return !f.ToGroup() })
	priv.None(nil)
}

// What no option can keep from a gateway is not sent: IPv6 asks the routes for what
// is bound to an interface too, though the kernel's own route for groups comes first.
func TestARouteThatCannotBePassedOverMakesARulePending(t *testing.T) {
	s := newSystem(t, "  - { name: site, filter: site/#, group: \"[ff15::17]:5000\", source: \"fd17::1\", interface: iso0 }\n")
	iso := s.Dev.Capture("eth0")
	for _, args := range []string{"-6 route add ff15::/16 via fd17::50 dev iso0 table local"} {
		if out, err := s.GW.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	s.startBroker()
	s.startBridge()
	const why = "the route ff15::/16 via fd17::50 dev iso0 (table local) hands groups to the gateway"
	s.eventually("the rule says why it is pending", func() error {
		if r := s.rule("site"); r.State != account.StatePending || !strings.HasPrefix(r.Reason, why) || r.SelfTest.Result != "gateway" {
			return fmt.Errorf("%s (%s), self-test %s", r.State, r.Reason, r.SelfTest.Result)
		}
		return nil
	})
	if out, err := s.GW.Command("ip", "-6", "route", "del", "ff15::/16", "table", "local").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.ready()
	s.publish(s.client("backend"), "site/1", thirteen)
	iso.WaitFor(1, nil)
	iso.None(func(f netlab.Frame) bool { return !f.ToGroup() || f.Dst != netip.MustParseAddrPort("[ff15::17]:5000") })
}
