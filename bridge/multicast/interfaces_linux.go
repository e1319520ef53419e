package multicast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interfaces lists the interfaces of this host with their addresses, ordered by
// index. It needs no privilege.
func Interfaces() ([]Interface, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses: %w", err)
	}
	addresses := make(map[int][]Address)
	for _, a := range addrs {
		if addr, ok := addressOf(a); ok {
			addresses[a.LinkIndex] = append(addresses[a.LinkIndex], addr)
		}
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	ifs := make([]Interface, 0, len(links))
	for _, l := range links {
		la := l.Attrs()
		ifs = append(ifs, Interface{
			Name:      la.Name,
			Index:     la.Index,
			MTU:       la.MTU,
			Up:        la.RawFlags&unix.IFF_UP != 0,
			Carrier:   carrier(la.RawFlags),
			Loopback:  la.RawFlags&unix.IFF_LOOPBACK != 0,
			Master:    names[la.MasterIndex],
			Addresses: addresses[la.Index],
		})
	}
	sortByIndex(ifs)
	return ifs, nil
}

// carrier: LOWER_UP is the wire; RUNNING falls also while the link waits for
// something above it, 802.1X for example (the dormant state of RFC 2863).
func carrier(flags uint32) bool {
	const both = unix.IFF_LOWER_UP | unix.IFF_RUNNING
	return flags&both == both
}

// dump repeats a listing that a change cut short.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range 5 {
		all, err = list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return all, err
}

func addressOf(a netlink.Addr) (Address, bool) {
	if a.IPNet == nil {
		return Address{}, false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return Address{}, false
	}
	bits, _ := a.Mask.Size()
	return Address{
		Prefix:     netip.PrefixFrom(ip, bits),
		Broadcast:  addrFromIP(a.Broadcast),
		Secondary:  a.Flags&unix.IFA_F_SECONDARY != 0, // the same bit is IFA_F_TEMPORARY in IPv6
		Tentative:  a.Flags&unix.IFA_F_TENTATIVE != 0,
		Duplicate:  a.Flags&unix.IFA_F_DADFAILED != 0,
		Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
	}, true
}

// addrFromIP returns the zero Addr for a nil IP.
func addrFromIP(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
