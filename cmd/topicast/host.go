package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"topicast/bridge"
	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// host is this host as it is now, for commands that only look at it.
type host struct {
	interfaces []multicast.Interface
	table      *mapping.Table            // whose rules are looked at; nil: they are as they are given
	places     map[mapping.Binding]place // every binding is resolved once
	limits     limits
	routes     routes
	sharers    func(port uint16, on multicast.Interface) []string   // who else has a port of this host
	nextHop    func(s multicast.Source, host netip.Addr) netip.Addr // whom the kernel asks for on the link
	listeners  *listeners                                           // who has joined groups; nil: nobody asks
	unseen     bool                                                 // nothing of it is looked at
}

// errUnseen is where nothing of this host is looked at.
var errUnseen = errors.New("this host is not looked at")

// place is where a binding's datagrams leave from on this host, or why from
// nowhere.
type place struct {
	source multicast.Source
	err    error
}

func newHost() (*host, error) {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return nil, err
	}
	return &host{interfaces: interfaces, places: make(map[mapping.Binding]place), limits: newLimits(), routes: newRoutes(), sharers: multicast.PortSharers, nextHop: multicast.Source.NextHop}, nil
}

// know tells a configuration what other names the interfaces of this host have.
func (h *host) know(cfg *configs.Config) {
	if !h.unseen {
		cfg.On(bridge.HostInterfaces(h.interfaces))
	}
	h.table = cfg.Table
}

// sendAt is the path of a send rule in the configuration.
func (h *host) sendAt(i int) string {
	if h.table != nil {
		i = h.table.SendPlace(i)
	}
	return fmt.Sprintf("send[%d]", i)
}

// receiveAt is that of a receive rule.
func (h *host) receiveAt(i int) string {
	if h.table != nil {
		i = h.table.ReceivePlace(i)
	}
	return fmt.Sprintf("receive[%d]", i)
}

// idle warns of patterns that match no interface.
func (h *host) idle(t *mapping.Table) (warnings []finding) {
	for _, w := range t.Idle() {
		_, none := multicast.ResolveInterface(w.Text, h.interfaces)
		warnings = append(warnings, finding{path: w.Path, err: fmt.Errorf("%w; an interface that comes and matches is taken", none), waits: true})
	}
	for _, w := range t.Beyond() {
		warnings = append(warnings, finding{path: w.Path, err: errors.New(w.Text)})
	}
	return warnings
}

// wait makes of a finding what is said of something that is not there and may come,
// with the name that was probably meant where no interface has the one that is given.
func (h *host) wait(f *finding, name string) {
	absent := errors.Is(f.err, multicast.ErrNoInterface)
	f.err, f.waits = fmt.Errorf("%w; pending until that changes", f.err), true
	if !absent {
		return
	}
	var known []string
	for _, i := range h.interfaces {
		known = append(append(known, i.Name), i.AltNames...)
		for _, a := range i.Addresses {
			known = append(known, a.Label)
		}
	}
	if f.near = mapping.Near(name, known); f.near != "" {
		f.err = fmt.Errorf("%w (did you mean %s?)", f.err, f.near)
	}
}

func (h *host) place(b mapping.Binding) place {
	if h.unseen {
		return place{err: errUnseen}
	}
	p, known := h.places[b]
	if !known {
		p.source, p.err = multicast.Binding(b).ResolveIn(h.interfaces)
		h.places[b] = p
	}
	return p
}

// pending reports whether the place may come by itself. A source that is on the
// wrong interface may too, but before a start it is a mistake.
func (p place) pending() bool {
	return errors.Is(p.err, multicast.ErrPending) && !errors.Is(p.err, multicast.ErrMisplaced)
}

// examine compares send rules with this host. A binding that many rules share is
// reported with the first of them.
func (h *host) examine(rules []mapping.SendRule) (faults, warnings []finding) {
	share := make(map[mapping.Binding]int)
	for _, r := range rules {
		share[r.Binding]++
	}
	seen := make(map[mapping.Binding]bool)
	for i, r := range rules {
		if seen[r.Binding] {
			continue
		}
		seen[r.Binding] = true
		if mapping.SeveralInterfaces(r.Binding.Interface) {
			continue // none of them is there (idle)
		}
		p := h.place(r.Binding)
		f := finding{path: h.sendAt(i) + "." + h.blamed(r.Binding, p.err), err: p.err}
		if others := share[r.Binding] - 1; others > 0 && p.err != nil {
			f.err = fmt.Errorf("%w (and so for %s more)", p.err, count(others, "rule"))
		}
		switch {
		case p.pending():
			h.wait(&f, r.Binding.Interface)
			warnings = append(warnings, f)
		case p.err != nil:
			f.hint = "topicast interfaces lists what there is"
			if r.Instance() != "" && errors.Is(p.err, multicast.ErrMisplaced) {
				f.hint = "name a prefix, which picks an address on each interface, or leave source out: it is then each interface's own"
			}
			faults = append(faults, f)
		default:
			warnings = append(warnings, h.narrow(i, r.Binding, p.source)...)
		}
	}
	return append(faults, h.clashes(rules)...), slices.Concat(warnings, h.gatewayed(rules), h.astray(rules))
}

// blamed is the key that a binding's trouble is about: its interface, where that is
// not there or not usable, else its source, as far as it has the one and the other.
func (h *host) blamed(b mapping.Binding, err error) (key string) {
	switch {
	case !b.Source.IsValid():
		return "interface"
	case b.Interface == "":
		return "source"
	}
	on, noInterface := multicast.ResolveInterface(b.Interface, h.interfaces)
	if noInterface != nil || errors.Is(err, multicast.ErrNoInterface) {
		return "interface"
	}
	if unusable := on.Usable(); unusable != nil && unusable.Error() == err.Error() {
		return "interface"
	}
	return "source"
}

// narrow warns of an interface that is too small for its family: Linux turns
// IPv6 off there.
func (h *host) narrow(rule int, b mapping.Binding, s multicast.Source) []finding {
	const leastIPv6 = 1280 // RFC 8200 section 5
	if !b.IPv6 || s.MTU >= leastIPv6 {
		return nil
	}
	return []finding{{
		path: h.sendAt(rule) + ".interface",
		err:  fmt.Errorf("the mtu of %s is %d bytes, and IPv6 needs %d", s.Interface, s.MTU, leastIPv6),
	}}
}

// clashes finds bindings that need the same source port of the same address and
// are not equal: each needs a socket of its own, and the second cannot be bound.
func (h *host) clashes(rules []mapping.SendRule) (faults []finding) {
	type end struct {
		local netip.AddrPort
		index int // link-local addresses are apart on each interface
	}
	first := make(map[end]int) // rule by local end
	seen := make(map[mapping.Binding]bool)
	for i, r := range rules {
		p := h.place(r.Binding)
		if p.err != nil || r.Binding.SourcePort == 0 || seen[r.Binding] {
			continue
		}
		seen[r.Binding] = true
		e := end{local: netip.AddrPortFrom(p.source.Addr, r.Binding.SourcePort)}
		if e.local.Addr().IsLinkLocalUnicast() && r.Binding.IPv6 {
			e.index = p.source.Index
		}
		other, taken := first[e]
		if !taken {
			first[e] = i
			continue
		}
		faults = append(faults, finding{
			path: h.sendAt(i) + ".source_port",
			err: fmt.Errorf("%s is the local end of %s too, and their %s; one socket cannot do both",
				e.local, h.sendAt(other), differences(rules[other].Binding, r.Binding)),
			hint: "make these keys equal, or take another source_port for one of the rules",
		})
	}
	return faults
}

// differences is "ttl and dscp differ".
func differences(a, b mapping.Binding) string {
	var keys []string
	for _, k := range []struct {
		key    string
		differ bool
	}{
		{"source", a.Source != b.Source},
		{"interface", a.Interface != b.Interface},
		{"ttl", a.TTL != b.TTL},
		{"loopback", a.Loopback != b.Loopback},
		{"dscp", a.DSCP != b.DSCP},
		{"oversize", a.Fragment != b.Fragment},
	} {
		if k.differ {
			keys = append(keys, k.key)
		}
	}
	if len(keys) == 1 {
		return keys[0] + " differs"
	}
	last := len(keys) - 1
	return strings.Join(keys[:last], ", ") + " and " + keys[last] + " differ"
}

// room is the longest payload, in bytes, that leaves the source in one piece.
func room(s multicast.Source) int {
	headers := 20 + 8 // IPv4 and UDP
	if s.Binding.IPv6 {
		headers = 40 + 8
	}
	return min(s.MTU-headers, multicast.MaxPayload)
}
