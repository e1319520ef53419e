package main

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"topicast/bridge/multicast"
)

// ears are the sockets of a command that listens: one a group, each read by a
// goroutine of its own.
type ears struct {
	receivers []*multicast.Receiver
	done      sync.WaitGroup
	closing   sync.Once

	mu     sync.Mutex
	failed error
	lost   uint64 // what the kernel dropped for want of room
}

// openEars joins groups on an interface, and calls heard with what arrives, by one
// goroutine at a time. Payloads are valid until it returns.
func openEars(groups []netip.AddrPort, on multicast.Interface, sources []netip.Addr, heard func([]multicast.Datagram)) (*ears, error) {
	e := &ears{}
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

func (e *ears) read(r *multicast.Receiver, heard func([]multicast.Datagram)) {
	batch := make([]multicast.Datagram, multicast.MaxReceive)
	for {
		n, err := r.Receive(batch)
		e.mu.Lock()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && e.failed == nil {
				e.failed = err
			}
			e.mu.Unlock()
			e.close()
			return
		}
		heard(batch[:n])
		e.mu.Unlock()
	}
}

// close leaves the groups. Any goroutine may call it, again too.
func (e *ears) close() {
	e.closing.Do(func() {
		for _, r := range e.receivers {
			if n, err := r.KernelDrops(); err == nil {
				e.lost += n
			}
			r.Close()
		}
	})
}

// stop leaves the groups, and returns when nothing is heard any more.
func (e *ears) stop() {
	e.close()
	e.done.Wait()
}

// wait waits until the ears are closed, and tells how many datagrams they missed,
// and what closed them if it was an error.
func (e *ears) wait() (lost uint64, err error) {
	e.done.Wait()
	return e.lost, e.failed
}
