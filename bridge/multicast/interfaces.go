package multicast

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interface is a network interface of this host at one moment.
type Interface struct {
	Name      string
	Index     int
	MTU       int    // bytes, IP header included
	Up        bool   // set up by the administrator
	Carrier   bool   // the link works; without it the kernel takes datagrams and loses them silently
	Loopback  bool   // it ends on this host
	Master    string // the bridge or bond it is a port of, if any: joins belong there
	Addresses []Address
}

// Address is an address of an interface, with the length of its network's prefix.
type Address struct {
	Prefix     netip.Prefix // the address itself, host bits and all; no zone
	Broadcast  netip.Addr   // IPv4 only; not valid where there is none
	Secondary  bool         // IPv4: not the first of its network; IPv6: temporary (RFC 8981)
	Tentative  bool         // IPv6: not usable until duplicate address detection is done (RFC 4862)
	Duplicate  bool         // IPv6: another host on the link has it
	Deprecated bool         // IPv6: usable, but not to be chosen for something new
}

func (a Address) usable() bool { return !a.Tentative && !a.Duplicate }

// owns returns the entry for addr.
func (i Interface) owns(addr netip.Addr) (Address, bool) {
	for _, a := range i.Addresses {
		if a.Prefix.Addr() == addr {
			return a, true
		}
	}
	return Address{}, false
}

// covers returns the entry that makes addr local though no entry names it: on
// the loopback interface the whole IPv4 network of an address is this host, so
// where there is 127.0.0.1/8 there is 127.0.0.2 too.
func (i Interface) covers(addr netip.Addr) (Address, bool) {
	for _, a := range i.Addresses {
		if i.Loopback && a.Prefix.Addr().Is4() && a.Prefix.Contains(addr) && !isEdge(a, addr) {
			return a, true
		}
	}
	return Address{}, false
}

// of returns the addresses of one family.
func (i Interface) of(ipv6 bool) []Address {
	var as []Address
	for _, a := range i.Addresses {
		if a.Prefix.Addr().Is6() == ipv6 {
			as = append(as, a)
		}
	}
	return as
}

// isEdge tells whether addr is the broadcast or the network address of a's
// network. Networks of one or two addresses have neither (RFC 3021).
func isEdge(a Address, addr netip.Addr) bool {
	if !addr.Is4() || !a.Prefix.Addr().Is4() || a.Prefix.Bits() > 30 {
		return false
	}
	return addr == a.Broadcast || addr == a.Prefix.Masked().Addr() || addr == lastAddr(a.Prefix)
}

// lastAddr returns the address of p with all host bits set.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// findInterface returns nil where there is no interface of that name.
func findInterface(ifs []Interface, name string) *Interface {
	for i := range ifs {
		if ifs[i].Name == name {
			return &ifs[i]
		}
	}
	return nil
}

// ResolveInterface finds the interface that text names among those of this host,
// by its name or by an address that it has: "iso0", "172.17.0.1", "fd17::1",
// "fe80::1%iso0". What is both is a name.
//
// Errors wrap ErrPending: no interface has the name or the address now, or several
// have the address; then they wrap ErrAmbiguous too.
func ResolveInterface(text string, interfaces []Interface) (Interface, error) {
	if i := findInterface(interfaces, text); i != nil {
		return *i, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return Interface{}, pending(fmt.Sprintf("there is no interface %s (there are %s)", text, interfaceNames(interfaces)))
	}
	addr = addr.Unmap()
	among := interfaces
	if zone := addr.Zone(); zone != "" {
		on := findInterface(interfaces, zone)
		if on == nil {
			return Interface{}, pending(fmt.Sprintf("there is no interface %s (there are %s)", zone, interfaceNames(interfaces)))
		}
		among, addr = []Interface{*on}, addr.WithZone("")
	}
	found := having(addr, among, Interface.owns)
	if len(found) == 0 {
		found = having(addr, among, Interface.covers)
	}
	switch len(found) {
	case 0:
		return Interface{}, pending(fmt.Sprintf("no interface has %s (there is %s)", text, list(anyOf(interfaces, addr.Is6()))))
	case 1:
		return *found[0].on, nil
	}
	return Interface{}, pending(fmt.Sprintf("%s is ambiguous, there is %s: name the interface instead", text, list(found)), ErrAmbiguous)
}

func interfaceNames(ifs []Interface) string {
	var names []string
	for _, i := range ifs {
		names = append(names, i.Name)
	}
	return strings.Join(names, ", ")
}

// sortByIndex puts interfaces into an order that does not change between calls.
func sortByIndex(ifs []Interface) {
	slices.SortFunc(ifs, func(a, b Interface) int { return a.Index - b.Index })
}
