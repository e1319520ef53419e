package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The groups of a range that are listened for from the beginning may not be those that are used.
func TestOfManyGroupsThoseThatSomethingComesForAreLookedAt(t *testing.T) {
	p := newPatient(false)
	p.Hears = func(to netip.AddrPort) bool { return to.Port() == 30001 && to.Addr().IsMulticast() }
	for i := range mostFound + 2 {
		p.comes(device, netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 11, 4, byte(i)}), 30001))
	}
	p.comes(device, to)
	p.comes(device, netip.MustParseAddrPort("239.11.4.0:30002"))
	if more := found([]*Subject{p.Subject}, p.On.Index+1, p.Live.Wire.Flows); len(more) > 0 {
		t.Errorf("%d are found on another interface", len(more))
	}
	more := found([]*Subject{p.Subject}, p.On.Index, p.Live.Wire.Flows)
	if len(more) != mostFound || more[0].To.String() != "239.11.4.0:30001" || more[0].Of != p.Of {
		t.Fatalf("found %d", len(more))
	}
	if again := found(append(more, p.Subject), p.On.Index, p.Live.Wire.Flows); len(again) > 0 {
		t.Errorf("%d are found once more", len(again))
	}
	// What came before somebody listened could not reach a socket.
	one := more[0]
	one.Live = Live{Looked: true, Flag: true, Wire: p.Live.Wire, Heard: map[netip.Addr]int{}, Early: 1}
	p.h.Found, p.Live.Heard[device] = more[:1], 1
	if got := p.causes(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	one.Live.Early = 0
	if got := p.causes(); !slices.Contains(got, IngressFirewall) {
		t.Errorf("found %q", got)
	}
}

// What a sender sends that the rule does not take arrives all the same: no switch keeps it.
func TestASwitchIsNotDoubtedWhereOtherSendersAreHeard(t *testing.T) {
	for name, comes := range map[string]func(p *patient){
		"at a socket": func(p *patient) { p.Live.Heard[device] = 3 },
		"on the wire": func(p *patient) { p.comes(device, to) },
	} {
		p := newPatient(false)
		p.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.51/32")}
		comes(p)
		r := Examine(p.h, []*Subject{p.Subject})
		for _, text := range r.Unseen {
			if strings.Contains(text, "a switch") {
				t.Errorf("%s: %q", name, text)
			}
		}
	}
}

// Each of the two has to be mended.
func TestReversePathFilteringIsNamedBesideTheSourcesOfTheRule(t *testing.T) {
	p := newPatient(false)
	p.Sources = []netip.Prefix{netip.MustParsePrefix("172.17.0.51/32")}
	p.comes(device, to)
	p.sysctl["ipv4/conf/iso0/rp_filter"], p.Live.Back[device.String()] = 1, "priv0"
	if got := p.causes(); !slices.Equal(got, []Cause{RPFilter, SourceFiltered}) {
		t.Errorf("found %q", got)
	}
	p.Live.Heard[device] = 3
	if got := p.causes(); !slices.Equal(got, []Cause{SourceFiltered}) {
		t.Errorf("found %q where it reaches a socket", got)
	}
}

// A firewall whose rules were read, and that has none, is not what drops datagrams.
func TestAFirewallWithoutRulesIsNotBlamed(t *testing.T) {
	find := func(change func(p *patient)) string {
		p := newPatient(false)
		p.comes(device, to)
		change(p)
		f := Examine(p.h, []*Subject{p.Subject}).Findings
		if len(f) != 1 || f[0].Cause != IngressFirewall {
			t.Fatalf("%+v", f)
		}
		return f[0].Text + "; " + strings.Join(f[0].Evidence, "; ") + "; " + f[0].Fix
	}
	for _, row := range []struct {
		change func(p *patient)
		want   string
	}{
		{func(*patient) {}, "no rule of nftables drops them"},
		{func(p *patient) { p.h.Legacy = true }, "a firewall of this host drops them"},
		{func(p *patient) { p.h.Rules = nil }, "a firewall of this host drops them"},
		{func(p *patient) { p.h.Rules = filter(redirects) }, "a NAT rule of this host sends what comes for 239.11.3.7:30001 elsewhere; "},
		{func(p *patient) { p.h.Rules = filter(redirects) }, `nft insert rule ip n pre iifname "iso0" ip daddr 239.11.3.7 udp dport 30001 accept`},
	} {
		if got := find(row.change); !strings.Contains(got, row.want) {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}
