//go:build !linux

package multicast

import "net/netip"

// WayBack is not known: only Linux filters by it.
func WayBack(netip.Addr) string { return "" }
