//go:build !linux

package multicast

import (
	"fmt"
	"net"
	"net/netip"
)

// Interfaces lists the interfaces of this host with their addresses, ordered by
// index. Outside Linux the flags of addresses and the master are not known, and
// the first address of a network counts as its primary one.
func Interfaces() ([]Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	ifs := make([]Interface, 0, len(list))
	for _, l := range list {
		addrs, err := l.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", l.Name, err)
		}
		ifs = append(ifs, Interface{
			Name:      l.Name,
			Index:     l.Index,
			MTU:       l.MTU,
			Up:        l.Flags&net.FlagUp != 0,
			Carrier:   l.Flags&net.FlagRunning != 0,
			Loopback:  l.Flags&net.FlagLoopback != 0,
			Addresses: addressesOf(addrs, l.Flags&net.FlagBroadcast != 0),
		})
	}
	sortByIndex(ifs)
	return ifs, nil
}

func addressesOf(addrs []net.Addr, broadcast bool) []Address {
	var as []Address
	seen := make(map[netip.Prefix]bool)
	for _, addr := range addrs {
		n, ok := addr.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ones, bits := n.Mask.Size()
		ip = ip.Unmap()
		if ip.Is4() && bits == 128 {
			ones -= 96
		}
		a := Address{Prefix: netip.PrefixFrom(ip, ones)}
		if ip.Is4() {
			a.Secondary = seen[a.Prefix.Masked()]
			seen[a.Prefix.Masked()] = true
			if broadcast && ones < 31 {
				a.Broadcast = lastAddr(a.Prefix)
			}
		}
		as = append(as, a)
	}
	return as
}
