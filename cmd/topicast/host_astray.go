package main

import (
	"fmt"
	"net/netip"
	"strings"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// astray warns of hosts that are not where the interface leads to: those of rules whose address is
// as it stands there.
func (h *host) astray(rules []mapping.SendRule) (warnings []finding) {
	for i := range rules {
		r := &rules[i]
		to, fixed := r.To().Fixed()
		if r.Host.IsZero() || !fixed {
			continue
		}
		p := h.place(r.Binding)
		if p.err != nil {
			continue
		}
		on, err := multicast.ResolveInterface(p.source.Interface, h.interfaces)
		if err != nil || on.Loopback {
			continue
		}
		if f := h.stray(r, to.Addr(), p.source, on); f.err != nil {
			f.path = fmt.Sprintf("send[%d].%s", i, f.path)
			warnings = append(warnings, f)
		}
	}
	return warnings
}

// stray is what there is to say of one host; its err is nil where that is nothing.
func (h *host) stray(r *mapping.SendRule, a netip.Addr, from multicast.Source, on multicast.Interface) finding {
	const limited = "255.255.255.255"
	if a.String() == limited && r.Answer != nil && r.Answer.Match.OfHost() {
		return finding{path: "answer", err: fmt.Errorf("match: %s takes answers of the address that was asked, and %s is the broadcast address of the link: those of its hosts are dropped", r.Answer.Match, limited),
			hint: "write match: any"}
	}
	if a.String() == limited || a.Is6() && a.IsLinkLocalUnicast() {
		return finding{}
	}
	var networks []string
	for _, own := range on.Addresses {
		n := own.Prefix.Masked()
		if n.Addr().Is4() == a.Is4() {
			networks = append(networks, n.String())
		}
		if !n.Contains(a) || n.IsSingleIP() {
			continue
		}
		if r.Answer != nil && a == own.Broadcast && r.Answer.Match.OfHost() {
			return finding{path: "answer", err: fmt.Errorf("match: %s takes answers of the address that was asked, and %s is the broadcast address of %s: those of its hosts are dropped", r.Answer.Match, a, n),
				hint: "write match: any"}
		}
		return finding{path: "host", err: edge(a, own)}
	}
	hop := h.nextHop(from, a)
	switch {
	case !hop.IsValid() && a.Is4(): // it is not known, or this host itself
		return finding{}
	case hop.IsValid() && hop != a && r.Binding.TTL == 1:
		return finding{path: "ttl", err: fmt.Errorf("%s is behind the gateway %s, which a ttl of 1 does not cross", a, hop), hint: "leave ttl out: it is 64 then"}
	case hop.IsValid() && hop != a:
		return finding{}
	}
	err := fmt.Errorf("%s is in no network of %s (%s), and no route leads there by it: ", a, on.Name, strings.Join(networks, ", "))
	if a.Is4() {
		return finding{path: "host", err: fmt.Errorf("%wit is asked for on the link all the same", err),
			hint: "name the interface that leads there, or add a route by this one"}
	}
	return finding{path: "host", err: fmt.Errorf("%wit is unreachable", err), hint: "name the interface that leads there, or add a route by this one"}
}

// isBroadcast reports whether an address is for all hosts of a network that this host is on.
func (h *host) isBroadcast(a netip.Addr) bool {
	for _, on := range h.interfaces {
		for _, own := range on.Addresses {
			if a == own.Broadcast || a.Is4() && own.Prefix.Bits() < 31 && a == own.Prefix.Masked().Addr() {
				return true
			}
		}
	}
	return a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// edge says what is wrong with an address of a network, if it looks like that of all hosts, or is
// that of the network itself.
func edge(a netip.Addr, own multicast.Address) error {
	n := own.Prefix.Masked()
	switch {
	case !a.Is4() || n.Bits() > 30 || a == own.Broadcast:
		return nil
	case a == n.Addr():
		return fmt.Errorf("%s is the address of the network %s, and of no host", a, n)
	case a.As4()[3] == 255 && own.Broadcast.IsValid():
		return fmt.Errorf("%s is a host of %s, whose broadcast address is %s: is the mask another one?", a, n, own.Broadcast)
	}
	return nil
}
