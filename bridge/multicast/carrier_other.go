//go:build !linux

package multicast

import "net/netip"

// Carrier returns nil: only Linux is asked. Elsewhere what was given to the kernel
// in the moment between the loss of the carrier and Watch telling of it is lost.
func (s *Sender) Carrier() error { return nil }

type carrierState struct{}

// AddressCheck is, on Linux, what senders share that send one right after the other, so that the
// kernel is asked for the addresses once.
type AddressCheck struct{}

func (*carrierState) open(Source)                             {}
func (*carrierState) close()                                  {}
func (*carrierState) hasAddress() bool                        { return true } // only Watch tells
func (*carrierState) stillHasAddress(*AddressCheck, int) bool { return true }
func (*carrierState) up(int) bool                             { return true }
func (*carrierState) mtu(int) int                             { return 0 }

func (*carrierState) isBroadcast(netip.Addr) bool { return false } // the kernel refuses those of the interface
