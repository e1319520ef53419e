package fake

import (
	"net"
	"net/netip"
	"sync"

	"topicast/bridge/multicast"
)

// Receiver receives what a test hands it.
type Receiver struct {
	Options multicast.ReceiverOptions
	on      string // name of the interface
	In      chan []multicast.Datagram
	Done    chan struct{}
	rest    []multicast.Datagram // of what came, for the next Receive

	mu      sync.Mutex
	Drops   uint64
	Rejoins int
	Failure error // of Receive, once in is closed
	Refuse  error // of SetSources
	takers  []string
	sharers []string
}

// Hear hands over a batch, each datagram from its source.
func (r *Receiver) Hear(source string, payloads ...string) {
	var batch []multicast.Datagram
	for _, p := range payloads {
		batch = append(batch, multicast.Datagram{To: r.Options.Group, Source: netip.MustParseAddrPort(source), Payload: []byte(p)})
	}
	r.In <- batch
}

func (r *Receiver) Receive(batch []multicast.Datagram) (int, error) {
	if len(r.rest) > 0 {
		n := copy(batch, r.rest)
		r.rest = r.rest[n:]
		return n, nil
	}
	select {
	case in, ok := <-r.In:
		if !ok {
			return 0, r.Failure
		}
		n := copy(batch, in)
		r.rest = in[n:]
		return n, nil
	case <-r.Done:
		return 0, net.ErrClosed
	}
}

func (r *Receiver) KernelDrops() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Drops, nil
}

// SetSources fails with Refuse, if that is set.
func (r *Receiver) SetSources(sources []netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Refuse == nil {
		r.Options.Sources = sources
	}
	return r.Refuse
}

func (r *Receiver) Rejoin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Rejoins++
	return nil
}

// PortConflicts are those of SetPortConflicts.
func (r *Receiver) PortConflicts(multicast.Interface) (takers, sharers []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.takers, r.sharers
}

// CountRejoins is how often the group was joined anew.
func (r *Receiver) CountRejoins() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Rejoins
}

// SetPortConflicts has other programs take a part of what comes, or share it.
func (r *Receiver) SetPortConflicts(takers, sharers []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takers, r.sharers = takers, sharers
}

func (r *Receiver) Buffer() int { return 4096 }

func (r *Receiver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.Done:
	default:
		close(r.Done)
	}
	return nil
}

// Drop has the kernel drop datagrams.
func (r *Receiver) Drop(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Drops += n
}
