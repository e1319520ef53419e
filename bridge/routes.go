package bridge

import (
	"context"
	"slices"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/mapping"
)

// Routes that keep groups on this host, or hand them to a gateway, and that no option of
// a socket passes over (multicast.GatewayRoute). The kernel takes such a datagram and
// says nothing, so that it would count as sent. So what is for those groups waits, as
// for an interface that is away: it gets a binding that is never opened, until the route
// is gone. Where a rule uses the spool, all of it waits: what it has there is in one order.
//
// The routes are looked at before the sockets are opened, when the system tells of a
// change, and now and then; datagrams are not asked.

// routesEvery is how often the routes are listed though nothing told of a change.
const routesEvery = 10 * time.Minute

// diversions finds out what routes do to the rules of a table, in their order; nil:
// nothing. Callers hold reloadMu.
func (b *Bridge) diversions(table *mapping.Table) (all []send.Diversion) {
	specs := table.Send()
	if b.routesChanged.Swap(false) || b.routesAt.IsZero() || time.Since(b.routesAt) >= routesEvery {
		b.listRoutes(specs)
	}
	if len(b.routes) == 0 {
		return nil
	}
	interfaces, err := b.options.network.interfaces()
	if err != nil {
		return b.current().send.Diversions // refresh tells
	}
	type source struct {
		multicast.Source
		err error
	}
	sources := make(map[multicast.Binding]source)
	for i := range specs {
		want := multicast.Binding(specs[i].Binding)
		s, known := sources[want]
		if !known {
			s.Source, s.err = want.ResolveIn(interfaces)
			sources[want] = s
		}
		if s.err != nil || want.Host {
			continue
		}
		// Where the whole address is a capture the prefix is the zero one.
		route, whole, ok := s.Among(b.routes, specs[i].Group.Prefix(), b.options.network.gatewayRoute)
		if !ok || !route.Binding {
			continue
		}
		if all == nil {
			all = make([]send.Diversion, len(specs))
		}
		all[i] = send.Diversion{Route: route, Index: s.Index, Whole: whole}
	}
	return all
}

// listRoutes lists the routes that no option passes over.
func (b *Bridge) listRoutes(specs []mapping.SendRule) {
	var found []multicast.GatewayRoute
	for _, ipv6 := range []bool{false, true} {
		if !slices.ContainsFunc(specs, func(r mapping.SendRule) bool { return r.Binding.IPv6 == ipv6 }) {
			continue
		}
		all, err := b.options.network.gatewayRoutes(ipv6)
		if err != nil {
			b.routesChanged.Store(true) // at the next look
			b.log.Debug("cannot list the routes", "err", err)
			return
		}
		found = append(found, all...)
	}
	b.routesAt = time.Now()
	b.routes = slices.DeleteFunc(found, func(r multicast.GatewayRoute) bool { return !r.Binding })
}

// followRoutes puts the table to work anew where routes do something else to its rules
// than before.
func (b *Bridge) followRoutes(ctx context.Context) {
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	// While something is pending there is a look each second, and many rules may ask.
	told := b.routesDue.Swap(false)
	if now := time.Now(); told || now.Sub(b.routesSeen) >= lookSettled {
		b.routesSeen = now
	} else {
		return
	}
	before := b.current()
	if b.running == nil || slices.Equal(b.diversions(before.table), before.send.Diversions) {
		return
	}
	if err := b.replace(ctx, before.table); err != nil {
		b.log.Error("cannot look at the routes anew; the rules stay as they are", "err", err)
	}
}
