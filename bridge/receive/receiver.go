package receive

import (
	"net/netip"

	"topicast/bridge/multicast"
)

// Receiver is what a membership needs of a multicast.Receiver.
type Receiver interface {
	Receive(batch []multicast.Datagram) (int, error)
	KernelDrops() (uint64, error)
	Rejoin() error
	SetSources(sources []netip.Addr) error
	PortConflicts(multicast.Interface) (takers, sharers []string)
	Buffer() int
	Close() error
}
