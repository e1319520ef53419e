package multicast

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Groups for probes: like those in use, so that what rules do to these shows
// (224.0.0.0/24 is often exempt), but nobody's. 239.192.0.0/14 is the
// organization-local scope (RFC 2365, 6.2), ff15:: a transient group of
// site-local scope (RFC 4291, 2.7).
var (
	probeGroup4 = netip.MustParseAddr("239.195.116.99")
	probeGroup6 = netip.MustParseAddr("ff15::7463:7470")
)

// Probe is the result of a sender's self-test.
type Probe struct {
	Result ProbeResult
	Wanted netip.AddrPort // what the kernel says datagrams leave from
	Seen   netip.AddrPort // what they really leave from; not valid where the probe did not come back
	Detail string         // what it means and what to do; empty if the source is verified
}

// ProbeResult says how a self-test ended. It claims what the test has seen and no
// more: which address and port this host gives to what leaves. That it leaves by the
// interface, in a frame to the group, is not seen but made so: see Open. That anybody
// hears it is beyond this host.
type ProbeResult uint8

const (
	ProbeSkipped   ProbeResult = iota // it could not be made; Detail says why
	ProbeVerified                     // the copy of the probe that this host hears bears the source and its port
	ProbeRewritten                    // a NAT rule changes the address or the port
	ProbeUnheard                      // the probe did not come back: a firewall drops what comes in
	ProbeRefused                      // a firewall does not let datagrams leave
	ProbeGateway                      // a route hands groups to a gateway, and no option keeps it from that
)

// String returns "skipped", "source_verified", "rewritten", "unheard", "refused" or "gateway".
func (r ProbeResult) String() string {
	switch r {
	case ProbeVerified:
		return "source_verified"
	case ProbeRewritten:
		return "rewritten"
	case ProbeUnheard:
		return "unheard"
	case ProbeRefused:
		return "refused"
	case ProbeGateway:
		return "gateway"
	}
	return "skipped"
}

// MarshalText is String.
func (r ProbeResult) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Probe finds out what datagrams of this sender really leave from. It joins a
// group that nobody uses on the interface, sends it one datagram that does not
// leave the host, and looks at the copy that comes back: NAT rules have changed
// it like any other. It needs no privilege, and nothing but the report of the
// membership (IGMP, MLD) is seen on the network.
//
// Without a deadline in ctx an answer is waited for 300 ms.
func (s *Sender) Probe(ctx context.Context) Probe {
	p := Probe{Wanted: s.local}
	if r, ok := s.source.GatewayRoute(s.probeGroup()); ok && r.Binding && !s.source.Binding.Host {
		p.Result, p.Detail = ProbeGateway, r.diversion()
		return p
	}
	seen, err := s.probe(ctx)
	traffic, _ := s.traffic()
	switch {
	case err == nil && seen == s.local:
		p.Result, p.Seen = ProbeVerified, seen
	case err == nil:
		p.Result, p.Seen = ProbeRewritten, seen
		p.Detail = fmt.Sprintf("a NAT rule changes the source from %s to %s; exempt %s from it: %s", p.Wanted, seen, traffic, s.exemption())
	case errors.Is(err, context.DeadlineExceeded):
		p.Result = ProbeUnheard
		p.Detail = fmt.Sprintf("a probe from %s did not come back: a firewall seems to drop multicast that comes in on %s, from this host and so maybe from others", s.source, s.source.Interface)
	case filtered(err):
		p.Result = ProbeRefused
		p.Detail = fmt.Sprintf("a firewall on this host does not let datagrams leave from %s: allow %s in its output chain", s.source, traffic)
	default:
		p.Detail = fmt.Sprintf("the self-test could not be made: %v", err)
	}
	return p
}

// IsProbe reports whether an address is that of the groups that probes go to. They stay on
// the host, but whoever captures on its loopback interface sees them.
func IsProbe(group netip.Addr) bool { return group == probeGroup4 || group == probeGroup6 }

// probeGroup is the group that probes go to.
func (s *Sender) probeGroup() netip.Addr {
	if s.source.Binding.IPv6 {
		return probeGroup6
	}
	return probeGroup4
}

// exemption is the command that keeps NAT from rewriting what the sender sends.
func (s *Sender) exemption() string {
	word := "ip"
	if s.source.Binding.IPv6 {
		word = "ip6"
	}
	_, match := s.traffic()
	return fmt.Sprintf("nft insert rule %s nat POSTROUTING %s %s accept (nat and POSTROUTING stand for the table and the chain the rule is in, see nft list ruleset)", word, word, match)
}

// traffic is what the sender sends, in words and as a rule of nft has it. What goes to hosts
// is known by its source: with the groups exempt, the self-test alone would be.
func (s *Sender) traffic() (words, match string) {
	if s.source.Binding.Host {
		return "udp from " + s.source.Addr.String(), "saddr " + s.source.Addr.String()
	}
	return "udp to " + s.groups(), "daddr " + s.groups()
}

// groups is where all groups of the sender's family are.
func (s *Sender) groups() string {
	if s.source.Binding.IPv6 {
		return "ff00::/8" // RFC 4291, 2.7
	}
	return "224.0.0.0/4" // RFC 1112, 4
}
