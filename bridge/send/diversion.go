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

// boundKey is what a binding is, and what keeps it from being opened, if something does: a route, or
// that its rules are disabled.
type boundKey struct {
	multicast.Binding
	route multicast.GatewayRoute
	off   bool // never opened: its rules are disabled
}

// diverted are those of a rule's groups that a route keeps from leaving, where it is not
// all of them.
type diverted struct {
	groups  netip.Prefix
	binding *binding
	queue   *ruleQueue // as Rule.waitingIn
}

// bindingFor is the binding that the datagrams for a target leave through.
func (r *Rule) bindingFor(to netip.AddrPort) *binding {
	if r.diverted != nil && r.diverted.groups.Contains(to.Addr()) {
		return r.diverted.binding
	}
	return r.binding
}
