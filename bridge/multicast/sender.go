package multicast

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
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
// its family, and deaf, so that what strangers send to it does not pile up.
//
// All methods may be called from several goroutines; Send and Probe then wait
// for each other, and both wait for Wait.
//
// IPv6 only: Linux goes on sending from an address that was removed or has
// become tentative. Watch, resolve again, and close the sender then.
//
// Outside Linux datagrams go one a system call and never in runs, replies of
// strangers are not filtered out, and a full interface queue or a carrier just lost
// may drop without a word. On Windows moreover Send waits for room in the send
// buffer, the system ignores the DSCP, and takes an IPv4 interface by its first
// address.
type Sender struct {
	source Source
	local  netip.AddrPort
	buffer int
	conn   *net.UDPConn
	ip     packetConn
	wire   wire

	mu          sync.Mutex // what is below, and the order of datagrams
	write       func([]ipv4.Message) (int, error)
	segment     int   // longest payload that may leave as part of a run; 0: no runs
	unsegmented error // why segment became 0
	pause       bool  // the last Send met a full queue
}

// Open opens the socket of a source that Resolve returned. The error wraps
// ErrPending if it may pass by itself: the address or the interface went away
// in the meantime, or another program has the source port.
//
// The order is what makes the source right: bind first, then the interface, by
// index, and never connect. An unbound socket takes its source from the routing
// table, and if connected keeps it when the interface is set later. A bound one
// without an interface leaves wherever the address is found (IPv4), or by the
// first interface there is (IPv6).
func Open(src Source) (*Sender, error) {
	s, err := open(src)
	if err != nil {
		return nil, fmt.Errorf("open a sender at %s: %w", src, explainOpen(src, err))
	}
	return s, nil
}

func open(src Source) (*Sender, error) {
	conn, buffer, err := openSender(src)
	if err != nil {
		return nil, err
	}
	s := &Sender{source: src, local: addrPort(conn.LocalAddr()), buffer: buffer, conn: conn, ip: newPacketConn(conn, src.Binding.IPv6)}
	if err := s.configure(); err != nil {
		conn.Close()
		return nil, err
	}
	s.wire.open(src.Index)
	s.write = s.writer()
	if canSegment(conn) {
		s.segment = min(src.MTU-headers(src.Binding.IPv6), MaxPayload)
	}
	return s, nil
}

// configure sets on the bound socket what all systems have.
func (s *Sender) configure() error {
	b := s.source.Binding
	if s.local.Addr() != s.source.Addr || b.SourcePort != 0 && s.local.Port() != b.SourcePort {
		return fmt.Errorf("the socket was bound to %s instead", s.local)
	}
	for _, o := range []struct {
		name string
		set  func() error
	}{
		// By index: by address it would be ambiguous where two interfaces have the same.
		{"the interface", func() error {
			return s.ip.SetMulticastInterface(&net.Interface{Index: s.source.Index, Name: s.source.Interface})
		}},
		{"the ttl", func() error { return s.ip.setTTL(int(b.TTL)) }},
		{"loopback", func() error { return s.ip.SetMulticastLoopback(b.Loopback) }},
		{"the dscp", func() error { return s.ip.setTrafficClass(int(b.DSCP) << 2) }}, // the two low bits are ECN's (RFC 3168)
		{"the filter", s.deafen},
	} {
		if err := o.set(); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

// explainOpen says in words what the system's errors mean for a source.
func explainOpen(src Source, err error) error {
	switch {
	case inUse(err):
		return pending(fmt.Sprintf("source port %d is taken by another program: stop it or choose another port", src.Binding.SourcePort), err)
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

// Source returns what the sender was opened for.
func (s *Sender) Source() Source { return s.source }

// LocalAddr returns the address and port that datagrams leave from, as the
// kernel has them. A NAT rule may rewrite them later: see Probe.
func (s *Sender) LocalAddr() netip.AddrPort { return s.local }

// Buffer returns the size of the send buffer that was granted, in bytes.
func (s *Sender) Buffer() int { return s.buffer }

// SegmentationError returns what the system said when it refused a run of
// datagrams that it took one by one. From then on this sender sends no runs,
// which is slower but loses nothing. Nil: that has not happened.
func (s *Sender) SegmentationError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
		t := time.NewTimer(queuePause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.conn.SetWriteDeadline(time.Unix(1, 0)) // ends writable
		close(over)
	})
	err := s.writable()
	if !stop() {
		<-over
		s.conn.SetWriteDeadline(time.Time{})
		return ctx.Err()
	}
	return err
}

// Close closes the socket and ends Wait. Closing again does nothing.
func (s *Sender) Close() error {
	s.wire.close()
	if err := s.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
