//go:build !linux

package multicast

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// arrivalSpace has room for the control message that says on which interface a
// datagram arrived.
const arrivalSpace = 64

// openReceiver makes a socket for the group's port. Here it is bound to the
// wildcard: meant sorts out what belongs to other groups.
func openReceiver(group netip.AddrPort, _, wish int) (c *net.UDPConn, buffer int, err error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = shareAddress(fd) }), err)
	}}
	p, err := config.ListenPacket(context.Background(), network(group.Addr().Is6()), ":"+strconv.Itoa(int(group.Port())))
	if err != nil {
		return nil, 0, err
	}
	c = p.(*net.UDPConn)
	if err := c.SetReadBuffer(wish); err != nil {
		c.Close()
		return nil, 0, err
	}
	return c, wish, nil
}

// meant tells whether a datagram is for the receiver's group, arrived on its
// interface and comes from one of its sources. Windows says neither group nor
// interface, so there datagrams of other groups with the same port come
// through, if a program on the host has joined them.
func (r *Receiver) meant(m *ipv4.Message, source netip.Addr) bool {
	if len(r.sources) > 0 && !slices.Contains(r.sources, source) {
		return false
	}
	if m.NN == 0 {
		return true
	}
	var index int
	var dst net.IP
	if r.group.Addr().Is6() {
		var cm ipv6.ControlMessage
		if cm.Parse(m.OOB[:m.NN]) == nil {
			index, dst = cm.IfIndex, cm.Dst
		}
	} else {
		var cm ipv4.ControlMessage
		if cm.Parse(m.OOB[:m.NN]) == nil {
			index, dst = cm.IfIndex, cm.Dst
		}
	}
	group, _ := netip.AddrFromSlice(dst)
	return index == r.index && group.Unmap() == r.group.Addr()
}

// KernelDrops is not known here.
func (r *Receiver) KernelDrops() (uint64, error) { return 0, errors.ErrUnsupported }
