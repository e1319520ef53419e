package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/send"
)

// hostPatient is a rule with hosts of a template, of which one is looked at, or all.
func hostPatient(exact bool) *patient {
	p := newPatient(true)
	p.To, p.Exact = netip.AddrPort{}, exact
	if exact {
		p.To = netip.MustParseAddrPort("172.17.0.50:5683")
	}
	for _, s := range p.sent {
		s.Host = "172.17.0.{id}:5683"
	}
	return p
}

func TestHostsThatTheBridgeKnowsToBeSilentAreNamed(t *testing.T) {
	for name, row := range map[string]struct {
		exact  bool
		change func(p *patient)
		want   []Cause
	}{
		"one of many": {false, func(p *patient) {
			p.sent[1].Down, p.sent[1].HostsDown = 1, []send.HostDown{{Host: "172.17.0.99", Since: now}}
		}, []Cause{HostDown}},
		"the one that is asked about": {true, func(p *patient) {
			p.sent[1].Down, p.sent[1].HostsDown = 1, []send.HostDown{{Host: "172.17.0.50", Since: now}}
			p.sent[1].State, p.sent[1].Reason = account.StateDegraded, "172.17.0.50 does not answer"
		}, []Cause{HostDown}},
		"another one": {true, func(p *patient) {
			p.sent[1].Down, p.sent[1].HostsDown = 1, []send.HostDown{{Host: "172.17.0.99", Since: now}}
		}, nil},
		"a message was lost over it": {false, func(p *patient) {
			p.sent[1].Down, p.sent[1].HostsDown = 1, []send.HostDown{{Host: "172.17.0.99", Since: now}}
			p.sent[1].Drops = map[string]uint64{"unreachable": 1}
			p.sent[1].FirstDrops = map[string]string{"unreachable": "topic a/99: host 172.17.0.99 does not answer on its link; it has not since x"}
		}, []Cause{HostDown}},
		"a host of no network": {false, func(p *patient) {
			p.sent[1].Drops = map[string]uint64{"unreachable": 1}
			p.sent[1].FirstDrops = map[string]string{"unreachable": "topic a/99: no route"}
		}, []Cause{NoRoute}},
		"a port that nobody has": {false, func(p *patient) {
			p.sent[1].HostErrors = []send.HostError{{Host: "172.17.0.50:5683", Error: "port unreachable", From: "172.17.0.50", Count: 1, Last: now}}
		}, []Cause{HostRefuses}},
		"a port that somebody has again": {false, func(p *patient) {
			p.sent[1].HostErrors = []send.HostError{{Host: "172.17.0.50:5683", Error: "port unreachable", From: "172.17.0.50", Count: 1, Last: now.Add(-time.Minute)}}
			p.sent[0].HostErrors, p.sent[1].LastSent = p.sent[1].HostErrors, now
		}, nil},
		"the port of another one": {true, func(p *patient) {
			p.sent[1].HostErrors = []send.HostError{{Host: "172.17.0.51:5683", Error: "port unreachable", Count: 1, Last: now}}
		}, nil},
	} {
		p := hostPatient(row.exact)
		row.change(p)
		r := Examine(p.h, []*Subject{p.Subject})
		var got []Cause
		for _, f := range r.Findings {
			got = append(got, f.Cause)
			if f.Cause == HostDown && strings.Contains(f.Fix, "ip route add") {
				t.Errorf("%s: a route mends no silence: %s", name, f.Fix)
			}
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: found %q, want %q", name, got, row.want)
		}
		if !slices.ContainsFunc(r.Unseen, func(u string) bool { return strings.Contains(u, "UDP says nothing back") }) {
			t.Errorf("%s: what cannot be known of hosts is not said: %q", name, r.Unseen)
		}
	}
}
