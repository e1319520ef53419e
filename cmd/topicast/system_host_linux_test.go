package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"topicast/bridge/account"
	"topicast/internal/lab/netlab"
)

// What goes to hosts keeps the promises of groups: from the source and by the interface of
// the rule, whatever the routes say.
func TestHostsHearTheConfiguredSourceAndNothingGoesElsewhere(t *testing.T) {
	everyone := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	cases := []struct {
		name   string
		rule   string // the keys beside name and filter
		to     string
		source string // with port where it is fixed
		ttl    byte
		dscp   byte
	}{
		{name: "on-the-link", rule: `host: "172.17.0.50:30000", source: 172.17.0.1, interface: iso0`, source: "172.17.0.1"},
		{name: "source-only", rule: `host: "172.17.0.50:30001", source: 172.17.0.1`, source: "172.17.0.1"},
		{name: "interface-only", rule: `host: "172.17.0.50:30002", interface: iso0`, source: "172.17.0.1"},
		{name: "second-address", rule: `host: "172.17.0.50:30003", source: 172.17.0.9, interface: iso0`, source: "172.17.0.9"},
		{name: "on-two-interfaces", rule: `host: "172.17.0.50:30004", source: 172.17.0.77, interface: iso0`, source: "172.17.0.77"},
		{name: "prefix", rule: `host: "172.17.0.50:30005", source: 172.17.0.0/26`, source: "172.17.0.1"},
		{name: "fixed-port", rule: `host: "172.17.0.50:30006", source: 172.17.0.1, source_port: 30060`, source: "172.17.0.1:30060"},
		{name: "ttl-and-dscp", rule: `host: "172.17.0.50:30007", source: 172.17.0.1, ttl: 7, dscp: EF`, source: "172.17.0.1", ttl: 7, dscp: 46},
		{name: "route-by-the-other", rule: `host: "172.17.0.200:30008", source: 172.17.0.1, interface: iso0`, source: "172.17.0.1"},
		{name: "default-by-the-other", rule: `host: "198.51.100.9:30009", source: 172.17.0.1, interface: iso0`, source: "172.17.0.1"},
		{name: "by-a-gateway", rule: `host: "192.0.2.5:30010", source: 172.17.0.1, interface: iso0`, source: "172.17.0.1"},
		{name: "all-of-the-network", rule: `host: "172.17.255.255:30011", source: 172.17.0.1, interface: iso0`, source: "172.17.0.1"},
		{name: "all-of-the-link", rule: `host: "255.255.255.255:30012", source: 172.17.0.9, interface: iso0`, source: "172.17.0.9"},
		{name: "v6-on-the-link", rule: `host: "[fd17::50]:30013", source: "fd17::1", interface: iso0`, source: "fd17::1"},
		{name: "v6-route-by-the-other", rule: `host: "[fd17::200]:30014", source: "fd17::1", interface: iso0`, source: "fd17::1"},
		{name: "v6-by-a-gateway", rule: `host: "[2001:db8:2::5]:30015", source: "fd17::1", interface: iso0, ttl: 9`, source: "fd17::1", ttl: 9},
	}
	var rules strings.Builder
	for i := range cases {
		c := &cases[i]
		c.to, _, _ = strings.Cut(strings.TrimPrefix(c.rule, `host: "`), `"`)
		fmt.Fprintf(&rules, "  - { name: %s, filter: case/%s, %s }\n", c.name, c.name, c.rule)
	}
	s := newSystem(t, rules.String())
	s.GW.Addr("iso0", "172.17.0.9/16")
	s.GW.Addr("iso0", "172.17.0.77/16")
	s.GW.Addr("priv0", "172.17.0.77/32")
	for _, a := range []string{"172.17.0.200/16", "198.51.100.9/24", "fd17::200/64"} {
		s.Dev.Addr("eth0", a)
	}
	s.GW.Route("172.17.0.200/32", "10.0.0.1")
	s.GW.Route("192.0.2.0/24", "172.17.0.50")
	s.GW.Route("fd17::200/128", "fd10::1")
	s.GW.Route("2001:db8:2::/64", "fd17::50")
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	device := [6]byte(s.Dev.Station("eth0"))
	s.startAll()
	publisher := s.client("backend")

	for i, c := range cases {
		s.publish(publisher, "case/"+c.name, thirteen)
		got := iso.WaitFor(i+1, nil)[i]
		if src := got.Src.String(); src != c.source && got.Src.Addr().String() != c.source {
			t.Errorf("%s: source %s, want %s", c.name, src, c.source)
		}
		if got.Dst.String() != c.to || !bytes.Equal(got.Payload, thirteen) {
			t.Errorf("%s: on the wire %v, want % x to %s", c.name, got, thirteen, c.to)
		}
		if ttl := max(c.ttl, 64*(1-min(c.ttl, 1))); got.TTL != ttl || got.DSCP != c.dscp {
			t.Errorf("%s: ttl %d and dscp %d, want %d and %d", c.name, got.TTL, got.DSCP, ttl, c.dscp)
		}
		station := device
		if strings.HasPrefix(c.name, "all-") {
			station = everyone
		}
		if got.Station != station {
			t.Errorf("%s: the frame went to %x, want %x", c.name, got.Station, station)
		}
	}

	// What a program does that lets the kernel choose, seen by the same means.
	naive, err := s.GW.Dial(t.Context(), "udp", "172.17.0.200:30008")
	if err != nil {
		t.Fatal(err)
	}
	defer naive.Close()
	if _, err := naive.Write(thirteen); err != nil {
		t.Fatal(err)
	}
	if got := priv.WaitFor(1, nil)[0].Src.Addr().String(); got != "10.0.0.2" {
		t.Errorf("a naive sender's source is %s; this test would not see a wrong one", got)
	}
	iso.Settle()
	if got := iso.Datagrams(); len(got) != len(cases) {
		t.Errorf("%d datagrams on the isolated network, want %d: %v", len(got), len(cases), got)
	}
	priv.None(func(f netlab.Frame) bool { return f.Src.Addr().String() != "10.0.0.2" })
	for _, c := range cases {
		s.hasSent(c.name, 1)
		if got := s.rule(c.name).SelfTest.Result; got != "source_verified" {
			t.Errorf("rule %s: self-test %q, want source_verified", c.name, got)
		}
	}
}

// An address that goes, moves and comes back, and routes that change, while messages for a
// host come: none leaves from another source or by another interface, and none is lost.
func TestAHostGetsNothingFromASourceThatMoved(t *testing.T) {
	s := newSystem(t, "  - { name: pumps, filter: pumps/#, host: \"172.17.0.50:5000\", source: 172.17.0.1, interface: iso0 }\n")
	s.GW.Addr("iso0", "172.17.0.9/16") // there to be mistaken for it, and it keeps the route
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	s.startAll()
	publisher := s.client("backend")
	n := 0
	publish := func(count int) {
		t.Helper()
		for range count {
			s.publish(publisher, "pumps/1", netlab.Numbered("pumps", n))
			n++
		}
	}
	publish(10)
	iso.WaitFor(n, nil)
	s.GW.Route("172.17.0.50/32", "10.0.0.1")
	publish(10)
	iso.WaitFor(n, nil)

	s.GW.DelAddr("iso0", "172.17.0.1/16")
	s.GW.Addr("priv0", "172.17.0.1/16")
	publish(5) // into the moment in which topicast notices; no more than mosquitto leaves unacknowledged
	pumps := s.ruleBecomes("pumps", account.StatePending)
	if !strings.Contains(pumps.Reason, "172.17.0.1") {
		t.Errorf("the rule is pending because %q, which does not name the source", pumps.Reason)
	}
	publish(5)
	iso.Settle()
	if got := len(iso.Datagrams()); got != 20 {
		t.Errorf("%d datagrams on the wire while the address is elsewhere, want the 20 from before", got)
	}

	s.GW.DelAddr("priv0", "172.17.0.1/16")
	s.GW.Addr("iso0", "172.17.0.1/16")
	s.ruleBecomes("pumps", account.StateUp)
	publish(10)
	var tally netlab.Tally
	for _, f := range iso.WaitFor(n, nil) {
		tally.Note(f.Payload)
	}
	if tally.Duplicates+tally.Disorders+tally.Strange > 0 || tally.Missing("pumps", n) != nil {
		t.Errorf("%v, missing %v; want each once and in order", &tally, tally.Missing("pumps", n))
	}
	iso.None(func(f netlab.Frame) bool {
		return f.Src.Addr() != netip.MustParseAddr("172.17.0.1") || f.Dst.String() != "172.17.0.50:5000"
	})
	priv.None(nil)
}
