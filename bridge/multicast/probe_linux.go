package multicast

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	// probeWait is how long a probe may take to come back. On an idle host it
	// takes some microseconds.
	probeWait = 300 * time.Millisecond

	// probeBuffer is the receive buffer for it, in bytes.
	probeBuffer = 64 << 10

	// mostProbes is more datagrams than the buffer holds.
	mostProbes = 1024
)

// probe returns the source of a datagram of this sender as this host sees it.
func (s *Sender) probe(ctx context.Context) (netip.AddrPort, error) {
	if s.source.Addr == netip.IPv6Loopback() {
		return netip.AddrPort{}, errors.New("IPv6 multicast does not work over the loopback interface")
	}
	group := s.probeGroup()
	// Port 0: the kernel chooses one that is free.
	r, err := listen(ReceiverOptions{Group: netip.AddrPortFrom(group, 0), Buffer: probeBuffer},
		&net.Interface{Index: s.source.Index, Name: s.source.Interface}, s.source.VRF != "")
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("join %s on %s: %w", group, s.source.Interface, err)
	}
	defer r.Close()

	mark := rand.Text() // tells this probe from those of others
	if err := s.sendProbe(Datagram{To: r.Group(), Payload: []byte(mark)}); err != nil {
		return netip.AddrPort{}, err
	}
	// From here on: a join may take that long by itself, on a busy host.
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probeWait)
		defer cancel()
	}
	return r.awaitProbe(ctx, mark)
}

// sendProbe sends one datagram that stays on the host: with TTL 0 it goes to the
// members here, and since there is one, r, not out of the interface.
func (s *Sender) sendProbe(d Datagram) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn, release, err := s.pollable()
	if err != nil {
		return err
	}
	defer release()
	ip := newPacketConn(conn, s.source.Binding.IPv6)
	defer func() {
		b := s.source.Binding
		if again := errors.Join(ip.setTTL(int(b.TTL)), ip.SetMulticastLoopback(b.Loopback)); again != nil {
			s.conn.Close() // better no datagrams than wrong ones
			err = errors.Join(err, again)
		}
	}()
	if err := errors.Join(ip.setTTL(0), ip.SetMulticastLoopback(true)); err != nil {
		return err
	}
	e := entry{}
	e.setAddr(&d)
	m := []ipv4.Message{{Buffers: [][]byte{d.Payload}, Addr: &e.addr}}
	doubts := 0
	for range mostTries {
		if _, err = s.flush(m); err == nil || !s.isICMPError(err, &d, &doubts) {
			break
		}
	}
	return err
}

// awaitProbe returns the source of the datagram that is mark. At the deadline of ctx it
// looks at what has arrived by then, so that a host too busy to let it run in time is
// not taken for one with a firewall.
func (r *Receiver) awaitProbe(ctx context.Context, mark string) (netip.AddrPort, error) {
	stop := context.AfterFunc(ctx, func() { _ = r.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer r.release()
	batch := make([]Datagram, 1)
	for {
		_, err := r.Receive(batch)
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return netip.AddrPort{}, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			if source, ok := r.arrived(mark); ok {
				return source, nil
			}
			return netip.AddrPort{}, ctx.Err()
		case err != nil:
			return netip.AddrPort{}, err
		case string(batch[0].Payload) == mark:
			return batch[0].Source, nil
		}
	}
}

// arrived looks for mark among the datagrams that have arrived, and never waits.
func (r *Receiver) arrived(mark string) (source netip.AddrPort, ok bool) {
	_ = r.raw.Control(func(fd uintptr) {
		r.most = MaxReceive
		for range mostProbes / MaxReceive {
			if !r.read(fd) || r.errno != 0 {
				return
			}
			var d Datagram
			for i := range r.inbox.used {
				if r.unpack(i, &d) && string(d.Payload) == mark {
					source, ok = d.Source, true
					return
				}
			}
		}
	})
	return source, ok
}
