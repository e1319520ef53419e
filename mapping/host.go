package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// A Host is a template like a Group, of the address and port of one host, or of a
// broadcast address: 255.255.255.255, or that of a network, which only the interface tells
// from a host's. A broadcast address has to stand there as it is: a slip in a computed
// address is not to reach all hosts of a network.
//
// The zero Host is no host. An immutable value.
type Host struct{ template *Group }

// DefaultHostTTL is the ttl to hosts where a rule does not say (RFC 1700, "IP TIME TO LIVE
// PARAMETER").
const DefaultHostTTL = 64

// ParseHost reads a host template. What can never be a host is an error here; what depends
// on captures is checked for each topic.
func ParseHost(s string) (Host, error) {
	t, err := parseTemplate(s, hostTarget)
	if err != nil {
		if slip := hostSlip(s); slip != nil {
			err = slip
		}
		return Host{}, fmt.Errorf("host %s: %w", quote(s), err)
	}
	return Host{&Group{s, t}}, nil
}

// String returns the template as written.
func (h Host) String() string { return h.to().text }

// IsZero reports whether h is the zero Host.
func (h Host) IsZero() bool { return h.template == nil }

// to is the template, for those who do not tell hosts from groups.
func (h Host) to() Group {
	if h.template == nil {
		return Group{}
	}
	return *h.template
}

// MarshalText returns the template as written.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseHost; "" is the zero Host.
func (h *Host) UnmarshalText(text []byte) (err error) {
	*h = Host{}
	if len(text) > 0 {
		*h, err = ParseHost(string(text))
	}
	return err
}

// Equal reports whether two templates are written alike.
func (h Host) Equal(other Host) bool { return h.String() == other.String() }

// To is where the rule sends: to its group, or to its host.
func (r *SendRule) To() Group {
	if r.Group.IsZero() {
		return r.Host.to()
	}
	return r.Group
}

// Kind is the key of that: group or host.
func (g Group) Kind() string {
	if g.IsZero() {
		return groupTarget.String()
	}
	return g.kind.String()
}

// Broadcasts reports whether the rule may send to all hosts of a network: its host is an
// address as it is, which may be a broadcast address.
func (r *SendRule) Broadcasts() bool { return !r.Host.IsZero() && !r.Host.to().computed() }

// Reaches reports whether the template may come to a target, by a topic or another. It may
// be wrong where two captures hang together, but only by too many.
func (g Group) Reaches(to netip.AddrPort) bool {
	if g.IsZero() {
		return false
	}
	rt := route{template: g.template, ipv6: to.Addr().Is6()}
	if _, known := g.Family(); known && g.ipv6 != rt.ipv6 {
		return false
	}
	s, a := rt.reach(), toAddress(to.Addr())
	return (s.port == 0 || s.port == to.Port()) && s.meets(&a, &a)
}

// linkLocalHost reports whether every host of the template is one of a link: fe80::/10 of
// IPv6 (RFC 4291, 2.5.6), which each interface has.
func (t *template) linkLocalHost() bool {
	if t.kind != hostTarget || !t.ipv6 || t.whole {
		return false
	}
	for _, f := range t.fields {
		if 0 <= f.offset && f.offset < 2 {
			return false
		}
	}
	return toAddr(t.address, true).IsLinkLocalUnicast()
}

var networkOfHosts = regexp.MustCompile(`^\[?[0-9a-fA-F.:]+(/[0-9]+)`)

// hostSlip knows what people write for hosts elsewhere. It says what to write instead, or
// returns nil.
func hostSlip(s string) error {
	scheme, rest, url := strings.Cut(s, "://")
	switch {
	case url:
		return fmt.Errorf("is a URL; write %s, without %s://", strings.TrimSuffix(rest, "/"), scheme)
	case strings.ContainsAny(s, ",;"):
		return errors.New("holds more than one; make a rule of each")
	case networkOfHosts.MatchString(s):
		return errors.New("is a network; write the address of a host, a capture in the place of what varies, as in 192.0.2.{id}:5000, or the broadcast address for all hosts")
	case strings.HasSuffix(s, ":") || strings.Contains(s, "{") || strings.ContainsAny(s, "[]"):
		return nil
	}
	if name, _, ok := strings.Cut(s, ":"); ok && strings.ContainsAny(strings.ToLower(name), "ghijklmnopqrstuvwxyz") {
		return errors.New("is a name, and a host is an address: what a name stands for can change at any time")
	}
	return nil
}
