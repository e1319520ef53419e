//go:build !linux

package multicast

// canHearHost: there is no way here that was tried to have a socket take what comes by one
// interface and leave others theirs.
const canHearHost = false

func noFamily(error) bool { return false }

// PortConflicts are not known here.
func (r *Receiver) PortConflicts(Interface) (takers, sharers []string) { return nil, nil }

func (r *Receiver) enter() error { return nil }

func (r *Receiver) forget() {}

// PortSharers are not known here.
func PortSharers(uint16, Interface) []string { return nil }
