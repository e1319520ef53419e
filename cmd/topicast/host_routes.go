package main

import (
	"fmt"
	"net/netip"

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

// of finds a route that would hand a group of the template to a gateway, of what
// leaves from the source.
func (r *routes) of(s multicast.Source, group mapping.Group) (multicast.GatewayRoute, bool) {
	if r.list == nil {
		return multicast.GatewayRoute{}, false
	}
	ipv6 := s.Binding.IPv6
	all, listed := r.known[ipv6]
	if !listed {
		all, _ = r.list(ipv6) // a host that does not tell has nothing to warn of
		r.known[ipv6] = all
	}
	within := group.Prefix()
	if !within.IsValid() { // the whole address is a capture
		within = multicast.AllGroups(ipv6)
	}
	return s.Among(all, within, r.match)
}

// gatewayed warns of rules whose groups a route would hand to a gateway, once for
// each binding and route.
func (h *host) gatewayed(rules []mapping.SendRule) (warnings []finding) {
	type key struct {
		binding mapping.Binding
		route   multicast.GatewayRoute
	}
	first := make(map[key]int) // place in warnings
	more := make(map[key]int)
	for i, r := range rules {
		p := h.place(r.Binding)
		if p.err != nil {
			continue
		}
		route, ok := h.routes.of(p.source, r.Group)
		if !ok {
			continue
		}
		k := key{r.Binding, route}
		if _, known := first[k]; known {
			more[k]++
			continue
		}
		first[k] = len(warnings)
		text, hint := routeText(route)
		warnings = append(warnings, finding{path: fmt.Sprintf("send[%d].group", i), err: fmt.Errorf("%s", text), hint: hint})
	}
	for k, n := range more {
		w := &warnings[first[k]]
		w.err = fmt.Errorf("%w (and so for %s more)", w.err, count(n, "rule"))
	}
	return warnings
}

// routeText says what a route does to a rule's groups, and what to do.
func routeText(r multicast.GatewayRoute) (text, hint string) {
	remove := r.Removal()
	switch {
	case !r.Gateway.IsValid():
		return fmt.Sprintf("the route %s keeps this group on this host: nothing leaves", r), remove
	case r.Binding:
		return fmt.Sprintf("the route %s hands this group to a gateway, in frames that no other station hears, and topicast cannot keep it from that", r), remove
	}
	return fmt.Sprintf("the route %s would hand this group to a gateway; topicast sends on the link all the same, to all stations, but other programs of this host do not", r),
		remove + ", unless another program needs it"
}
