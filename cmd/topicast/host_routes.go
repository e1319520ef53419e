package main

import (
	"fmt"
	"net/netip"
	"strings"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// routes are those of this host that name a gateway for groups.
type routes struct {
	list  func(ipv6 bool) ([]multicast.GatewayRoute, error)
	match func(multicast.Source, netip.Addr) (multicast.GatewayRoute, bool)
	known map[bool][]multicast.GatewayRoute // by family: they are listed once
}

func newRoutes() routes {
	return routes{multicast.GatewayRoutes, multicast.Source.GatewayRoute, make(map[bool][]multicast.GatewayRoute)}
}

// of finds a route that would hand groups of a rule to a gateway, of what leaves from the
// source, and whether all of its groups take it.
func (r *routes) of(s multicast.Source, group mapping.Group) (route multicast.GatewayRoute, whole, ok bool) {
	if r.list == nil || s.Binding.Host {
		return multicast.GatewayRoute{}, false, false
	}
	ipv6 := s.Binding.IPv6
	all, listed := r.known[ipv6]
	if !listed {
		all, _ = r.list(ipv6) // a host that does not tell has nothing to warn of
		r.known[ipv6] = all
	}
	return s.Among(all, group.Prefix(), r.match)
}

// sendState is what a send rule would be on this host now, in a column of a table.
func (h *host) sendState(r *mapping.SendRule) string {
	p := h.place(r.Binding)
	if p.err == nil {
		if route, whole, ok := h.routes.of(p.source, r.Group); ok && route.Binding {
			if whole {
				return string(account.StatePending)
			}
			return string(account.StateDegraded)
		}
	}
	return h.state(p.pending(), p.err)
}

// gatewayed warns of rules whose groups a route would hand to a gateway, once for
// each binding and route.
func (h *host) gatewayed(rules []mapping.SendRule) (warnings []finding) {
	type key struct {
		binding mapping.Binding
		route   multicast.GatewayRoute
		whole   bool
	}
	first := make(map[key]int) // place in warnings
	more := make(map[key]int)
	for i, r := range rules {
		p := h.place(r.Binding)
		if p.err != nil {
			continue
		}
		route, whole, ok := h.routes.of(p.source, r.Group)
		if !ok {
			continue
		}
		k := key{r.Binding, route, whole}
		if _, known := first[k]; known {
			more[k]++
			continue
		}
		first[k] = len(warnings)
		text, hint := routeText(route, whole)
		warnings = append(warnings, finding{path: h.sendAt(i) + ".group", err: fmt.Errorf("%s", text), hint: hint})
	}
	for k, n := range more {
		w := &warnings[first[k]]
		w.err = fmt.Errorf("%w (and so for %s more)", w.err, count(n, "rule"))
	}
	return warnings
}

// routeText says what a route does to a rule's groups, to all of them or to a part, and
// what to do.
func routeText(r multicast.GatewayRoute, whole bool) (text, hint string) {
	hint = r.Removal()
	switch {
	case !r.Gateway.IsValid():
		text = fmt.Sprintf("the route %s keeps this group on this host: nothing leaves", r)
	case r.Binding:
		text = fmt.Sprintf("the route %s hands this group to a gateway, in frames that no other station hears, and topicast cannot keep it from that", r)
	default:
		text = fmt.Sprintf("the route %s would hand this group to a gateway; topicast sends on the link all the same, to all stations, but other programs of this host do not", r)
		hint += ", unless another program needs it"
	}
	if !whole {
		text = strings.NewReplacer("this group", fmt.Sprintf("the groups %s of this rule", r.Groups), "nothing leaves", "nothing for those leaves").Replace(text)
	}
	return text, hint
}
