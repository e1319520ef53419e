package multicast

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// WayBack is the interface by which this host would answer an address, which strict reverse path
// filtering goes by (RFC 3704, 2.2); "" where no route leads there.
func WayBack(to netip.Addr) string {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return ""
	}
	on, err := net.InterfaceByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return on.Name
}
