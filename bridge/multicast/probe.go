package multicast

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Probe is the result of a sender's self-test.
type Probe struct {
	Result ProbeResult
	Wanted netip.AddrPort // what the kernel says datagrams leave from
	Seen   netip.AddrPort // what they really leave from; not valid unless verified or rewritten
	Detail string         // what it means and what to do; empty if verified
}

// ProbeResult says how a self-test ended.
type ProbeResult uint8

const (
	ProbeSkipped   ProbeResult = iota // it could not be made; Detail says why
	ProbeVerified                     // datagrams leave from the source
	ProbeRewritten                    // a NAT rule changes the address or the port
	ProbeUnheard                      // the probe did not come back: a firewall drops what comes in
	ProbeRefused                      // a firewall does not let datagrams leave
)

// String returns "skipped", "verified", "rewritten", "unheard" or "refused".
func (r ProbeResult) String() string {
	switch r {
	case ProbeVerified:
		return "verified"
	case ProbeRewritten:
		return "rewritten"
	case ProbeUnheard:
		return "unheard"
	case ProbeRefused:
		return "refused"
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
	seen, err := s.probe(ctx)
	switch {
	case err == nil && seen == s.local:
		p.Result, p.Seen = ProbeVerified, seen
	case err == nil:
		p.Result, p.Seen = ProbeRewritten, seen
		p.Detail = fmt.Sprintf("a NAT rule changes the source from %s to %s; exempt multicast from it: %s", p.Wanted, seen, s.exemption())
	case errors.Is(err, context.DeadlineExceeded):
		p.Result = ProbeUnheard
		p.Detail = fmt.Sprintf("a probe from %s did not come back: a firewall seems to drop multicast that comes in on %s, from this host and so maybe from others", s.source, s.source.Interface)
	case filtered(err):
		p.Result = ProbeRefused
		p.Detail = fmt.Sprintf("a firewall on this host does not let datagrams leave from %s: allow udp to %s in its output chain", s.source, s.groups())
	default:
		p.Detail = fmt.Sprintf("the self-test could not be made: %v", err)
	}
	return p
}

// exemption is the command that keeps NAT from rewriting multicast.
func (s *Sender) exemption() string {
	word := "ip"
	if s.source.Binding.IPv6 {
		word = "ip6"
	}
	return fmt.Sprintf("nft insert rule %s nat POSTROUTING %s daddr %s accept (nat and POSTROUTING stand for the table and the chain the rule is in, see nft list ruleset)", word, word, s.groups())
}

// groups is where all groups of the sender's family are.
func (s *Sender) groups() string {
	if s.source.Binding.IPv6 {
		return "ff00::/8" // RFC 4291, 2.7
	}
	return "224.0.0.0/4" // RFC 1112, 4
}
