//go:build !linux

package multicast

import (
	"errors"
	"fmt"
	"net"
)

// PacketSocket is of Linux.
type PacketSocket struct{}

// OpenPacketSocket says that there is none here.
func OpenPacketSocket(Interface, Sight) (*PacketSocket, error) {
	return nil, fmt.Errorf("packet sockets are of Linux: %w", errors.ErrUnsupported)
}

func (*PacketSocket) Read([]byte) (int, bool, error) { return 0, false, net.ErrClosed }
func (*PacketSocket) Lost() uint64                   { return 0 }
func (*PacketSocket) Close() error                   { return nil }

// newUnbound has a port, for here a socket joins only when it is bound; nobody sends to it.
func newUnbound(ipv6 bool) (*net.UDPConn, error) { return net.ListenUDP(network(ipv6), nil) }
