package multicast

import (
	"fmt"
	"net/netip"
	"strings"
)

// A GatewayRoute is a route of this host that hands groups to a gateway: to one
// station, in a unicast frame, instead of to all that listen on the link.
type GatewayRoute struct {
	Groups    netip.Prefix // that the route covers
	Gateway   netip.Addr   // not valid: the route keeps the groups on this host
	Interface string
	Table     int // of the routes; 254 is main, 255 is local

	// Binding: the route takes what a Sender sends too. One of IPv4 with the scope
	// of hosts does not: see Open.
	Binding bool
}

// String returns "224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)", or
// "local 224.0.0.0/4 dev iso0".
func (r GatewayRoute) String() string {
	if !r.Gateway.IsValid() { // a look-up does not tell the table of such a route
		return fmt.Sprintf("local %s dev %s", r.Groups, r.Interface)
	}
	table := fmt.Sprint(r.Table)
	switch r.Table {
	case 254: // RT_TABLE_MAIN
		table = "main"
	case 255: // RT_TABLE_LOCAL
		table = "local"
	}
	return fmt.Sprintf("%s via %s dev %s (table %s)", r.Groups, r.Gateway, r.Interface, table)
}

// Removal is the command that removes the route.
func (r GatewayRoute) Removal() string {
	words := []string{"ip route del"}
	if r.Groups.Addr().Is6() {
		words[0] = "ip -6 route del"
	}
	local := !r.Gateway.IsValid()
	if local {
		words = append(words, "local")
	}
	words = append(words, r.Groups.String())
	if local {
		words = append(words, "dev", r.Interface)
	}
	switch {
	case r.Table == 0, r.Table == 254 && !local: // a look-up does not tell the table of a local route
	case r.Table == 254:
		words = append(words, "table main")
	case r.Table == 255:
		words = append(words, "table local")
	default:
		words = append(words, "table", fmt.Sprint(r.Table))
	}
	command := strings.Join(words, " ")
	if local && r.Groups.IsSingleIP() {
		command += fmt.Sprintf("; or, where it came with an address, ip addr del %s dev %s", r.Groups, r.Interface)
	}
	return command
}

// Diversion says what a route does that nothing keeps from it, and what to do.
func (r GatewayRoute) Diversion() string { return r.diversion() + ": " + r.Removal() }

// Among finds among routes one that a group of a prefix takes, of what leaves from the
// source, and reports whether there is one, and whether all groups of the prefix take it.
// The zero prefix is all groups. Match is Source.GatewayRoute, or a test's.
func (s Source) Among(routes []GatewayRoute, within netip.Prefix, match func(Source, netip.Addr) (GatewayRoute, bool)) (route GatewayRoute, whole, ok bool) {
	if !within.IsValid() {
		within = allGroups(s.Binding.IPv6)
	}
	for _, g := range routes {
		if g.Interface != s.Interface || !g.Groups.Overlaps(within) {
			continue
		}
		// Of two prefixes that overlap, the longer lies in the other. The address asked
		// about stands for all of it; what decides is the kernel's own look-up, since
		// another table may come first.
		both := g.Groups
		if within.Bits() > both.Bits() {
			both = within
		}
		if found, ok := match(s, sample(both)); ok {
			if found.Groups == g.Groups && found.Gateway == g.Gateway {
				found.Table = g.Table // a look-up does not tell it of a local route
			}
			return found, found.Groups.Bits() <= within.Bits(), true
		}
	}
	return GatewayRoute{}, false, false
}

// sample is a group of a prefix; of those of IPv4 not one of the link, about which
// Linux asks no route, unless there is no other.
func sample(groups netip.Prefix) netip.Addr {
	a := groups.Masked().Addr()
	if a == netip.AddrFrom4([4]byte{224, 0, 0, 0}) && groups.Bits() < 24 {
		return netip.AddrFrom4([4]byte{224, 0, 1, 0})
	}
	return a
}

// allGroups is the prefix of all groups of a family (RFC 1112, 4; RFC 4291, 2.7).
func allGroups(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.MustParsePrefix("ff00::/8")
	}
	return netip.MustParsePrefix("224.0.0.0/4")
}

// diversion says what a route does that nothing keeps from it, and what to do.
func (r GatewayRoute) diversion() string {
	if !r.Gateway.IsValid() {
		return fmt.Sprintf("the route %s keeps groups on this host, so that nothing leaves; remove it", r)
	}
	return fmt.Sprintf("the route %s hands groups to the gateway, in frames that no other station hears, and no option of a socket keeps it from that; remove it", r)
}
