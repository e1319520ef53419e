package multicast

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// sendBuffer is what is asked for as SO_SNDBUF, in bytes. The usual 208 KiB
	// hold 97 datagrams of 1,000 bytes.
	sendBuffer = 4 << 20

	// queuePause is how long to wait for a full interface queue, since nothing
	// tells when it has room again.
	queuePause = time.Millisecond
)

// Sender sends datagrams from one source: from its address and out of its
// interface, or not at all. It is unconnected, so it can send to any group of
// its family, and receives nothing (a filter drops all that comes in), so that nothing
// that is sent to it takes up memory; but where its Binding says whom answers are for (Receive).
//
// All methods may be called from several goroutines; Send and Probe then wait
// for each other, and both wait for Wait.
//
// Linux goes on sending from an address that has moved to another interface, and in
// IPv6 from one that was removed or has become tentative. So Send looks first, before
// each call to the kernel, at what that has told of the addresses: what can still
// leave wrongly is one call's datagrams, if the address moves while it is under way.
// Of senders that share an AddressCheck it is as many, though in several calls.
//
// Outside Linux datagrams go one a system call and never in runs, replies of
// strangers are not filtered out, and a full interface queue or a carrier just lost
// may drop without a word. On Windows moreover Send waits for room in the send
// buffer, the system ignores the DSCP, and takes an IPv4 interface by its first
// address.
type Sender struct {
	source  Source
	local   netip.AddrPort
	buffer  int
	conn    senderConn
	ip      packetConn // of the socket while it is set up
	carrier carrierState
	closed  sync.Once       // guards the name of port
	lent    sync.RWMutex    // held for reading while there is a duplicate of the socket
	life    context.Context // ends with Close, by end
	end     context.CancelFunc

	answers     *Receiver   // reads what comes back; nil: nothing does
	straysTaken atomic.Bool // Receive or HostErrors has taken ICMP errors out of the socket
	hostErrors  hostErrors

	mu          sync.Mutex // what is below, and the order of datagrams
	write       func([]ipv4.Message) (int, error)
	takeErrors  func() bool                // takes what the kernel holds of ICMP errors, and reports whether there were any; nil: none comes
	icmpErrorOf func(error) (may, is bool) // whether an error reads like an ICMP error, and is one (icmperrors_linux.go); nil: none comes
	whole       int                        // longest payload that needs no fragments, where others may be fragmented; else MaxPayload
	fragments   bool                       // the socket lets datagrams be fragmented, as those that it sent last had to be
	broadcasts  bool                       // the socket lets datagrams go to broadcast addresses, as those that it sent last may
	segment     int                        // longest payload that may leave as part of a run; 0: no runs
	unsegmented error                      // why the kernel takes no runs
	queue       string                     // that cuts runs up; "" is none
	port        fixedPort
	pause       bool          // the last Send met a full queue
	check       *AddressCheck // of the Send under way
	neighbours  neighbours
}

// Open opens the socket of a source that Resolve returned. The error wraps
// ErrPending if it may pass by itself: the address or the interface went away
// in the meantime, or another program has the source port.
//
// The order is what makes the source right: bind first, then the interface, by
// index, and never connect. An unbound socket takes its source from the routing
// table, and if connected keeps it when the interface is set later. A bound one
// without an interface leaves wherever the address is found (IPv4), or by the
// first interface there is (IPv6). And IPv4 is kept from asking the routes for a
// gateway: see stayOnLink. IPv6 asks them always, but its own route for groups, in
// the table local, comes before any that an administrator adds to another table;
// what is left, Probe finds.
func Open(src Source) (*Sender, error) {
	s, err := open(src)
	if err != nil {
		return nil, fmt.Errorf("open a sender at %s: %w", src, explainOpen(src, err))
	}
	return s, nil
}

func open(src Source) (*Sender, error) {
	conn, port, buffer, err := openSender(src)
	if err != nil {
		return nil, err
	}
	s := &Sender{source: src, port: port, local: addrPort(conn.LocalAddr()), buffer: buffer, conn: conn, ip: newPacketConn(conn, src.Binding.IPv6)}
	s.life, s.end = context.WithCancel(context.Background())
	err = s.configure()
	if err == nil && port.shared {
		err = s.leavePort()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	s.carrier.open(src)
	if !s.carrier.hasAddress() {
		s.Close()
		return nil, pending(fmt.Sprintf("%s is no longer there", src))
	}
	s.queue, s.unsegmented = src.Queue, canSegment(conn)
	if err := s.leavePoller(); err != nil {
		s.Close()
		return nil, err
	}
	s.write, s.takeErrors = s.writer(), s.errorTaker()
	s.icmpErrorOf = s.icmpErrors()
	s.neighbours = neighbours{ipv6: src.Binding.IPv6, overflows: neighbourOverflows}
	s.whole = MaxPayload
	if src.Binding.Fragment {
		s.whole = src.MTU - headers(src.Binding.IPv6)
	}
	s.setSegment()
	return s, nil
}

// leavePort leaves what comes to a port that another program has too to that.
func (s *Sender) leavePort() error {
	if s.answers != nil {
		return errTakenAnswers
	}
	return s.connect()
}

// setSegment settles whether runs may be sent. Callers hold mu, or have s alone.
func (s *Sender) setSegment() {
	s.segment = 0
	if s.unsegmented == nil && s.queue == "" {
		s.segment = min(s.source.MTU-headers(s.source.Binding.IPv6), MaxPayload)
	}
}

// SetQueue tells the sender of the queueing discipline that datagrams leave through
// now, if it cuts segmented sends up ("" where none does): then datagrams are given
// to the kernel one by one, so that the discipline's refusal of one is reported, as
// ErrNoBuffer, and none counts as sent that it dropped.
func (s *Sender) SetQueue(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = kind
	s.setSegment()
}

// configure sets on the bound socket what all systems have.
func (s *Sender) configure() error {
	b := s.source.Binding
	if s.local.Addr() != s.source.Addr || b.SourcePort != 0 && s.local.Port() != b.SourcePort {
		return fmt.Errorf("the socket was bound to %s instead", s.local)
	}
	for _, o := range append(s.targetOptions(),
		socketOption{"the dscp", func() error { return s.ip.setTrafficClass(int(b.DSCP) << 2) }}, // the two low bits are ECN's (RFC 3168)
		socketOption{"what becomes of what comes in", s.treatInbound},
	) {
		if err := o.set(); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

// treatInbound has what comes to the port read, or dropped.
func (s *Sender) treatInbound() error {
	if s.source.Binding.Answers != "" {
		return s.enableReceive()
	}
	return s.dropInbound()
}

// explainOpen says in words what the system's errors mean for a source.
func explainOpen(src Source, err error) error {
	switch {
	case outOfDescriptors(err):
		return errNoDescriptors(err)
	case errors.Is(err, errDuplicate):
		return pending(fmt.Sprintf("another topicast, or another rule of this one, sends from %s already: choose another source_port", src), err)
	case errors.Is(err, errTakenAnswers):
		return pending(fmt.Sprintf("another program has the port of %s too, and would be given the answers, or lose its own: choose another source_port", src), err)
	case inUse(err):
		return pending("source "+portTaken(netip.AddrPortFrom(src.Addr, src.Binding.SourcePort))+", or choose another source_port", err)
	case denied(err):
		return fmt.Errorf("source port %d is a privileged one: choose one above 1023 or grant CAP_NET_BIND_SERVICE: %w", src.Binding.SourcePort, err)
	case unreachable(err):
		return pending(fmt.Sprintf("%s is no longer there", src), err)
	}
	return err
}

// headers is what IP and UDP add to a payload, in bytes.
func headers(ipv6 bool) int {
	if ipv6 {
		return 40 + 8
	}
	return 20 + 8
}

// errDuplicate: another sender of this program has the source and its fixed port.
var errDuplicate = errors.New("another sender has the port")

// errTakenAnswers: another program has the fixed port to which answers are to come.
var errTakenAnswers = errors.New("the port is not the sender's alone")

// errNoSegments: this is no Linux.
var errNoSegments = errors.New("no segmented sends on this system")

// Source returns what the sender was opened for.
func (s *Sender) Source() Source { return s.source }

// LocalAddr returns the address and port that datagrams leave from, as the
// kernel has them. A NAT rule may rewrite them later: see Probe.
func (s *Sender) LocalAddr() netip.AddrPort { return s.local }

// Buffer returns the size of the send buffer that was granted, in bytes.
func (s *Sender) Buffer() int { return s.buffer }

// SegmentationError returns why this sender gives datagrams to the kernel one by one
// even where they could leave in runs, which takes more of the processor but loses
// nothing: the kernel does not know segmented sends, or has refused one whose
// datagrams it took one by one, or SetQueue has told of a discipline that cuts them
// up. Nil: it sends runs, or this system never does.
func (s *Sender) SegmentationError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(s.unsegmented, errNoSegments):
		return nil
	case s.queue != "":
		return fmt.Errorf("the queueing discipline %s of %s cuts segmented sends up and may drop parts of them without a word", s.queue, s.source.Interface)
	}
	return s.unsegmented
}

// Wait waits until a Send that stopped short is worth repeating: after
// ErrWouldBlock until the send buffer has room, after ErrNoBuffer for a
// millisecond. It returns ctx's error when ctx ends first, and net.ErrClosed
// after Close.
func (s *Sender) Wait(ctx context.Context) error {
	s.mu.Lock()
	pause := s.pause
	s.mu.Unlock()
	if pause {
		if err := s.waitFor(ctx, queuePause); err != nil {
			return err
		}
	}
	conn, release, err := s.pollable()
	switch {
	case errors.Is(err, net.ErrClosed):
		return net.ErrClosed
	case err != nil: // there is no descriptor for it
		return s.waitFor(ctx, queuePause)
	}
	defer release()
	closed := context.AfterFunc(s.life, func() { conn.SetWriteDeadline(time.Unix(1, 0)) }) // ends writable
	defer closed()
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		conn.SetWriteDeadline(time.Unix(1, 0))
		close(over)
	})
	err = writable(conn)
	if !stop() {
		<-over
		conn.SetWriteDeadline(time.Time{})
		return ctx.Err()
	}
	if s.life.Err() != nil {
		return net.ErrClosed
	}
	return err
}

// waitFor waits for a while. It returns what Wait does.
func (s *Sender) waitFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.life.Done():
		return net.ErrClosed
	}
}

// Close closes the socket and ends Wait. Closing again does nothing.
func (s *Sender) Close() error {
	s.carrier.close()
	s.closed.Do(s.port.release)
	s.end()
	err := s.conn.Close()
	s.lent.Lock() // a duplicate would keep the port
	defer s.lent.Unlock()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
