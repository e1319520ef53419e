package receive

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// membership is one group on one interface, from anybody or from named sources, or
// what comes to a port of the host by the interface, and the rules that listen there. It has a socket and a goroutine of its own, so
// that a group in trouble delays no other.
type membership struct {
	mapping.Join // its sources change under mu, by a reload (setSources)
	listeners    atomic.Pointer[listeners]
	batchMu      sync.Mutex // a batch is under way
	path         *Path
	room         *account.RuleBudget // for what its reader remembers of senders
	readers      *sync.WaitGroup     // set before it is refreshed

	mu      sync.Mutex
	reader  *groupReader // nil: not joined
	state   account.State
	reason  string
	takers  []string // other programs that take a part of what comes to a port of the host
	sharers []string // that share it
	since   time.Time
	rejoin  bool  // the group is to be joined anew
	joined  int64 // moment of the last join
	failed  error // what ended the reader, if it was not closed
	stopped bool
}

// listeners are the rules that listen, in the order of the table.
type listeners struct{ rules []*Rule }

func newMembership(j mapping.Join, p *Path) *membership {
	return &membership{
		Join: j, path: p, room: p.senderRoom.ForRule(),
		state: account.StatePending, reason: "not joined yet", since: time.Now(),
	}
}

// addresses are the sources; none: from anybody. Callers hold mu.
func (m *membership) addresses() (all []netip.Addr) {
	for _, s := range strings.Fields(m.Sources) {
		all = append(all, netip.MustParseAddr(s)) // it was one before
	}
	return all
}

// setSources changes from whom the group is received, on the socket that there is: what it
// has received goes on. Where that cannot be, the next look opens another one.
func (m *membership) setSources(sources string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Sources = sources
	if m.reader == nil {
		return
	}
	if err := m.reader.socket.SetSources(m.addresses()); err != nil {
		m.path.log.Debug("joining anew", "group", m.Heard(), "interface", m.reader.at.Name, "err", err)
		m.closeSocket()
	}
}

// groupReader is a membership's socket at work.
type groupReader struct {
	*membership
	at     multicast.Interface // as it was at the joining
	name   string              // of at, for topics and envelopes
	digest uint64              // of the name, for legs
	socket Receiver
	host   bool // it hears what comes to the host itself

	// Guarded by the membership's mu.
	usable bool   // at the last look the interface was one on which something is heard
	drops  uint64 // the kernel's, as last read

	// Of the goroutine that reads the socket.
	lastListeners *listeners                 // those of the last batch
	lastPacings   uint64                     // of the path, likewise
	to            netip.AddrPort             // where the datagrams were sent to that are in hand
	others        map[netip.AddrPort]senders // what is remembered of senders to other addresses, where that makes a difference
	senders       senders
}

// release leaves the group if the socket is of no more use: the interface is
// another one, or is gone, or was deleted and made anew under its old index, when
// the kernel says nothing and delivers nothing. All that listen on an
// interface must release before one joins again: closing a previous socket takes
// the membership of a new one with it, for the kernel counts both as one. lost tells of
// groups whether the kernel has them no more.
func (m *membership) release(on multicast.Interface, err error, changes multicast.Change, lost func(int, netip.Addr) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reader == nil {
		return
	}
	was := m.reader.at
	// A previous socket belongs to the table of the previous VRF.
	other := on.Index != was.Index || on.Name != was.Name || on.VRF != was.VRF || on.VRF && on.Master != was.Master
	if err != nil || other || slices.Contains(changes.Deleted, was.Index) || m.failed != nil || !m.Host() && lost(was.Index, m.Group.Addr()) {
		m.closeSocket()
	}
}

// reconcile joins if there is an interface to join on, and says in which state that
// leaves the membership; err says why there is none.
func (m *membership) reconcile(on multicast.Interface, err error, changes multicast.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return
	}
	if err == nil && m.reader == nil {
		err = m.open(on)
	}
	m.takers, m.sharers = nil, nil
	if m.Host() && errors.Is(err, multicast.ErrNoFamily) { // so nothing of it can come
		m.setState(account.StateUp, err.Error())
		return
	}
	if err != nil {
		m.setState(account.StatePending, err.Error())
		return
	}
	// Queries of routers and switches may have gone unanswered while the link was
	// down, and IPv4 does not report again by itself.
	hears := on.CanReceive()
	if returned := slices.Contains(changes.Returned, on.Index); hears == nil && (returned || !m.reader.usable || m.rejoin) {
		m.rejoin, m.joined = false, account.MomentOf(time.Now())
		if err := m.reader.socket.Rejoin(); err != nil {
			m.path.log.Warn("cannot join again", "group", m.Heard(), "interface", on.Name, "err", err)
		}
	}
	if m.reader.usable = hears == nil; hears != nil {
		m.setState(account.StatePending, hears.Error())
		return
	}
	m.setState(account.StateUp, "")
	if m.Host() {
		m.takers, m.sharers = m.reader.socket.PortConflicts(on)
	}
}

// open opens the socket. Callers hold mu.
func (m *membership) open(on multicast.Interface) error {
	s, err := m.path.listen(multicast.ReceiverOptions{Group: m.Group, Sources: m.addresses()}, on)
	if err != nil {
		return err
	}
	rule := mapping.ReceiveRule{Interface: m.Interface}
	name := rule.InterfaceText(on.Name)
	m.reader = &groupReader{membership: m, at: on, usable: on.CanReceive() == nil, name: name, digest: loopguard.Fingerprint([]byte(name)), to: m.Group, socket: s, host: m.Host(), senders: senders{room: m.room}}
	m.failed, m.rejoin, m.joined = nil, false, account.MomentOf(time.Now())
	r := m.reader
	m.readers.Go(func() { r.run(s) })
	return nil
}

func (m *membership) setState(state account.State, reason string) {
	if m.state != state || m.reason != reason {
		m.state, m.reason, m.since = state, reason, time.Now()
	}
}

// fewDatagrams is how many a reader takes at once until it has found as many: most of
// thousands of groups never have more, and the room for MaxReceive is 7 KiB.
const fewDatagrams = 4

// run reads the socket until it is closed.
func (r *groupReader) run(s Receiver) {
	datagrams := make([]multicast.Datagram, fewDatagrams)
	defer r.forgetSenders()
	for {
		n, err := s.Receive(datagrams)
		if n > 0 {
			r.handleBatch(datagrams[:n])
			clear(datagrams[:n]) // keeps no payload alive
		}
		if n == fewDatagrams && len(datagrams) == n {
			datagrams = make([]multicast.Datagram, multicast.MaxReceive)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, net.ErrClosed) {
			r.fail(err)
		}
		return
	}
}

// fail has the membership joined anew at the next look.
func (r *groupReader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.membership.reader != r {
		return // it was closed in the meantime
	}
	r.failed = err
	r.setState(account.StatePending, err.Error())
	r.path.log.Warn("cannot receive any more; joining again", "group", r.Heard(), "interface", r.at.Name, "err", err)
	r.path.lookNow()
}

// countDrops counts what the kernel dropped since it was last asked, because the
// receive buffer was full.
func (m *membership) countDrops() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readDrops()
}

// readDrops does the work of countDrops. Callers hold mu.
func (m *membership) readDrops() {
	r := m.reader
	if r == nil {
		return
	}
	now, err := r.socket.KernelDrops()
	if err != nil || now == r.drops {
		return
	}
	n := uint64(uint32(now - r.drops)) // the kernel counts in 32 bits
	r.drops = now
	for _, rule := range m.listeners.Load().rules {
		rule.loseMany(account.ReasonReceiveBuffer, n, "group", m.Heard(), fmt.Errorf(
			"%d datagrams came faster than they could be read, and the receive buffer holds %d bytes; raise net.core.rmem_max", n, r.socket.Buffer()))
	}
}

// closeSocket leaves the group, if it is joined. What the socket has dropped is
// counted before. Callers hold mu.
func (m *membership) closeSocket() {
	m.readDrops()
	if m.reader != nil {
		m.reader.socket.Close()
		m.reader = nil
	}
}

// pending reports whether the membership waits for something.
func (m *membership) pending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state == account.StatePending
}

// stop leaves the group for good.
func (m *membership) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = true
	m.closeSocket()
}
