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

// thirteen is the datagram that the project began with.
var thirteen = []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x88, 0xaa, 0xbb, 0xcc, 0xdd}

func TestDatagramsLeaveFromTheConfiguredSourceAndNowhereElse(t *testing.T) {
	cases := []struct {
		name   string
		group  string
		rule   string // the keys beside name, filter and group
		source string // with port where it is fixed
		ttl    byte
		dscp   byte
	}{
		{name: "article", group: "225.17.0.18:30000", rule: "source: 172.17.0.1, interface: iso0", source: "172.17.0.1"},
		{name: "source-only", group: "225.17.0.19:30000", rule: "source: 172.17.0.1", source: "172.17.0.1"},
		{name: "interface-only", group: "225.17.0.20:30000", rule: "interface: iso0", source: "172.17.0.1"},
		{name: "second-address", group: "225.17.0.21:30000", rule: "source: 172.17.0.9, interface: iso0", source: "172.17.0.9"},
		{name: "second-address-only", group: "225.17.0.22:30000", rule: "source: 172.17.0.9", source: "172.17.0.9"},
		{name: "on-two-interfaces", group: "225.17.0.23:30000", rule: "source: 172.17.0.77, interface: iso0", source: "172.17.0.77"},
		{name: "prefix", group: "225.17.0.24:30000", rule: "source: 172.17.0.0/26", source: "172.17.0.1"},
		{name: "fixed-port", group: "225.17.0.25:30000", rule: "source: 172.17.0.1, interface: iso0, source_port: 30001", source: "172.17.0.1:30001"},
		{name: "ttl-and-dscp", group: "225.17.0.26:30000", rule: "source: 172.17.0.1, ttl: 7, dscp: EF", source: "172.17.0.1", ttl: 7, dscp: 46},
		{name: "v6-global", group: "[ff15::17]:30000", rule: `source: "fd17::1", interface: iso0`, source: "fd17::1"},
		{name: "v6-interface-only", group: "[ff15::18]:30000", rule: "interface: iso0, ttl: 9", source: "fd17::1", ttl: 9},
		{name: "v6-link-local", group: "[ff02::4:7]:30000", rule: `source: "fe80::/10", interface: iso0`, source: "link-local"},
	}
	var rules strings.Builder
	var groups []netip.AddrPort
	for _, c := range cases {
		fmt.Fprintf(&rules, "  - { name: %s, filter: case/%s, group: %q, %s }\n", c.name, c.name, c.group, c.rule)
		groups = append(groups, netip.MustParseAddrPort(c.group))
	}
	s := newSystem(t, rules.String())
	s.GW.Addr("iso0", "172.17.0.9/16")
	// The one added last is the one that a socket with bind alone would leave by.
	s.GW.Addr("iso0", "172.17.0.77/16")
	s.GW.Addr("priv0", "172.17.0.77/32")
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	device := s.Dev.Device("eth0", groups...)
	s.startAll()
	publisher := s.client("backend")

	for i, c := range cases {
		s.publish(publisher, "case/"+c.name, thirteen)
		got := iso.WaitFor(i+1, nil)[i]
		want := c.source
		if want == "link-local" {
			want = s.GW.LinkLocal("iso0").String()
		}
		if src := got.Src.String(); src != want && got.Src.Addr().String() != want {
			t.Errorf("%s: source %s, want %s", c.name, src, want)
		}
		if got.Dst != groups[i] || !bytes.Equal(got.Payload, thirteen) {
			t.Errorf("%s: on the wire %v, want % x to %v", c.name, got, thirteen, groups[i])
		}
		if ttl := max(c.ttl, 1); got.TTL != ttl || got.DSCP != c.dscp {
			t.Errorf("%s: ttl %d and dscp %d, want %d and %d", c.name, got.TTL, got.DSCP, ttl, c.dscp)
		}
		received := device.WaitFor(i + 1)[i]
		if received.Group != groups[i] || received.Source != got.Src || !bytes.Equal(received.Payload, thirteen) {
			t.Errorf("%s: the device received %v, want % x from %v", c.name, received, thirteen, got.Src)
		}
	}

	// The fault that this is all about, seen by the same means.
	s.GW.Naive("iso0", groups[0], thirteen)
	naive := iso.WaitFor(len(cases)+1, nil)[len(cases)]
	if got := naive.Src.Addr().String(); got != "10.0.0.2" {
		t.Errorf("a naive sender's source is %s; this test would not see a wrong one", got)
	}
	// All of them once, and the private network has carried no datagram at all.
	iso.Settle()
	if got := iso.Datagrams(); len(got) != len(cases)+1 {
		t.Errorf("%d datagrams on the isolated network, want %d: %v", len(got), len(cases)+1, got)
	}
	priv.None(nil)
	for _, c := range cases {
		s.hasSent(c.name, 1)
		if got := s.rule(c.name).SelfTest.Result; got != "source_verified" {
			t.Errorf("rule %s: self-test %q, want source_verified", c.name, got)
		}
	}
}

func TestSourceThatIsGoneIsNeverReplaced(t *testing.T) {
	const wanted = "192.168.7.1"
	s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: "+wanted+", interface: iso0 }\n"+
		"  - { name: doors, filter: doors/#, group: 239.1.2.4:5000, source: 172.17.0.1, interface: iso0 }\n")
	s.GW.Addr("iso0", wanted+"/24") // 172.17.0.1 stays there to be mistaken for it
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	s.startAll()
	publisher := s.client("backend")

	var tally netlab.Tally
	// Fewer wait than the 20 unacknowledged messages that mosquitto allows by
	// default: beyond, it has no more for any rule.
	const before, without, after = 100, 115, 300
	publish := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			s.publish(publisher, "lamps/1", netlab.Numbered("lamps", n))
		}
	}
	publish(0, before)
	device.WaitFor(before)
	s.GW.DelAddr("iso0", wanted+"/24")
	publish(before, without) // into the moment in which the bridge notices
	lamps := s.ruleBecomes("lamps", account.StatePending)
	if !strings.Contains(lamps.Reason, wanted) {
		t.Errorf("the rule is pending because %q, which does not name %s", lamps.Reason, wanted)
	}
	if code, body, err := s.get("/readyz"); err != nil || code != 503 || !strings.Contains(body, "lamps") {
		t.Errorf("/readyz: %d %q %v, want 503 and the rule", code, body, err)
	}
	// One rule's trouble is not another's.
	s.publish(publisher, "doors/1", thirteen)
	iso.WaitFor(1, func(f netlab.Frame) bool { return f.Dst.String() == "239.1.2.4:5000" })
	iso.Settle()
	if got := len(iso.Datagrams()); got != before+1 {
		t.Errorf("%d datagrams on the wire without the address, want the %d from before and that", got, before)
	}
	s.GW.Addr("iso0", wanted+"/24")
	s.ruleBecomes("lamps", account.StateUp)
	publish(without, after)

	// The messages that came meanwhile were held and not lost.
	device.Watch(func(r netlab.Received) bool {
		tally.Note(r.Payload)
		return tally.Received == after
	})
	if tally.Duplicates+tally.Disorders+tally.Strange > 0 || tally.Missing("lamps", after) != nil {
		t.Errorf("%v, missing %v; want each once and in order", &tally, tally.Missing("lamps", after))
	}
	wrong := func(f netlab.Frame) bool {
		return f.Dst.String() == "239.1.2.3:5000" && f.Src.Addr().String() != wanted
	}
	iso.None(wrong)
	priv.None(nil)
}

func TestSourceThatNATRewritesIsRefused(t *testing.T) {
	s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.9, interface: iso0 }\n")
	s.GW.Addr("iso0", "172.17.0.9/16")
	nft := func(args ...string) {
		t.Helper()
		cmd := s.GW.Command("nft", args...)
		if cmd.Err != nil {
			netlab.Skip(t, "nft is not installed: %v", cmd.Err)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			netlab.Skip(t, "nft %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	nft("add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname iso0 masquerade")
	iso := s.Dev.Capture("eth0")
	s.startBroker()
	s.startBridge()
	lamps := s.ruleBecomes("lamps", account.StatePending)
	for lamps.SelfTest.Result == "" { // pending from the start, until the self-test is over
		lamps = s.rule("lamps")
	}
	if lamps.SelfTest.Result != "rewritten" || !strings.Contains(lamps.Reason, "172.17.0.1") {
		t.Errorf("self-test %q, reason %q; want rewritten, and the address that really left", lamps.SelfTest.Result, lamps.Reason)
	}
	publisher := s.client("backend")
	s.eventually("the bridge is subscribed", func() error {
		if b := s.status().Broker; !b.Connected || b.Subscriptions != 1 {
			return fmt.Errorf("connected %t, %d subscriptions", b.Connected, b.Subscriptions)
		}
		return nil
	})
	s.publish(publisher, "lamps/1", thirteen)
	s.eventually("the message waits", func() error {
		if n := s.status().Queue.Messages; n != 1 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	iso.None(nil)
	nft("flush ruleset")
	got := iso.WaitFor(1, nil)[0]
	if got.Src.Addr().String() != "172.17.0.9" || !bytes.Equal(got.Payload, thirteen) {
		t.Errorf("without the rule: %v, want the message from 172.17.0.9", got)
	}
	s.ruleBecomes("lamps", account.StateUp)
}

// An address that moves while the bridge rests from another change is not sent from on
// the interface that it has left: not one datagram.
func TestASourceThatMovesRightAfterAnotherChange(t *testing.T) {
	s := newSystem(t, "  - { name: lamps, filter: lamps/#, group: 239.1.2.3:5000, source: 172.17.0.1 }\n")
	iso, priv := s.Dev.Capture("eth0"), s.Lan.Capture("eth0")
	s.startAll()
	publisher := s.client("backend")
	lamps := func(payload string) func(netlab.Frame) bool {
		return func(f netlab.Frame) bool { return string(f.Payload) == payload }
	}
	const rounds = 10
	for i := range rounds {
		s.publish(publisher, "lamps/1", []byte("at home"))
		iso.WaitFor(i+1, lamps("at home"))
		s.GW.Addr("priv0", "10.0.0.77/24") // the other change
		s.GW.DelAddr("priv0", "10.0.0.77/24")
		s.GW.DelAddr("iso0", "172.17.0.1/16")
		s.GW.Addr("priv0", "172.17.0.1/16")
		s.publish(publisher, "lamps/1", []byte("moved"))
		s.ruleIsOn("lamps", "priv0")
		priv.WaitFor(i+1, lamps("moved")) // else it may leave when the address is back
		s.GW.DelAddr("priv0", "172.17.0.1/16")
		s.GW.Addr("iso0", "172.17.0.1/16")
		s.ruleIsOn("lamps", "iso0")
	}
	iso.None(lamps("moved"))
	priv.None(lamps("at home"))
}

// ruleIsOn waits until a rule sends by an interface.
func (s *system) ruleIsOn(name, on string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("rule %s is up on %s", name, on), func() error {
		if r := s.rule(name); r.State != account.StateUp || r.Interface != on {
			return fmt.Errorf("%s on %s: %s", r.State, r.Interface, r.Reason)
		}
		return nil
	})
}
