package multicast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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
	masters := make(map[int]netlink.Link, len(links))
	for _, l := range links {
		masters[l.Attrs().Index] = l
	}
	queues := cuttingQueues(links)
	addresses := make(map[int][]Address)
	for _, a := range addrs {
		if addr, ok := addressOf(a); ok {
			if addr.Label = a.Label; addr.Label == nameOf(masters[a.LinkIndex]) {
				addr.Label = ""
			}
			addresses[a.LinkIndex] = append(addresses[a.LinkIndex], addr)
		}
	}
	ifs := make([]Interface, 0, len(links))
	for _, l := range links {
		la := l.Attrs()
		ifs = append(ifs, Interface{
			Name:       la.Name,
			AltNames:   la.AltNames,
			Index:      la.Index,
			MTU:        la.MTU,
			Up:         la.RawFlags&unix.IFF_UP != 0,
			Carrier:    carrier(la.RawFlags),
			Loopback:   la.RawFlags&unix.IFF_LOOPBACK != 0,
			Master:     nameOf(masters[la.MasterIndex]),
			MasterKind: kindOf(masters[la.MasterIndex]),
			HeardOn:    heardOn(l, masters),
			VRF:        isVRF(masters[la.MasterIndex]),
			Queue:      queues[la.Index],
			Addresses:  addresses[la.Index],
		})
	}
	sortByIndex(ifs)
	return ifs, nil
}

// nameOf returns "" for nil.
func nameOf(l netlink.Link) string {
	if l == nil {
		return ""
	}
	return l.Attrs().Name
}

// kindOf returns "" for nil.
func kindOf(l netlink.Link) string {
	if l == nil {
		return ""
	}
	return l.Type()
}

// heardOn follows the masters of a link, of which links has all by index, as far as
// they take what arrives: it goes to them before it goes to a socket. A VRF takes
// routes only, and an interface of B.A.T.M.A.N. only its frames. Of the others that
// the kernel knows (bridge, bond, team, Open vSwitch, a paravirtual card over a real
// one) each does.
func heardOn(l netlink.Link, links map[int]netlink.Link) string {
	at := l
	for range links { // masters make no circle, but the list may be of two moments
		master := links[at.Attrs().MasterIndex]
		if kind := kindOf(master); master == nil || kind == "vrf" || kind == "batadv" {
			break
		}
		at = master
	}
	if at == l {
		return ""
	}
	return at.Attrs().Name
}

func isVRF(l netlink.Link) bool {
	_, is := l.(*netlink.Vrf)
	return is
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

// dumpLinks lists the interfaces, as RTM_NEWLINK has each.
func dumpLinks() ([][]byte, error) {
	return dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		return request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	})
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
	broadcast := addrFromIP(a.Broadcast)
	if ip.Is4() && bits < 31 && !broadcast.IsValid() { // the kernel has it all the same (fib_add_ifaddr), and a route for it
		broadcast = lastAddr(netip.PrefixFrom(ip, bits))
	}
	return Address{
		Prefix:     netip.PrefixFrom(ip, bits),
		Broadcast:  broadcast,
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
