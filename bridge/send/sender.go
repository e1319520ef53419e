package send

import (
	"context"
	"net/netip"

	"topicast/bridge/multicast"
)

// Sender is what a binding needs of a multicast.Sender.
type Sender interface {
	SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, failed func(i int, err error)) (int, error)
	Receive(batch []multicast.Datagram) (int, error) // of a binding with Answers
	Wait(ctx context.Context) error
	Idle() bool
	NeighboursFull() bool
	NextHop(host netip.Addr) netip.Addr
	Reach(hop netip.Addr) multicast.Reach
	Buffer() int
	Carrier() error
	SetQueue(kind string)
	SegmentationError() error
	Unclaimed() (uint64, error)
	HostErrors() []multicast.HostError
	SharePort() error
	Probe(ctx context.Context) multicast.Probe
	LocalAddr() netip.AddrPort
	Close() error
}
