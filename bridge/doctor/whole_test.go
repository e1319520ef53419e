package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
)

// What keeps messages from all rules is told of one that is asked about, which is up itself.
func TestWhatTheBridgeSaysOfTheWholeIsACause(t *testing.T) {
	const held = "20 messages of the broker are not acknowledged; the oldest waits in memory for rule blinds; the broker may send none to other rules before"
	degraded := func(name, rule, reason string) bridge.Condition {
		return bridge.Condition{Name: name, Rule: rule, State: account.StateDegraded, Reason: reason}
	}
	for _, row := range []struct {
		what string
		send bool
		c    bridge.Condition
		make func(p *patient)
		want []Cause
	}{
		{"another rule holds what the broker may send", true, degraded("acknowledgements", "blinds", held), nil, []Cause{Degraded}},
		{"likewise, of what is received", false, degraded("acknowledgements", "blinds", held), nil, nil},
		{"this rule does, and why is not known", true, degraded("acknowledgements", "r", held), nil, []Cause{Degraded}},
		{"this rule does, and why is known", true, degraded("acknowledgements", "r", held), func(p *patient) { p.On.Carrier = false }, []Cause{NoCarrier}},
		{"another rule does, and this one has no carrier", true, degraded("acknowledgements", "blinds", held), func(p *patient) { p.On.Carrier = false }, []Cause{NoCarrier, Degraded}},
		{"no room in memory", true, bridge.Condition{Name: "queue", Rule: "blinds", State: account.StatePending, Reason: "there was no room"}, nil, []Cause{Pending}},
		{"file descriptors", false, degraded("descriptors", "", "too few"), nil, []Cause{Degraded}},
		{"a broker that acknowledges nothing", false, bridge.Condition{Name: "broker", State: account.StateDegraded, Reason: "the broker acknowledges no messages", Since: now}, nil, []Cause{Degraded}},
		{"likewise, of what is sent", true, bridge.Condition{Name: "broker", State: account.StateDegraded, Reason: "the broker acknowledges no messages", Since: now}, nil, nil},
		{"likewise, and answers are published", true, bridge.Condition{Name: "broker", State: account.StateDegraded, Reason: "the broker acknowledges no messages", Since: now},
			func(p *patient) { p.Asks = true }, []Cause{Degraded}},
		{"a connection that is lost again and again", true, degraded("broker", "", "the connection is lost again and again"), nil, []Cause{Degraded}},
		{"no connection, which has a cause of its own", true, bridge.Condition{Name: "broker", State: account.StatePending, Reason: "no connection to the broker"},
			func(p *patient) { p.h.Daemon.After.Broker.Connected = false }, []Cause{BrokerAway}},
		{"broker.max_rate, which has a cause of its own", false, bridge.Condition{Name: "broker", State: account.StateDegraded, Reason: "more comes than broker.max_rate lets through", Since: now},
			func(p *patient) { p.h.Daemon.After.Broker.PacedSince = now }, nil},
		{"the interfaces of another rule", true, degraded("interfaces", "", "300 interfaces match *, and rule other works by 256 of them"), nil, nil},
		{"the interfaces of this rule", true, degraded("interfaces", "", "300 interfaces match *, and rule r works by 256 of them"), nil, []Cause{Degraded}},
		{"another rule", true, degraded("rule", "blinds", "interface iso1 has no carrier"), nil, nil},
		{"subscriptions that are being made", true, bridge.Condition{Name: "subscriptions", State: account.StatePending, Reason: "the broker has not confirmed 1 subscriptions yet"},
			func(p *patient) { p.h.Daemon.After.Broker.Unanswered = 1 }, nil},
		{"subscriptions that the broker does not confirm", true, bridge.Condition{Name: "subscriptions", State: account.StatePending, Reason: "the broker has not confirmed 1 subscriptions yet"},
			func(p *patient) { p.h.Daemon.Before.Broker.Unanswered, p.h.Daemon.After.Broker.Unanswered = 1, 1 }, []Cause{Pending}},
	} {
		p := newPatient(row.send)
		p.h.Daemon.After.Conditions = []bridge.Condition{row.c}
		if row.make != nil {
			row.make(p)
		}
		r := Examine(p.h, []*Subject{p.Subject})
		var got []Cause
		for _, f := range r.Findings {
			got = append(got, f.Cause)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: found %q, want %q", row.what, got, row.want)
		}
		if slices.Contains(r.Healthy, "running bridge") && slices.ContainsFunc(got, func(c Cause) bool { return c == Degraded || c == Pending }) {
			t.Errorf("%s: the running bridge is said to be healthy", row.what)
		}
	}
	p := newPatient(true)
	p.h.Daemon.After.Conditions = []bridge.Condition{degraded("acknowledgements", "blinds", held)}
	if f := p.only(t); f.Text != held || !strings.HasSuffix(f.Fix, "topicast doctor --rule blinds") {
		t.Errorf("%+v", f)
	}
	// Of all rules it is said once, be the rule that it comes by among them.
	q := newPatient(true)
	q.Name, q.Of = "blinds", "rule blinds"
	for _, s := range []*bridge.Status{p.h.Daemon.Before, p.h.Daemon.After} {
		s.Rules = append(s.Rules, send.Status{Name: "blinds", State: account.StateUp})
	}
	p.h.Daemon.sends[0] = nil // they are found by their names anew
	if r := Examine(p.h, []*Subject{p.Subject, q.Subject}); len(r.Findings) != 1 || !slices.Equal(r.Findings[0].Of, []string{"rule r", "rule blinds"}) {
		t.Errorf("%+v", r.Findings)
	}
}

// A silence is what is to be explained: with its cause it is no second one.
func TestASilenceIsLeftOutBesideItsCause(t *testing.T) {
	for _, row := range []struct {
		cause Cause
		make  func(p *patient)
	}{
		{IngressFirewall, func(p *patient) { p.h.Rules = dropping("input", ofUDP) }},
		{IGMPFiltered, func(p *patient) {
			p.h.Rules = dropping("output", `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"igmp"}},`)
		}},
		{WrongTarget, func(p *patient) { p.comes(device, netip.MustParseAddrPort("239.11.3.7:30002")) }},
		{Unicast, func(p *patient) { p.comes(device, netip.AddrPortFrom(here, 30001)) }},
		{Memberships, func(p *patient) { p.Live.Join = &wrapped{syscall.ENOBUFS} }},
		{OwnAddress, func(p *patient) { p.comes(here, to) }},
		{Snooping, func(p *patient) { p.Live.Bridge = &multicast.Bridge{Snooping: true, NoFlood: []string{"eth1"}} }},
		{RPFilter, func(p *patient) {
			p.comes(device, to)
			p.sysctl["ipv4/conf/all/rp_filter"], p.Live.Back[device.String()] = 2, ""
		}},
		{SourceFiltered, func(p *patient) {
			p.Sources, p.Live.Heard[device] = []netip.Prefix{netip.MustParsePrefix("172.17.0.51/32")}, 3
		}},
		{NoCarrier, func(p *patient) { p.On.Carrier = false }},
	} {
		for reason, want := range map[string][]Cause{
			"nothing is heard since 16:59:50, which is longer than 3s (expect)": {row.cause},
			"leg priv0 is silent": {row.cause, Degraded},
		} {
			if row.cause == NoCarrier || row.cause == Memberships {
				want = want[:1] // both are what comes of it
			}
			p := newPatient(false)
			p.published[1].State, p.published[1].Reason = account.StateDegraded, reason
			row.make(p)
			if got := p.causes(); !slices.Equal(got, want) {
				t.Errorf("%s: found %q, want %q", reason, got, want)
			}
		}
	}
}
