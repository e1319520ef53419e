package multicast

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	// ReceiveBuffer is what a receiver asks for as SO_RCVBUF by default, in bytes. The
	// usual 208 KiB hold 256 datagrams, however small.
	ReceiveBuffer = 8 << 20

	// MaxReceive is how many datagrams one Receive returns at most.
	MaxReceive = 64

	// maxArrival is the longest payload that can arrive, an IPv6 datagram's
	// (RFC 8200, 65,535 less 8 for UDP's header). With buffers of this size
	// nothing is ever cut.
	maxArrival = 65527
)

// ReceiverOptions says which datagrams to receive.
type ReceiverOptions struct {
	Group   netip.AddrPort // the group, with its port; with an unspecified address, what comes to the host itself at that port (Linux)
	Sources []netip.Addr   // only from these (RFC 4607), of any number; none: from anybody
	Buffer  int            // receive buffer in bytes; 0: 8 MiB
}

// Receiver receives the datagrams of one group that arrive on one interface,
// and no others: not those of another group with the same port, nor unicast. Or it
// receives what comes to the host itself at a port by one interface, unicast and
// broadcast of one family, and no groups.
//
// Outside Linux it is bound to the wildcard and sorts out the rest itself. On
// Windows it cannot: datagrams for other groups of the port come through where a
// program on the host has joined them, and sources are filtered here only.
type Receiver struct {
	group  netip.AddrPort
	on     net.Interface
	buffer int
	conn   *net.UDPConn
	raw    syscall.RawConn                     // of conn
	only   atomic.Pointer[map[netip.Addr]bool] // sources; nil: anybody
	intake                                     // how datagrams are read

	answers bool // it reads what comes to a Sender's port

	inbox *inbox // what the payloads of the last Receive lie in

	mu      sync.Mutex
	sockets []memberSocket // what holds the memberships
}

// Listen joins a group on an interface. The error wraps ErrPending if no interface has its index any more.
// Joining works on an interface that is down or has no address.
func Listen(o ReceiverOptions, on Interface) (*Receiver, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r, err := listen(o, &net.Interface{Index: on.Index, Name: on.Name}, on.VRF)
	if err != nil {
		return nil, fmt.Errorf("listen to %s on %s: %w", o.Group, on.Name, explainListen(o, on.Name, err))
	}
	return r, nil
}

func (o ReceiverOptions) check() error {
	g := o.Group.Addr()
	if isHostPort(o.Group) {
		if len(o.Sources) > 0 {
			return fmt.Errorf("listen to %s: the network cannot be asked for what comes to this host of some senders only", o.Group)
		}
		return CanHearHost()
	}
	if !isGroup(o.Group) {
		return fmt.Errorf("listen to %s: %w with a port", o.Group, ErrBadGroup)
	}
	for _, s := range o.Sources {
		if s.Is4() != g.Is4() || s.Is4In6() || s.IsMulticast() || s.IsUnspecified() {
			return fmt.Errorf("listen to %s: source %s is not an %s address to receive from", o.Group, s, family(g.Is6()))
		}
	}
	return nil
}

// CanHearHost returns why what comes to the host itself cannot be received on this system, or
// nil.
func CanHearHost() error {
	if !canHearHost {
		return fmt.Errorf("what comes to a port of this host is received on Linux only: %w", errors.ErrUnsupported)
	}
	return nil
}

// listen does the work of Listen; port 0 lets the kernel choose one.
func listen(o ReceiverOptions, on *net.Interface, vrf bool) (*Receiver, error) {
	conn, buffer, err := openReceiver(o.Group, on.Index, vrf, cmp.Or(o.Buffer, ReceiveBuffer))
	if err != nil {
		return nil, err
	}
	r := &Receiver{
		group:  netip.AddrPortFrom(o.Group.Addr(), addrPort(conn.LocalAddr()).Port()),
		on:     *on,
		buffer: buffer,
		conn:   conn,
	}
	if err := r.open(o.Sources); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open prepares the socket for reading, and joins.
func (r *Receiver) open(sources []netip.Addr) (err error) {
	if r.raw, err = r.conn.SyscallConn(); err != nil {
		return err
	}
	ip := newPacketConn(r.conn, r.group.Addr().Is6())
	if err := ip.markArrivals(); err != nil && canMark {
		return option("PKTINFO", err)
	}
	r.setOnly(sources)
	r.init(r, ip)
	if r.host() {
		return r.enter() // there is nothing to join
	}
	return r.join(ip, sources)
}

// explainListen says in words what the system's errors mean for a receiver.
func explainListen(o ReceiverOptions, on string, err error) error {
	switch {
	case outOfDescriptors(err):
		return errNoDescriptors(err)
	case noFamily(err):
		return &stateError{"this host has no " + family(o.Group.Addr().Is6()), []error{ErrNoFamily, err}}
	case inUse(err):
		return &stateError{portTaken(o.Group), []error{err}}
	case denied(err):
		return fmt.Errorf("port %d is a privileged one: grant CAP_NET_BIND_SERVICE: %w", o.Group.Port(), err)
	case queueFull(err) && len(o.Sources) > 0:
		return fmt.Errorf("the system allows a socket no sources at all (net.ipv4.igmp_max_msf, net.ipv6.mld_max_msf): %w", err)
	case unreachable(err):
		return pending(fmt.Sprintf("interface %s is gone: %v", on, err), err)
	}
	return err
}

// Receive waits for a datagram and returns it and those behind it, as many as
// batch holds, MaxReceive at the most, each whole. Of what is in batch beyond
// these it makes no promise. It returns net.ErrClosed after Close.
//
// Payloads are valid until the next Receive, which only one goroutine may call
// at a time. It does not allocate.
func (r *Receiver) Receive(batch []Datagram) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	for {
		taken, err := r.fill(min(len(batch), MaxReceive))
		if err != nil {
			return 0, fmt.Errorf("receive %s: %w", r.group, err)
		}
		n := 0
		for i := range taken {
			if r.unpack(i, &batch[n]) {
				n++
			}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// host reports whether the receiver is for what comes to the host itself.
func (r *Receiver) host() bool { return r.group.Addr().IsUnspecified() }

// release gives back the inbox, if there is one.
func (r *Receiver) release() {
	if r.inbox != nil {
		r.inbox.put()
		r.inbox = nil
	}
}

// wants reports whether a source is one of the receiver's. Mostly the system sees to
// that, but not where joinAcrossSockets was needed.
func (r *Receiver) wants(source netip.Addr) bool {
	only := r.only.Load()
	return only == nil || (*only)[source]
}

func (r *Receiver) setOnly(sources []netip.Addr) {
	if len(sources) == 0 {
		r.only.Store(nil)
		return
	}
	only := make(map[netip.Addr]bool, len(sources))
	for _, s := range sources {
		only[s] = true
	}
	r.only.Store(&only)
}

// Group returns the group with its port.
func (r *Receiver) Group() netip.AddrPort { return r.group }

// Buffer returns the size of the receive buffer that was granted, in bytes.
func (r *Receiver) Buffer() int { return r.buffer }

// Close leaves the group and closes the socket. A Receive under way returns
// net.ErrClosed. Closing again does nothing.
func (r *Receiver) Close() error {
	r.forget()
	err := r.conn.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, r.closeExtra())
}
