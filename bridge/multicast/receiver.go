package multicast

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/net/ipv4"
)

// receiveBuffer is what is asked for as SO_RCVBUF by default, in bytes. The
// usual 208 KiB hold 256 datagrams, however small.
const receiveBuffer = 4 << 20

// ReceiverOptions says which datagrams to receive.
type ReceiverOptions struct {
	Group     netip.AddrPort // the group, with its port
	Interface string         // name of the interface to join on
	Sources   []netip.Addr   // only from these (RFC 4607); none: from anybody
	Buffer    int            // receive buffer in bytes; 0: 4 MiB
}

// Receiver receives the datagrams of one group that arrive on one interface,
// and no others: not those of another group with the same port, nor unicast.
//
// Outside Linux it is bound to the wildcard and sorts out the rest itself. On
// Windows it cannot: datagrams for other groups of the port come through where a
// program on the host has joined them, and sources are filtered here only.
type Receiver struct {
	group  netip.AddrPort
	index  int
	buffer int
	conn   *net.UDPConn
	ip     packetConn

	read    func([]ipv4.Message) (int, error)
	sources []netip.Addr
	lent    *inbox // what the payloads of the last Receive lie in
}

// Listen joins a group. The error wraps ErrPending if the interface is absent.
// Joining works on an interface that is down or has no address.
func Listen(o ReceiverOptions) (*Receiver, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("listen to %s: %w", o.Group, err)
	}
	ifs, err := Interfaces()
	if err != nil {
		return nil, err
	}
	on := findInterface(ifs, o.Interface)
	if on == nil {
		return nil, pending(fmt.Sprintf("listen to %s: there is no interface %s (there are %s)", o.Group, o.Interface, interfaceNames(ifs)))
	}
	r, err := listen(o, &net.Interface{Index: on.Index, Name: on.Name})
	if err != nil {
		return nil, fmt.Errorf("listen to %s on %s: %w", o.Group, o.Interface, explainListen(o, err))
	}
	return r, nil
}

func (o ReceiverOptions) check() error {
	g := o.Group.Addr()
	switch {
	case !g.IsMulticast(), g.Is4In6(), g.Zone() != "", o.Group.Port() == 0:
		return fmt.Errorf("%w with a port", ErrBadGroup)
	case o.Interface == "":
		return errors.New("no interface: name the one to join on, it is never guessed")
	}
	for _, s := range o.Sources {
		if s.Is4() != g.Is4() || s.Is4In6() || s.IsMulticast() || s.IsUnspecified() {
			return fmt.Errorf("source %s is not an %s address to receive from", s, family(g.Is6()))
		}
	}
	return nil
}

// listen does the work of Listen; port 0 lets the kernel choose one.
func listen(o ReceiverOptions, on *net.Interface) (*Receiver, error) {
	conn, buffer, err := openReceiver(o.Group, on.Index, cmp.Or(o.Buffer, receiveBuffer))
	if err != nil {
		return nil, err
	}
	r := &Receiver{
		group:   netip.AddrPortFrom(o.Group.Addr(), addrPort(conn.LocalAddr()).Port()),
		index:   on.Index,
		buffer:  buffer,
		conn:    conn,
		ip:      newPacketConn(conn, o.Group.Addr().Is6()),
		sources: o.Sources,
	}
	r.read = r.reader()
	if err := r.join(on, o.Sources); err != nil {
		conn.Close()
		return nil, err
	}
	return r, nil
}

// join joins by the interface's index; by address it would be ambiguous, and
// without either the routes would choose.
func (r *Receiver) join(on *net.Interface, sources []netip.Addr) error {
	if err := r.ip.markArrivals(); err != nil && canMark {
		return option("PKTINFO", err)
	}
	group := &net.UDPAddr{IP: r.group.Addr().AsSlice()}
	if len(sources) == 0 {
		return option("membership", r.ip.JoinGroup(on, group))
	}
	sources = slices.Clone(sources)
	slices.SortFunc(sources, netip.Addr.Compare)
	for _, s := range slices.Compact(sources) {
		if err := r.ip.JoinSourceSpecificGroup(on, group, &net.UDPAddr{IP: s.AsSlice()}); err != nil {
			return option("membership from "+s.String(), err)
		}
	}
	return nil
}

// explainListen says in words what the system's errors mean for a receiver.
func explainListen(o ReceiverOptions, err error) error {
	switch {
	case inUse(err):
		return fmt.Errorf("port %d is taken by a program that does not share it (no SO_REUSEADDR): %w", o.Group.Port(), err)
	case queueFull(err) && len(o.Sources) > 0:
		return fmt.Errorf("the system allows fewer sources than %d (net.ipv4.igmp_max_msf): %w", len(o.Sources), err)
	case unreachable(err):
		return pending(fmt.Sprintf("interface %s is gone: %v", o.Interface, err), err)
	}
	return err
}

// Receive waits for a datagram and returns it and those behind it, as many as
// batch holds, 32 at the most, each whole. It returns net.ErrClosed after Close.
//
// Payloads are valid until the next Receive, which only one goroutine may call
// at a time.
func (r *Receiver) Receive(batch []Datagram) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	for {
		ms, err := r.take(min(len(batch), maxReceive))
		if err != nil {
			return 0, err
		}
		n := 0
		for i := range ms {
			m := &ms[i]
			d := Datagram{Group: r.group, Source: addrPort(m.Addr), Payload: m.Buffers[0][:m.N], Interface: r.index}
			if r.meant(m, d.Source.Addr()) {
				batch[n] = d
				n++
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// take reads up to most datagrams. While there are none it holds no inbox.
func (r *Receiver) take(most int) ([]ipv4.Message, error) {
	for {
		if r.lent == nil {
			r.lent = inboxes.Get().(*inbox)
		}
		n, err := r.read(r.lent.messages[:most])
		if err == nil {
			return r.lent.messages[:n], nil
		}
		inboxes.Put(r.lent)
		r.lent = nil
		if blocked(err) {
			err = r.readable()
		}
		if err != nil {
			return nil, fmt.Errorf("receive %s: %w", r.group, err)
		}
	}
}

// Group returns the group with its port.
func (r *Receiver) Group() netip.AddrPort { return r.group }

// Buffer returns the size of the receive buffer that was granted, in bytes.
func (r *Receiver) Buffer() int { return r.buffer }

// Close leaves the group and closes the socket. A Receive under way returns
// net.ErrClosed. Closing again does nothing.
func (r *Receiver) Close() error {
	if err := r.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
