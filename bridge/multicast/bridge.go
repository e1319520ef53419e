package multicast

import "net/netip"

// A Bridge is a bridge of this host, as far as groups are concerned.
type Bridge struct {
	Snooping bool     // it goes by membership reports
	Querier4 bool     // somebody asks for those of IGMP: the bridge itself, or another that it knows
	Querier6 bool     // for those of MLD
	NoFlood  []string // its ports that get no group that nobody is known to have joined
	Routers  []string // its ports behind which a router or querier of groups is: they get every group

	Members map[netip.Addr][]string // the ports behind which somebody has joined a group
	Own     map[netip.Addr]bool     // groups that this host itself has joined there
}

// Querier reports whether somebody asks who has joined groups of the family of an address.
func (b *Bridge) Querier(family netip.Addr) bool {
	if family.Is4() {
		return b.Querier4
	}
	return b.Querier6
}
