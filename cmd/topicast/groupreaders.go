package main

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"topicast/bridge/multicast"
)

// groupReaders are the sockets of a command that listens: one a group, each read by a
// goroutine of its own.
type groupReaders struct {
	receivers []*multicast.Receiver
	done      sync.WaitGroup
	closing   sync.Once

	mu     sync.Mutex
	failed error
	lost   uint64 // what the kernel dropped for want of room
}

// openGroupReaders joins groups on an interface, and calls heard with what arrives, by one
// goroutine at a time. Payloads are valid until it returns.
func openGroupReaders(groups []netip.AddrPort, on multicast.Interface, sources []netip.Addr, heard func([]multicast.Datagram)) (*groupReaders, error) {
	e := &groupReaders{}
	for _, g := range groups {
		r, err := multicast.ListenOn(multicast.ReceiverOptions{Group: g, Sources: sources}, on)
		if err != nil {
			e.close()
			return nil, err
		}
		e.receivers = append(e.receivers, r)
	}
	for _, r := range e.receivers {
		e.done.Go(func() { e.read(r, heard) })
	}
	return e, nil
}

func (g *groupReaders) read(r *multicast.Receiver, heard func([]multicast.Datagram)) {
	batch := make([]multicast.Datagram, multicast.MaxReceive)
	for {
		n, err := r.Receive(batch)
		g.mu.Lock()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && g.failed == nil {
				g.failed = err
			}
			g.mu.Unlock()
			g.close()
			return
		}
		heard(batch[:n])
		g.mu.Unlock()
	}
}

// close leaves the groups. Any goroutine may call it, again too.
func (g *groupReaders) close() {
	g.closing.Do(func() {
		for _, r := range g.receivers {
			if n, err := r.KernelDrops(); err == nil {
				g.lost += n
			}
			r.Close()
		}
	})
}

// stop leaves the groups, and returns when nothing is heard any more.
func (g *groupReaders) stop() {
	g.close()
	g.done.Wait()
}

// wait waits until the sockets are closed, and tells how many datagrams they missed,
// and what closed them if it was an error.
func (g *groupReaders) wait() (lost uint64, err error) {
	g.done.Wait()
	return g.lost, g.failed
}
