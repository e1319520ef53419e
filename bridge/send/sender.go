package send

import (
	"context"
	"net/netip"

	"topicast/bridge/multicast"
)

// Sender is what a binding needs of a multicast.Sender.
type Sender interface {
	Send(batch []multicast.Datagram, failed func(i int, err error)) (int, error)
	Wait(ctx context.Context) error
	Idle() bool
	NeighboursFull() bool
	Carrier() error
	SetQueue(kind string)
	SegmentationError() error
	Unclaimed() (uint64, error)
	SharePort() error
	Probe(ctx context.Context) multicast.Probe
	LocalAddr() netip.AddrPort
	Close() error
}
