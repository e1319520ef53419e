package bridge

import (
	"context"
	"net/netip"

	"topicast/bridge/multicast"
)

// network is this host's multicast, or a test's.
type network interface {
	Interfaces() ([]multicast.Interface, error)
	Watch(ctx context.Context, changed func(multicast.Change)) error
	Open(multicast.Source) (socket, error)
	Listen(multicast.ReceiverOptions, multicast.Interface) (receiver, error)
}

// socket is what a binding needs of a multicast.Sender.
type socket interface {
	Send(batch []multicast.Datagram, failed func(i int, err error)) (int, error)
	Wait(ctx context.Context) error
	Carrier() error
	Probe(ctx context.Context) multicast.Probe
	LocalAddr() netip.AddrPort
	Close() error
}

// receiver is what a membership needs of a multicast.Receiver.
type receiver interface {
	Receive(batch []multicast.Datagram) (int, error)
	KernelDrops() (uint64, error)
	Rejoin() error
	Buffer() int
	Close() error
}

type host struct{}

func (host) Interfaces() ([]multicast.Interface, error) { return multicast.Interfaces() }
func (host) Open(src multicast.Source) (socket, error)  { return multicast.Open(src) }
func (host) Listen(o multicast.ReceiverOptions, on multicast.Interface) (receiver, error) {
	return multicast.ListenOn(o, on)
}
func (host) Watch(ctx context.Context, changed func(multicast.Change)) error {
	return multicast.Watch(ctx, changed)
}
