package multicast

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interface is a network interface of this host at one moment.
type Interface struct {
	Name       string
	AltNames   []string // other names of it, up to 127 bytes each (ip-link(8), altname)
	Index      int
	MTU        int    // bytes, IP header included
	Up         bool   // set up by the administrator
	Carrier    bool   // the link works; without it the kernel takes datagrams and loses them silently
	Loopback   bool   // it ends on this host
	Master     string // the bridge, bond or VRF it belongs to, if any
	MasterKind string // what that is: bridge, bond, team, vrf, …
	HeardOn    string // the interface on which what arrives here is heard, Master or one above it; "" is this one
	VRF        bool   // Master is a VRF: sockets must be bound to the interface, or they neither send nor hear there
	Queue      string // a queueing discipline on the way out that cuts segmented sends up and may lose parts of them, such as tbf; "" is none
	Addresses  []Address
}

// Address is an address of an interface, with the length of its network's prefix.
type Address struct {
	Prefix     netip.Prefix // the address itself, host bits and all; no zone
	Label      string       // IPv4 only: iso0:1 (ip-address(8)); "" where it is the interface's name
	Broadcast  netip.Addr   // IPv4 only; not valid where there is none
	Secondary  bool         // IPv4: not the first of its network; IPv6: temporary (RFC 8981)
	Tentative  bool         // IPv6: not usable until duplicate address detection is done (RFC 4862)
	Duplicate  bool         // IPv6: another host on the link has it
	Deprecated bool         // IPv6: usable, but not to be chosen for something new
}

// vrf returns the VRF that i is a member of, "" if none.
func (i Interface) vrf() string {
	if i.VRF {
		return i.Master
	}
	return ""
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

// of returns the addresses of one family that can be a source. A group is none: with
// "ip address add … autojoin" it stands on the interface like an address.
func (i Interface) of(ipv6 bool) []Address {
	var as []Address
	for _, a := range i.Addresses {
		if a.Prefix.Addr().Is6() == ipv6 && !a.Prefix.Addr().IsMulticast() {
			as = append(as, a)
		}
	}
	return as
}

// isEdge reports whether addr is the broadcast or the network address of a's
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

// findInterface returns the interface that has a name, an alternative one too, or an
// address with it for a label. It returns nil where there is none, or several with
// that label.
func findInterface(ifs []Interface, name string) *Interface {
	for i := range ifs {
		if ifs[i].is(name) {
			return &ifs[i]
		}
	}
	var found *Interface
	for i := range ifs {
		if len(ifs[i].labelled(name)) > 0 {
			if found != nil {
				return nil
			}
			found = &ifs[i]
		}
	}
	return found
}

// is reports whether the interface has a name, be it an alternative one.
func (i Interface) is(name string) bool { return i.Name == name || slices.Contains(i.AltNames, name) }

// KernelNames returns the kernel's own name of an interface by each other name that
// findInterface takes for it.
func KernelNames(ifs []Interface) map[string]string {
	names := make(map[string]string)
	for _, i := range ifs {
		for _, a := range i.Addresses {
			if on := findInterface(ifs, a.Label); on != nil {
				names[a.Label] = on.Name
			}
		}
		for _, n := range i.AltNames {
			names[n] = i.Name
		}
	}
	for _, i := range ifs {
		delete(names, i.Name)
	}
	return names
}

// labelled returns the addresses that have a label.
func (i Interface) labelled(label string) (as []Address) {
	for _, a := range i.Addresses {
		if label != "" && a.Label == label {
			as = append(as, a)
		}
	}
	return as
}

// noInterface is the error for a name that findInterface does not find.
func noInterface(ifs []Interface, name string) error {
	if slices.ContainsFunc(ifs, func(i Interface) bool { return len(i.labelled(name)) > 0 }) {
		return pending(fmt.Sprintf("the label %s is ambiguous, several interfaces have it: name the interface instead", name), ErrAmbiguous)
	}
	if strings.ContainsAny(name, ",*?[") { // patterns of a rule, of which none has matched
		return pending(fmt.Sprintf("no interface matches %s (there are %s)", name, interfaceNames(ifs)), ErrNoInterface)
	}
	device, _, isLabel := strings.Cut(name, ":")
	if on := findInterface(ifs, device); isLabel && on != nil {
		return pending(fmt.Sprintf("no address of %s has the label %s", on.Name, name), ErrNoInterface)
	}
	return pending(fmt.Sprintf("there is no interface %s (there are %s)", name, interfaceNames(ifs)), ErrNoInterface)
}

// ResolveInterface finds the interface that text names among those of this host,
// by its name, an alternative name, the label of an address of it, or an address that
// it has: "iso0", "enp3s0", "iso0:1", "172.17.0.1", "fd17::1", "fe80::1%iso0". What is
// several of these is the first.
//
// Errors wrap ErrPending: no interface has the name (ErrNoInterface too) or the
// address now, or several have the label or the address (ErrAmbiguous too).
func ResolveInterface(text string, interfaces []Interface) (Interface, error) {
	if i := findInterface(interfaces, text); i != nil {
		return *i, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return Interface{}, noInterface(interfaces, text)
	}
	addr = addr.Unmap()
	among := interfaces
	if zone := addr.Zone(); zone != "" {
		on := findInterface(interfaces, zone)
		if on == nil {
			return Interface{}, noInterface(interfaces, zone)
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
