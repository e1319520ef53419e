package multicast

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// GatewayRoutes lists the routes of this host that name a gateway for groups of a
// family, or keep groups on this host, in whatever table. It reads all routes: it
// is for a look before a start. It needs no privilege.
func GatewayRoutes(ipv6 bool) ([]GatewayRoute, error) {
	names := make(map[int]string)
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	found, err := dump(func() (found []GatewayRoute, err error) {
		// Table 0, RT_TABLE_UNSPEC, stands for all.
		err = netlink.RouteListFilteredIter(netlinkFamily(ipv6), &netlink.Route{}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			found = append(found, gatewayRoutes(r, names)...)
			return true
		})
		return found, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	return found, nil
}

// GatewayRoute finds the route that this host has for a group and what leaves from
// the source, and reports whether it is one that hands it to a gateway, or keeps it
// on this host.
func (s Source) GatewayRoute(group netip.Addr) (GatewayRoute, bool) {
	if !gatewayed(group) {
		return GatewayRoute{}, false
	}
	// FIBMatch: the route as it is written, with all its gateways. An error is no
	// route, or one that refuses; the group is taken to be on the link then.
	routes, err := netlink.RouteGetWithOptions(group.AsSlice(), &netlink.RouteGetOptions{
		OifIndex: s.Index, SrcAddr: s.Addr.AsSlice(), FIBMatch: true})
	if err != nil {
		return GatewayRoute{}, false
	}
	for _, r := range routes {
		found := gatewayRoutes(r, map[int]string{s.Index: s.Interface})
		if len(found) == 0 {
			continue
		}
		if !found[0].Gateway.IsValid() {
			found[0].Table = 0 // a look-up says main of a local route, whatever table it is in
		}
		return found[0], true
	}
	return GatewayRoute{}, false
}

// gatewayed reports whether Linux asks the routes about a group at all: the groups
// of the link it takes to be on it (IPv4 only).
func gatewayed(group netip.Addr) bool {
	return group.IsMulticast() && (group.Is6() || !group.IsLinkLocalMulticast())
}

// gatewayRoutes returns what a route does to groups, for each gateway it has on the
// interfaces named.
func gatewayRoutes(r netlink.Route, names map[int]string) (found []GatewayRoute) {
	groups, ok := coveredGroups(r)
	if !ok {
		return nil
	}
	for _, hop := range hopsOf(r) {
		name, known := names[hop.LinkIndex]
		// A look-up gives the type of a group for that of the route.
		local := r.Type == unix.RTN_LOCAL || r.Scope == netlink.SCOPE_HOST
		if !known || !hop.gateway.IsValid() && !local {
			continue
		}
		found = append(found, GatewayRoute{
			Groups: groups, Gateway: hop.gateway, Interface: name, Table: r.Table,
			// IPv6 has no SO_DONTROUTE. In IPv4 it passes over routes of the scope of
			// hosts; a gateway in one of link scope takes a nexthop object, or an IPv6
			// gateway, and somebody who asks for that.
			Binding: groups.Addr().Is6() || r.Scope >= netlink.SCOPE_LINK,
		})
	}
	return found
}

// coveredGroups returns the groups that a route covers. A default route of IPv4 names
// its gateway for none: Linux does not follow it for groups.
func coveredGroups(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	if !ok {
		return netip.Prefix{}, false
	}
	groups := netip.PrefixFrom(addr, bits)
	return groups, addr.IsMulticast() && (addr.Is6() || bits >= 4 && !(addr.IsLinkLocalMulticast() && bits >= 24))
}

// hop is one way that a route has.
type hop struct {
	LinkIndex int
	gateway   netip.Addr
}

func hopsOf(r netlink.Route) (hops []hop) {
	if len(r.MultiPath) == 0 {
		return []hop{{r.LinkIndex, gatewayOf(r.Gw, r.Via)}}
	}
	for _, h := range r.MultiPath {
		hops = append(hops, hop{h.LinkIndex, gatewayOf(h.Gw, h.Via)})
	}
	return hops
}

func gatewayOf(gw []byte, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && v != nil { // of another family
		gw = v.Addr
	}
	a, _ := netip.AddrFromSlice(gw)
	return a.Unmap()
}

func netlinkFamily(ipv6 bool) int {
	if ipv6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}
