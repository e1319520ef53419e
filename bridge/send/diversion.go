package send

import (
	"net/netip"

	"topicast/bridge/multicast"
)

// Diversion is what a route does to a rule's groups; none: nothing.
type Diversion struct {
	Route multicast.GatewayRoute
	Index int  // of the interface
	Whole bool // all groups of the rule are covered
}

func (d *Diversion) none() bool { return !d.Route.Groups.IsValid() }

// boundKey is what a binding is, and the route that keeps it from being opened, if one does.
type boundKey struct {
	multicast.Binding
	route multicast.GatewayRoute
}

// diverted are those of a rule's groups that a route keeps from leaving, where it is not
// all of them.
type diverted struct {
	groups  netip.Prefix
	binding *binding
	lane    *lane // as Rule.lane
}

// bindingFor is the binding that a group's datagrams leave through.
func (r *Rule) bindingFor(group netip.AddrPort) *binding {
	if r.diverted != nil && r.diverted.groups.Contains(group.Addr()) {
		return r.diverted.binding
	}
	return r.binding
}
