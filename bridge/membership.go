package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// join is what a socket is to join. It is comparable: equal joins share a socket.
type join struct {
	group   netip.AddrPort
	on      string // name or address of the interface
	sources string // single addresses, sorted, with blanks between; "": from anybody
}

// joins lists what a rule is to join. If all of its sources are single addresses,
// the network is asked for these alone (RFC 4607); else it is asked for all, and
// the rule sorts them out.
func joins(r *mapping.ReceiveRule) (all []join) {
	var words []string
	for _, p := range r.Sources {
		if !p.IsSingleIP() {
			words = nil
			break
		}
		words = append(words, p.Addr().String())
	}
	slices.Sort(words)
	sources := strings.Join(slices.Compact(words), " ")
	for _, groups := range r.Groups {
		for g := range groups.All() {
			all = append(all, join{g, r.Interface, sources})
		}
	}
	return all
}

// membership is one group on one interface, from anybody or from named sources,
// and the rules that listen there. It has a socket and a goroutine of its own, so
// that a group in trouble delays no other.
type membership struct {
	join
	addresses []netip.Addr // the sources; none: from anybody
	listeners atomic.Pointer[listeners]
	hearing   sync.Mutex // a batch is under way
	path      *receivePath
	net       network
	log       *slog.Logger
	readers   *sync.WaitGroup // set before it is refreshed

	mu      sync.Mutex
	ear     *ear // nil: not joined
	state   State
	reason  string
	since   time.Time
	failed  error // what ended the ear, if it was not closed
	stopped bool
}

// listeners are the rules that listen, in the order of the table.
type listeners struct{ rules []*receiveRule }

func newMembership(j join, p *receivePath, n network, log *slog.Logger) *membership {
	m := &membership{
		join: j, path: p, net: n, log: log,
		state: StatePending, reason: "not joined yet", since: time.Now(),
	}
	for _, s := range strings.Fields(j.sources) {
		m.addresses = append(m.addresses, netip.MustParseAddr(s)) // it was one before
	}
	return m
}

// ear is a membership's socket at work. All but socket and on belong to the
// goroutine that reads it.
type ear struct {
	*membership
	at      multicast.Interface
	socket  receiver
	heard   *listeners // those of the last batch
	drops   uint64     // the kernel's, as last read; of the goroutine that asks for them
	remotes map[netip.AddrPort]*remote
	last    *remote
}

// release leaves the group if the socket is of no more use: the interface is
// another one, or is gone, or was deleted and made anew under its old index, when
// the kernel says nothing and delivers nothing. All that listen on an
// interface must release before one joins again: closing a socket of before takes
// the membership of a new one with it, for the kernel counts both as one.
func (m *membership) release(on multicast.Interface, err error, changes multicast.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ear == nil {
		return
	}
	was := m.ear.at
	other := on.Index != was.Index || on.Name != was.Name
	if err != nil || other || changes.Overflow || slices.Contains(changes.Deleted, was.Index) || m.failed != nil {
		m.ear.socket.Close()
		m.ear = nil
	}
}

// refresh joins if there is an interface to join on, and says in which state that
// leaves the membership; err says why there is none.
func (m *membership) refresh(on multicast.Interface, err error, changes multicast.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	if err == nil && m.ear == nil {
		err = m.enter(on)
	}
	if err != nil {
		m.change(StatePending, err.Error())
		return
	}
	// Queries of routers and switches may have gone unanswered while the link was
	// down, and IPv4 does not report again by itself.
	if returned := slices.Contains(changes.Returned, on.Index); works(on) && (returned || !works(m.ear.at)) {
		if err := m.ear.socket.Rejoin(); err != nil {
			m.log.Warn("cannot join again", "group", m.group, "interface", on.Name, "err", err)
		}
	}
	m.ear.at.Up, m.ear.at.Carrier = on.Up, on.Carrier
	switch {
	case !on.Up:
		m.change(StatePending, fmt.Sprintf("interface %s is down", on.Name))
	case !on.Carrier:
		m.change(StatePending, fmt.Sprintf("interface %s has no carrier", on.Name))
	default:
		m.change(StateUp, "")
	}
}

func works(on multicast.Interface) bool { return on.Up && on.Carrier }

// enter opens the socket. Callers hold mu.
func (m *membership) enter(on multicast.Interface) error {
	s, err := m.net.Listen(multicast.ReceiverOptions{Group: m.group, Sources: m.addresses}, on)
	if err != nil {
		return err
	}
	m.ear = &ear{membership: m, at: on, socket: s, heard: m.listeners.Load(), remotes: make(map[netip.AddrPort]*remote)}
	m.failed = nil
	e := m.ear
	m.readers.Go(func() { e.run(s) })
	return nil
}

func (m *membership) change(state State, reason string) {
	if m.state != state || m.reason != reason {
		m.state, m.reason, m.since = state, reason, time.Now()
	}
}

// run reads the socket until it is closed.
func (e *ear) run(s receiver) {
	datagrams := make([]multicast.Datagram, multicast.MaxReceive)
	for {
		n, err := s.Receive(datagrams)
		if n > 0 {
			e.hear(datagrams[:n])
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, net.ErrClosed) {
			e.fail(err)
		}
		return
	}
}

// fail has the membership joined anew at the next look.
func (e *ear) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = err
	e.change(StatePending, err.Error())
	e.log.Warn("cannot receive any more; joining again", "group", e.group, "interface", e.at.Name, "err", err)
	e.path.kick()
}

// countDrops counts what the kernel dropped since it was last asked, because the
// receive buffer was full.
func (m *membership) countDrops() {
	m.mu.Lock()
	e := m.ear
	m.mu.Unlock()
	if e == nil {
		return
	}
	now, err := e.socket.KernelDrops()
	if err != nil || now == e.drops {
		return
	}
	n := uint64(uint32(now - e.drops)) // the kernel counts in 32 bits
	e.drops = now
	for _, r := range m.listeners.Load().rules {
		if r.lose(DropReceiveBuffer, n) {
			r.tell(r.Name, DropReceiveBuffer, "group", m.group.String(), fmt.Errorf(
				"%d datagrams came faster than they could be read, and the receive buffer holds %d bytes; raise net.core.rmem_max", n, e.socket.Buffer()))
		}
	}
}

// pending says whether the membership waits for something.
func (m *membership) pending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state == StatePending
}

// stop leaves the group for good.
func (m *membership) stop() {
	m.countDrops()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	if m.ear != nil {
		m.ear.socket.Close()
		m.ear = nil
	}
}
