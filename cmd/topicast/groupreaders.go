package main

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"topicast/bridge/multicast"
)

// groupReaders are the sockets of a command that listens: one a group, each read by a
// goroutine of its own.
type groupReaders struct {
	receivers []*multicast.Receiver
	sources   []netip.Addr // none: anybody
	done      sync.WaitGroup
	closing   sync.Once

	mu     sync.Mutex
	failed error
	lost   uint64 // what the kernel dropped for want of room
}

// openGroupReaders joins groups on an interface, and calls heard with what arrives, by one
// goroutine at a time. Payloads are valid until it returns.
func openGroupReaders(groups []netip.AddrPort, on multicast.Interface, sources []netip.Addr, heard func([]multicast.Datagram)) (*groupReaders, error) {
	e := &groupReaders{sources: sources}
	for _, g := range groups {
		o := multicast.ReceiverOptions{Group: g, Sources: sources}
		if g.Addr().IsUnspecified() { // the network cannot be asked
			o.Sources = nil
		}
		r, err := multicast.Listen(o, on)
		if g.Addr().IsUnspecified() && errors.Is(err, multicast.ErrNoFamily) {
			continue
		}
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
		heard(g.wanted(batch[:n]))
		g.mu.Unlock()
	}
}

// wanted are the datagrams of the senders that were asked for: of what comes to this host
// itself the others arrive too.
func (g *groupReaders) wanted(batch []multicast.Datagram) []multicast.Datagram {
	if len(g.sources) == 0 {
		return batch
	}
	return slices.DeleteFunc(batch, func(d multicast.Datagram) bool { return !slices.Contains(g.sources, d.Source.Addr()) })
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
