package doctor

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/frame"
)

// What is known to be wrong, or could not be looked at, is not said to be healthy.
func TestWhatIsHealthyWasLookedAtAndIsNotWrong(t *testing.T) {
	noRules := func(p *patient) { p.h.Rules, p.h.NoRules = nil, "the rules of the firewall: not root" }
	const ofIGMP = `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"igmp"}},`
	for _, row := range []struct {
		what string
		send bool
		make func(p *patient)
		not  []string // what is not among what is healthy, and is where nothing is made
	}{
		{"the rules are not seen, and datagrams arrive", false, func(p *patient) { noRules(p); p.Live.Heard[device] = 1 }, []string{"firewall", "IGMP through the firewall"}},
		{"the rules of iptables-legacy are not seen", true, func(p *patient) { p.h.Legacy = true }, []string{"firewall", "NAT"}},
		{"a loss by a firewall", true, func(p *patient) {
			lost(p, "firewall", "topic a: forbidden", false)
			p.h.Rules = dropping("output", ofUDP)
		}, []string{"firewall", "what the bridge drops"}},
		{"the bridge says that a firewall refuses", true, func(p *patient) {
			p.sent[1].State, p.sent[1].Reason = account.StateDegraded, "a firewall of this host does not let datagrams leave"
		}, []string{"firewall", "state of the rule"}},
		{"rules that are not understood", true, func(p *patient) { p.h.Rules = dropping("output", `{"xt":{"type":"match","name":"u32"}},`) }, []string{"firewall"}},
		{"rules that are not understood, of what comes in", false, func(p *patient) { p.h.Rules = dropping("input", `{"xt":{"type":"match","name":"u32"}},`) }, []string{"firewall", "IGMP through the firewall"}},
		{"reports are dropped, and datagrams arrive", false, func(p *patient) { p.Live.Heard[device] = 1; p.h.Rules = dropping("output", ofIGMP) }, []string{"IGMP through the firewall"}},
		{"no carrier", false, func(p *patient) { p.On.Carrier = false }, []string{"carrier", "wire", "port", "receive buffer", "fragments", "addresses of senders", "reverse path filter"}},
		{"an interface that is down", false, func(p *patient) { p.On.Up = false }, []string{"carrier", "wire", "port"}},
		{"a join that failed", false, func(p *patient) { p.Live.Join, p.Live.Heard = errors.New("no such device"), nil }, []string{"port", "limits of memberships"}},
		{"a host that is silent, by a loss", true, func(p *patient) {
			p.To, p.sent[1].Host = netip.MustParseAddrPort("172.17.0.9:1"), "172.17.0.9:1"
			p.sent[1].Drops, p.sent[1].FirstDrops = map[string]uint64{"unreachable": 1}, map[string]string{"unreachable": "topic a: host 172.17.0.9 does not answer on its link"}
		}, []string{"what the bridge drops"}},
		{"no route, by a loss", true, func(p *patient) { p.sent[1].Drops = map[string]uint64{"unreachable": 1} }, []string{"routes"}},
		{"messages that are too long", true, func(p *patient) { p.sent[1].Drops = map[string]uint64{"oversize": 1} }, []string{"fragments", "what the bridge drops"}},
		{"a broker that refuses a filter", true, func(p *patient) {
			p.sent[1].State, p.sent[1].Reason = account.StatePending, "no subscription to a/#: not authorized"
		}, []string{"broker", "state of the rule"}},
		{"a certificate that is not yet valid", true, func(p *patient) {
			p.h.Daemon.After.Broker = bridge.BrokerStatus{Error: "tls: x509: certificate has expired or is not yet valid"}
		}, []string{"broker", "clock"}},
		{"a flag that is missing, and datagrams arrive", false, func(p *patient) { p.Live.Flag = false; p.Live.Heard[device] = 1 }, []string{"flags of the interface"}},
		{"a self-test that was refused", true, func(p *patient) { noRules(p); p.Live.Probe = &multicast.Probe{Result: multicast.ProbeRefused} }, []string{"NAT", "firewall"}},
	} {
		p := newPatient(row.send)
		healthy := Examine(p.h, []*Subject{p.Subject}).Healthy
		for _, name := range row.not {
			if !slices.Contains(healthy, name) {
				t.Errorf("%q is not healthy where nothing is wrong: %q", name, healthy)
			}
		}
		row.make(p)
		healthy = Examine(p.h, []*Subject{p.Subject}).Healthy
		for _, name := range row.not {
			if slices.Contains(healthy, name) {
				t.Errorf("%s: %s is said to be healthy", row.what, name)
			}
		}
	}
}

// Of two rules by two interfaces the one that is in order does not speak for the other.
func TestOneRuleDoesNotSpeakForAnother(t *testing.T) {
	p, q := newPatient(false), newPatient(false)
	q.On.Carrier, q.Of = false, "rule q"
	if h := Examine(p.h, []*Subject{p.Subject, q.Subject}).Healthy; slices.Contains(h, "wire") || slices.Contains(h, "port") || !slices.Contains(h, "interface") {
		t.Errorf("healthy: %q", h)
	}
	p, q = newPatient(true), newPatient(true)
	p.answered()
	p.reports(device, memberOf(to.Addr()), now.Add(-time.Second))
	if h := Examine(p.h, []*Subject{p.Subject}).Healthy; !slices.Contains(h, "members of the group") {
		t.Errorf("healthy: %q", h)
	}
	q.Of = "rule q"
	if h := Examine(p.h, []*Subject{p.Subject, q.Subject}).Healthy; slices.Contains(h, "members of the group") {
		t.Errorf("healthy: %q", h)
	}
}

func TestEveryCauseIsAboutAnotherCheckThatThereIs(t *testing.T) {
	for _, c := range Causes() {
		if len(about[c]) == 0 && c != NoRule { // where no rule has a topic nothing is looked at
			t.Errorf("%s is about nothing", c)
		}
		for _, name := range about[c] {
			if !slices.ContainsFunc(checks, func(k check) bool { return k.name == name }) {
				t.Errorf("%s is about %q, which is no check", c, name)
			}
		}
	}
}

func memberOf(group netip.Addr) frame.Packet {
	return frame.Packet{Members: []frame.Member{{Group: group}}}
}
