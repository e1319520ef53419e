package multicast

import "fmt"

// Usable returns nil if the interface is up with carrier; else the error, which wraps
// ErrPending, says what is missing. Nothing else says so of an interface.
func (i Interface) Usable() error {
	switch {
	case !i.Up:
		return pending(fmt.Sprintf("interface %s is down", i.Name))
	case !i.Carrier:
		return pending(fmt.Sprintf("interface %s has no carrier", i.Name))
	}
	return nil
}

// CanReceive returns nil if a group that is joined on the interface is heard. Else the
// error, which wraps ErrPending, says why not and what to do: the interface is not
// usable, or it has a master that takes what arrives before anybody hears it. Sending
// works there all the same.
func (i Interface) CanReceive() error {
	if i.HeardOn == "" {
		return i.Usable()
	}
	const takes = "which takes all that arrives, so that nothing is heard on it"
	if i.MasterKind == "openvswitch" { // its master is the datapath, not the switch that it is a port of
		return pending(fmt.Sprintf("interface %s is a port of an Open vSwitch, %s: listen on the switch's own interface", i.Name, takes))
	}
	role := "a member of"
	switch i.MasterKind {
	case "bridge":
		role = "a port of the bridge"
	case "bond", "team":
		role = "a member of the " + i.MasterKind
	}
	return pending(fmt.Sprintf("interface %s is %s %s, %s: listen on %s (interface: %[5]s)", i.Name, role, i.Master, takes, i.HeardOn))
}
