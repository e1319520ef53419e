package multicast

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// openReceiver makes a socket that is bound to the group and hears nothing but
// what it will join itself, or one that hears what comes to the host by the
// interface. The port is shared with other programs; each gets a copy of what the
// group gets.
func openReceiver(group netip.AddrPort, index int, vrf bool, wish int) (c *net.UDPConn, buffer int, err error) {
	newSocket := newUDP
	if group.Port() == 0 {
		newSocket = newKeptUDP // of a self-test
	}
	c, err = newSocket(group.Addr().Is6(), func(fd int) error {
		err := joinVRF(fd, index, vrf)
		if group.Addr().IsUnspecified() {
			err = bindToHost(fd, index, group.Addr().Is6())
		}
		if err := errors.Join(err, hearAll(fd, group.Addr().Is6(), false)); err != nil {
			return err
		}
		if buffer, err = grow(fd, unix.SO_RCVBUF, wish); err != nil {
			return err
		}
		return bindShared(fd, sockaddr(group, index), group.Port() == 0)
	})
	return c, buffer, err
}

// hearAll reports whether a socket is to hear what other sockets have joined, on any
// interface, where it has joined nothing itself. Linux's default is that it does
// (ip(7), IP_MULTICAST_ALL).
func hearAll(fd int, ipv6, all bool) error {
	value := 0
	if all {
		value = 1
	}
	if !ipv6 {
		return option("IP_MULTICAST_ALL", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, value))
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, value)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil // before Linux 4.20; the bound group and unpack do its work
	}
	return option("IPV6_MULTICAST_ALL", err)
}

// joinAcrossSockets joins sources on extra sockets, as many on each as the system allows
// (net.ipv4.igmp_max_msf, 10; net.ipv6.mld_max_msf, 64). The extra ones have no
// port and receive nothing, but the kernel reports all of their sources, and takes in
// what these send. The receiver's own socket hears that, having joined nothing
// itself, and unpack keeps out what other programs have joined.
//
// Joining from anybody instead would be simpler, and wrong: in the source-specific
// ranges routers give nothing to those who do not name sources (RFC 4607, 4.1).
func (r *Receiver) joinAcrossSockets(own memberSocket) error {
	r.leave(own)
	var err error
	six := r.group.Addr().Is6()
	if e := r.raw.Control(func(fd uintptr) { err = hearAll(int(fd), six, true) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	for left := own.sources; len(left) > 0; {
		conn, err := newUDP(six, func(int) error { return nil })
		if err != nil {
			return err
		}
		s := memberSocket{ip: newPacketConn(conn, six), sources: left, extra: conn}
		named, err := r.joinOn(s)
		if named > 0 && queueFull(err) {
			err = nil
		}
		s.sources = left[:named]
		r.sockets = append(r.sockets, s) // with an error too, to be closed
		if err != nil {
			return err
		}
		left = left[named:]
	}
	return nil
}

// intake is the state of one reading, and belongs to the goroutine that does it.
type intake struct {
	attempt func(fd uintptr) (done bool) // r.read, made once: one made per call would be an allocation per call
	most    int
	may     bool // it has taken one off long
	limit   int  // how many are taken at once, for the last were long; 0: MaxReceive
	errno   unix.Errno
	cut     atomic.Uint64 // datagrams that were longer than any can be
	inode   uint64        // of the socket, where it is for what comes to the host
}

func (n *intake) init(r *Receiver, _ packetConn) { n.attempt = r.read }

// fill waits for datagrams and returns how many, most at the most, are in r.inbox.
func (r *Receiver) fill(most int) (int, error) {
	r.most = min(most, cmp.Or(r.limit, MaxReceive))
	if r.inbox != nil {
		r.inbox.giveBack(maxTaken)
	}
	err := r.raw.Read(r.attempt)
	for err == nil && r.errno == 0 && r.inbox == nil {
		r.may = awaitLong()
		err = r.raw.Read(r.attempt)
	}
	r.yield()
	if err == nil && r.errno != 0 {
		err = os.NewSyscallError("recvmmsg", r.errno)
	}
	if err != nil {
		r.release()
		return 0, err
	}
	r.adapt(r.inbox.used, r.inbox.measure())
	return r.inbox.used, nil
}

// yield gives back what was not needed for a long datagram.
func (n *intake) yield() {
	if n.may {
		n.may = false
		long <- nil
	}
}

// closedEvery is how often a receiver that waits for memory looks whether it is closed.
const closedEvery = 250 * time.Millisecond

// awaitLong waits until an inbox for a long datagram may be made, and takes that off the list;
// or for a while.
func awaitLong() bool {
	wait := time.NewTimer(closedEvery)
	defer wait.Stop()
	select {
	case <-long:
		return true
	case <-wait.C:
		return false
	}
}

// adapt has the next call take fewer datagrams where the last ones were long, and more again
// when they are not.
func (n *intake) adapt(taken, bytes int) {
	switch {
	case bytes > maxTaken:
		n.limit = max(taken*maxTaken/bytes, 1)
	case n.limit > 0 && taken == n.limit && 2*bytes <= maxTaken:
		if n.limit *= 2; n.limit >= MaxReceive {
			n.limit = 0
		}
	}
}

// read is called by r.raw.Read when there may be datagrams, and again after it
// said that there are none. It holds no inbox then.
func (r *Receiver) read(fd uintptr) (done bool) {
	if r.inbox != nil && r.inbox.single {
		r.release() // the next datagram may be longer
	}
	for r.inbox == nil {
		switch r.inbox, r.errno = getInbox(fd, r.may); {
		case r.errno == unix.EAGAIN:
			r.yield()
			return false
		case r.errno == unix.EINTR:
			continue
		case r.errno != 0 || r.inbox == nil:
			return true
		}
		r.may = r.may && !r.inbox.long
	}
	for {
		if r.errno = r.inbox.receive(fd, r.most); r.errno != unix.EINTR {
			break
		}
	}
	if r.errno == unix.EAGAIN {
		r.release()
		return false
	}
	return true
}

// unpack makes d of a datagram in r.inbox, and reports whether it is one for us: it
// arrived on the receiver's interface, and whole. IPv6 needs the former: a socket
// bound to a group of more than link-local scope gets it from every interface that
// anybody joined it on.
func (r *Receiver) unpack(i int, d *Datagram) bool {
	in := r.inbox
	switch {
	case in.index(i) != r.on.Index && !(r.answers && in.index(i) == loopbackIndex):
		return false
	case in.cut(i): // no datagram is as long, but half a one is not to be passed off as one
		r.cut.Add(1)
		return false
	}
	d.To, d.Source, d.Payload, d.Interface = r.group, in.source(i), in.payload(i), r.on.Index
	if r.host() {
		to := in.destination(i)
		if !to.IsValid() || to.IsMulticast() { // before Linux 4.20, groups that other programs have joined
			return false
		}
		d.To = netip.AddrPortFrom(to, r.group.Port())
	}
	return r.wants(d.Source.Addr())
}

// loopbackIndex is the index of lo in each network namespace.
const loopbackIndex = 1

// KernelDrops returns how many datagrams the kernel has dropped since Listen, for
// want of room in the receive buffer. It counts up to 2³² and starts again. Any
// goroutine may ask.
func (r *Receiver) KernelDrops() (uint64, error) {
	n, err := socketDrops(r.raw)
	return uint64(n) + r.cut.Load(), err
}
