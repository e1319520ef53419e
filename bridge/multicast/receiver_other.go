//go:build !linux

package multicast

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// openReceiver makes a socket for the group's port. Here it is bound to the
// wildcard: unpack sorts out what belongs to other groups.
func openReceiver(group netip.AddrPort, _ int, _ bool, wish int) (c *net.UDPConn, buffer int, err error) {
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

// joinAcrossSockets joins from anybody, for the sources are more than the system lets a
// socket name; wants keeps out the others.
func (r *Receiver) joinAcrossSockets(own memberSocket) error {
	r.leave(own)
	own.sources = nil
	r.sockets = []memberSocket{own}
	_, err := r.joinOn(own)
	return err
}

// intake is how datagrams are taken from the kernel, one a call.
type intake struct {
	read func([]ipv4.Message) (int, error)
}

func (n *intake) init(r *Receiver, ip packetConn) { n.read = r.reader(ip) }

// fill waits for a datagram and reads it into r.inbox. While there is none it
// holds no inbox, unless the call itself waits, as on Windows.
func (r *Receiver) fill(int) (int, error) {
	for {
		if r.inbox == nil {
			r.inbox = getInbox()
		}
		n, err := r.read(r.inbox.messages[:])
		if err == nil {
			return n, nil
		}
		r.release()
		if blocked(err) {
			err = readable(r.raw)
		}
		if err != nil {
			return 0, err
		}
	}
}

// unpack makes d of the datagram in r.inbox, and reports whether it is for the
// receiver's group, arrived on its interface and comes from one of its sources.
// Windows says neither group nor interface, so there datagrams of other groups
// with the same port come through, if a program on the host has joined them.
func (r *Receiver) unpack(i int, d *Datagram) bool {
	m := &r.inbox.messages[i]
	*d = Datagram{To: r.group, Source: addrPort(m.Addr), Payload: m.Buffers[0][:m.N:m.N], Interface: r.on.Index}
	return r.wants(d.Source.Addr()) && r.meant(m)
}

func (r *Receiver) meant(m *ipv4.Message) bool {
	if m.NN == 0 {
		return !canMark
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
	return index == r.on.Index && group.Unmap() == r.group.Addr()
}

// KernelDrops is not known here.
func (r *Receiver) KernelDrops() (uint64, error) { return 0, errors.ErrUnsupported }
