//go:build !linux

package multicast

import "net/netip"

// NextHop is nobody: only Linux tells.
func (s Source) NextHop(netip.Addr) netip.Addr { return netip.Addr{} }

func (w *carrierState) nextHop(Source, netip.Addr) netip.Addr { return netip.Addr{} }
func (w *carrierState) reach(int, netip.Addr) Reach           { return ReachUnknown }
