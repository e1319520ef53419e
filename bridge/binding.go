package bridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
)

// State is what a rule or a binding can do now.
type State string

const (
	StatePending  State = "pending"  // its interface, address or subscription is not there yet
	StateUp       State = "up"       // works
	StateDegraded State = "degraded" // works in part; the reason says in which
)

// binding is a mapping.Binding at work. While its source is not there, or while
// its socket takes no more, its datagrams wait in a queue of their own, and a
// goroutine of their own sends them when it can: so one binding in trouble
// delays neither the reader nor the other bindings, and order holds.
//
// The path in send.go owns flows, out and meta; mu guards the rest.
type binding struct {
	want   multicast.Binding
	net    network
	log    *slog.Logger
	room   *budget
	lag    *histogram
	spools bool // there is a spool, though the rule may not use it now
	path   *sendPath
	kick   func()        // asks for a refresh now
	own    *ownAddresses // told which address and port we send from
	on     atomic.Int32  // index of the interface, the last one while pending
	flows  []*flow
	out    []multicast.Datagram
	meta   []datagram
	// refused is b.refuse, made once: a method value made per call would be an
	// allocation per call.
	refused func(i int, err error)

	mu       sync.Mutex
	ctx      context.Context // ends run; set before it is refreshed
	drains   *sync.WaitGroup // likewise
	rules    int             // how many leave through it
	stopped  bool
	socket   socket // nil while pending
	source   multicast.Source
	probe    multicast.Probe
	state    State
	reason   string
	since    time.Time
	rest     time.Time // not to be opened before: the last socket failed at once
	queue    queue
	backlog  []*sendRule // those that have something on disk
	behind   bool        // what waits goes to the disk
	storing  int         // messages on their way there
	owing    bool        // there was no room for a message, which the broker is to repeat
	draining bool        // run is at work
	again    bool        // and is to look once more
	retried  time.Time   // when the kernel first had no room for the datagram in front
}

func newBinding(want multicast.Binding, of *Bridge) *binding {
	b := &binding{
		want: want, net: of.options.network, path: of.send, room: of.room, lag: &of.send.latency, spools: of.options.Spool.On != nil,
		own: &of.receive.own, kick: of.kick, log: of.log,
		state: StatePending, reason: "not opened yet", since: time.Now(), behind: true,
	}
	b.refused = b.refuse
	return b
}

// refresh holds the binding against the interfaces as they are now: it opens the
// socket when source and interface are there, and closes it when they are gone
// or have changed.
func (b *binding) refresh(ctx context.Context, interfaces []multicast.Interface) {
	src, err := b.want.ResolveIn(interfaces)
	b.mu.Lock()
	same := b.socket != nil && err == nil && src == b.source
	resting := b.socket == nil && time.Now().Before(b.rest)
	stopped := b.stopped
	b.mu.Unlock()
	if same || resting || stopped {
		return
	}
	if err != nil {
		b.pend(err)
		return
	}
	b.close() // before the new one, which may want the same source port
	s, err := b.net.Open(src)
	if err != nil {
		b.pend(err)
		return
	}
	probe := s.Probe(ctx)
	if probe.Result == multicast.ProbeRewritten {
		// Right source or nothing: what left now would carry another address.
		s.Close()
		b.pend(errors.New(probe.Detail))
		b.mu.Lock()
		b.probe = probe
		b.mu.Unlock()
		return
	}
	b.up(s, src, probe)
}

// up puts a socket to work; what waited goes first.
func (b *binding) up(s socket, src multicast.Source, probe multicast.Probe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.socket, b.source, b.probe = s, src, probe
	b.own.add(s.LocalAddr())
	b.on.Store(int32(src.Index))
	b.state, b.reason, b.since = StateUp, "", time.Now()
	if probe.Result == multicast.ProbeRefused {
		b.state, b.reason = StateDegraded, probe.Detail
	}
	attrs := []any{"interface", src.Interface, "source", s.LocalAddr(), "rules", b.rules, "self_test", probe.Result}
	if probe.Detail != "" {
		attrs = append(attrs, "detail", probe.Detail)
	}
	if n := b.queue.len(); n > 0 {
		attrs = append(attrs, "waiting", n)
	}
	if n := b.onDisk(); n > 0 {
		attrs = append(attrs, "spooled", n)
	}
	b.log.Info("binding up", attrs...)
	b.wake()
}

// warn logs that the binding became pending.
func (b *binding) warn(err error) {
	attrs := []any{"rules", b.rules, "err", err}
	if b.want.Source.IsValid() {
		attrs = append([]any{"source", sourceText(b.want.Source)}, attrs...)
	}
	if b.want.Interface != "" {
		attrs = append([]any{"interface", b.want.Interface}, attrs...)
	}
	b.log.Warn("binding pending; it goes on by itself when it can", attrs...)
}

// pend closes the socket and says why.
func (b *binding) pend(err error) {
	b.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == StatePending && b.reason == err.Error() {
		return
	}
	b.state, b.reason, b.since = StatePending, err.Error(), time.Now()
	b.warn(err)
	b.forsaken()
}

func (b *binding) pending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == StatePending
}

// busy says whether datagrams wait for the socket.
func (b *binding) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.socket != nil && !b.queue.empty()
}

func (b *binding) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut()
}

// shut closes the socket, if there is one. Callers hold mu.
func (b *binding) shut() {
	if b.socket != nil {
		b.own.remove(b.socket.LocalAddr())
		b.socket.Close()
		b.socket, b.source, b.probe = nil, multicast.Source{}, multicast.Probe{}
	}
}

// refuse is told by Send of a datagram that can never leave.
func (b *binding) refuse(i int, err error) {
	b.meta[i].dropped = true
	b.meta[i].leg.lose(reasonOf(err), err)
}

// stalled is told by Send why it took no more. Callers hold mu.
func (b *binding) stalled(err error) {
	if errors.Is(err, multicast.ErrPending) && b.socket != nil {
		// A socket that opens and then cannot send must not be opened, tested
		// and logged many times a second.
		if now := time.Now(); now.Sub(b.since) < lookPending {
			b.rest = now.Add(lookPending)
		}
		b.shut()
		b.state, b.reason, b.since = StatePending, err.Error(), time.Now()
		b.warn(err)
		b.forsaken()
		b.kick()
	}
}

// retire hands what waits in memory for a socket to the disk, if there is one; it
// says whether nothing is on its way there any more.
func (b *binding) retire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.queue.empty() {
		if w := &b.queue.front()[0]; !w.gone && (w.holding == nil || !b.store(w)) {
			break
		}
		b.queue.pop()
	}
	return b.storing == 0
}

// stop closes the socket. What still waits is not acknowledged, so the broker
// has it; a QoS 0 message it has not.
func (b *binding) stop() {
	b.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	for !b.queue.empty() {
		w := b.queue.pop()
		if w.gone {
			continue
		}
		b.room.give(1, w.size())
		if w.holding == nil {
			w.leg.lose(DropStopped, nil)
		}
	}
}
