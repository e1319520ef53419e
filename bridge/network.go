package bridge

import (
	"context"
	"net/netip"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// network is this host's multicast, or a test's.
type network struct {
	interfaces    func() ([]multicast.Interface, error)
	watch         func(ctx context.Context, changed func(multicast.Change)) error
	open          func(multicast.Source) (send.Sender, error)
	listen        func(multicast.ReceiverOptions, multicast.Interface) (receive.Receiver, error)
	joins         func() (multicast.Joins, error)
	hostUnclaimed func() (multicast.HostUnclaimed, error)
	gatewayRoutes func(ipv6 bool) ([]multicast.GatewayRoute, error)
	watchMembers  func(multicast.Interface) *members.Watch
	gatewayRoute  func(multicast.Source, netip.Addr) (multicast.GatewayRoute, bool)
}

// host is the network of this host.
func host() network {
	return network{
		interfaces: multicast.Interfaces,
		watch:      multicast.Watch,
		open:       func(src multicast.Source) (send.Sender, error) { return multicast.Open(src) },
		listen: func(o multicast.ReceiverOptions, on multicast.Interface) (receive.Receiver, error) {
			return multicast.Listen(o, on)
		},
		joins:         multicast.ReadJoins,
		hostUnclaimed: multicast.CountHostUnclaimed,
		gatewayRoutes: multicast.GatewayRoutes,
		watchMembers:  members.Open,
		gatewayRoute:  multicast.Source.GatewayRoute,
	}
}
