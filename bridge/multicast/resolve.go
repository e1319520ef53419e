package multicast

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Resolve finds the binding's interface and address on this host as it is now.
// The rules are in ResolveIn.
func (b Binding) Resolve() (Source, error) {
	ifs, err := Interfaces()
	if err != nil {
		return Source{}, err
	}
	return b.ResolveIn(ifs)
}

// ResolveIn finds the binding's interface and address among ifs. It guesses
// nothing:
//
//   - A source that is one address has to be on exactly one interface, or on the
//     one named.
//   - A source that is a prefix has to pick one address: those of one interface
//     only, and where these are several, the one that is primary (IPv6: not
//     temporary). Deprecated addresses count only where there is no other.
//   - A label such as iso0:1 names an interface, and without a source that is one
//     address the addresses that have the label.
//   - Without a source it is the named interface's address. IPv4: its primary
//     address, link-local ones (169.254.0.0/16) only where there is no other.
//     IPv6: a global or unique local address before a link-local one, among
//     those one that is not deprecated, among those one that is not temporary,
//     among those the lowest.
//
// An error that wraps ErrPending may pass by itself: the interface is absent,
// down or without carrier, the address is absent, tentative or a duplicate. Any
// other is a fault of the binding.
func (b Binding) ResolveIn(ifs []Interface) (Source, error) {
	if err := b.check(); err != nil {
		return Source{}, err
	}
	among := ifs
	if b.Interface != "" {
		i := findInterface(ifs, b.Interface)
		if i == nil {
			return Source{}, noInterface(ifs, b.Interface)
		}
		among = []Interface{b.narrow(*i)}
	}
	found := b.candidates(among)
	if len(found) == 0 {
		return Source{}, b.absent(among, ifs)
	}
	c, err := b.pick(found)
	if err != nil {
		return Source{}, err
	}
	if err := c.ready(); err != nil {
		return Source{}, err
	}
	return Source{Binding: b, Interface: c.on.Name, Index: c.on.Index, Addr: c.addr, MTU: c.on.MTU, VRF: c.on.vrf(), Queue: c.on.Queue}, nil
}

// narrow leaves of an interface that is named by a label the addresses that have it,
// and its IPv6 addresses, which have none.
func (b Binding) narrow(on Interface) Interface {
	labelled := on.labelled(b.Interface)
	if _, exact := b.exact(); exact || len(labelled) == 0 || on.is(b.Interface) {
		return on
	}
	on.Addresses = append(labelled, on.of(true)...)
	return on
}

// candidate is an address that could be the source.
type candidate struct {
	on    *Interface
	addr  netip.Addr
	entry Address // where addr comes from: its flags, its network
}

func (c candidate) String() string { return fmt.Sprintf("%s on %s", c.addr, c.on.Name) }

// candidates returns the addresses of ifs that the binding's source describes.
func (b Binding) candidates(ifs []Interface) []candidate {
	if exact, ok := b.exact(); ok {
		found := having(exact, ifs, Interface.owns)
		if len(found) == 0 {
			found = having(exact, ifs, Interface.covers)
		}
		return found
	}
	var found []candidate
	for i := range ifs {
		for _, a := range ifs[i].of(b.IPv6) {
			if !b.Source.IsValid() || b.Source.Contains(a.Prefix.Addr()) {
				found = append(found, candidate{&ifs[i], a.Prefix.Addr(), a})
			}
		}
	}
	return found
}

func having(addr netip.Addr, ifs []Interface, in func(Interface, netip.Addr) (Address, bool)) []candidate {
	var found []candidate
	for i := range ifs {
		if a, ok := in(ifs[i], addr); ok {
			found = append(found, candidate{&ifs[i], addr, a})
		}
	}
	return found
}

// pick reduces the candidates to one, or says between which it would not choose.
func (b Binding) pick(found []candidate) (candidate, error) {
	for _, c := range found[1:] {
		if c.on != found[0].on {
			return candidate{}, &stateError{fmt.Sprintf("source %s is ambiguous, there is %s: name the interface too", b.sourceText(), list(found)), []error{ErrAmbiguous}}
		}
	}
	if !b.Source.IsValid() {
		found = prefer(found, func(c candidate) bool { return !c.addr.IsLinkLocalUnicast() })
	}
	found = prefer(found, func(c candidate) bool { return c.entry.usable() })
	found = prefer(found, func(c candidate) bool { return !c.entry.Deprecated })
	if primary := prefer(found, func(c candidate) bool { return !c.entry.Secondary }); len(primary) == 1 || !b.Source.IsValid() {
		found = primary
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case b.Source.IsValid():
		return candidate{}, fmt.Errorf("source %s is ambiguous, there is %s: name the address", b.sourceText(), list(found))
	case !b.IPv6:
		return candidate{}, fmt.Errorf("interface %s has several IPv4 addresses, %s: name one as source", b.Interface, list(found))
	}
	return slices.MinFunc(found, func(x, y candidate) int { return x.addr.Compare(y.addr) }), nil
}

// prefer returns those that are good, or all if none is.
func prefer(found []candidate, good func(candidate) bool) []candidate {
	var best []candidate
	for _, c := range found {
		if good(c) {
			best = append(best, c)
		}
	}
	if len(best) == 0 {
		return found
	}
	return best
}

// ready reports whether datagrams can leave from c now.
func (c candidate) ready() error {
	if err := c.on.Usable(); err != nil {
		return err
	}
	switch {
	case c.entry.Duplicate:
		return pending(fmt.Sprintf("%s is not usable: another host on the link has this address", c))
	case c.entry.Tentative:
		return pending(fmt.Sprintf("%s is not usable yet: the check for duplicates is under way", c))
	}
	return nil
}

// absent says why none of the interfaces that come into question has the source,
// and where it is if it is anywhere.
func (b Binding) absent(among, all []Interface) error {
	exact, isExact := b.exact()
	if isExact {
		if err := refuseEdge(exact, among); err != nil {
			return err
		}
	}
	if b.Interface == "" {
		text := fmt.Sprintf("no interface has %s", b.sourceText())
		if !isExact {
			text = fmt.Sprintf("no interface has an address in %s", b.Source)
		}
		return pending(text + " (there is " + list(anyOf(all, b.IPv6)) + ")")
	}
	on := &among[0]
	if !b.Source.IsValid() {
		return b.without(on)
	}
	text := fmt.Sprintf("%s is not on %s", b.sourceText(), on.Name)
	if !isExact {
		text = fmt.Sprintf("%s has no address in %s", on.Name, b.Source)
	}
	if elsewhere := b.candidates(all); len(elsewhere) > 0 {
		return pending(fmt.Sprintf("%s%s: there is %s", text, b.has(on), list(elsewhere)), ErrMisplaced)
	}
	if err := on.Usable(); err != nil {
		return err
	}
	if len(on.of(b.IPv6)) == 0 {
		return pending(text + b.has(on)) // waits for its first address: most likely this one
	}
	return pending(text+b.has(on), ErrMisplaced)
}

// without is the error for an interface that has no address to choose.
func (b Binding) without(on *Interface) error {
	if err := on.Usable(); err != nil {
		return err
	}
	return pending(fmt.Sprintf("interface %s has no %s address", on.Name, family(b.IPv6)))
}

// has returns what on has instead: " (it has 172.17.0.9/16)".
func (b Binding) has(on *Interface) string {
	as := on.of(b.IPv6)
	if len(as) == 0 {
		return fmt.Sprintf(" (it has no %s address)", family(b.IPv6))
	}
	return fmt.Sprintf(" (it has %s)", join(as, func(a Address) string { return a.Prefix.String() }))
}

// refuseEdge refuses the broadcast and the network address of a network of ifs:
// bind(2) takes them, but datagrams then leave from an address the routes choose.
func refuseEdge(addr netip.Addr, ifs []Interface) error {
	for _, i := range ifs {
		for _, a := range i.Addresses {
			if !isEdge(a, addr) {
				continue
			}
			kind := "broadcast"
			if addr == a.Prefix.Masked().Addr() {
				kind = "network"
			}
			return fmt.Errorf("source %s is the %s address of %s on %s, not one to send from", addr, kind, a.Prefix, i.Name)
		}
	}
	return nil
}

// anyOf returns all addresses of a family, as candidates.
func anyOf(ifs []Interface, ipv6 bool) []candidate { return Binding{IPv6: ipv6}.candidates(ifs) }

// list names candidates: "172.17.0.1 on iso0, 10.0.0.2 on priv0".
func list(cs []candidate) string {
	if len(cs) == 0 {
		return "none"
	}
	return join(cs, candidate.String)
}

// join keeps a line readable on hosts with hundreds of addresses.
func join[T any](ts []T, text func(T) string) string {
	const most = 8
	var words []string
	for _, t := range ts[:min(len(ts), most)] {
		words = append(words, text(t))
	}
	if more := len(ts) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}
