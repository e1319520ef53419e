package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// Options says what to run. The zero Logger discards.
type Options struct {
	Version   string
	Table     *mapping.Table
	Session   session.Options // Subscriptions and Handle are filled in by the bridge
	QueueSize int64           // bytes that may wait in memory, both directions together
	Loops     Loops
	Logger    *slog.Logger

	network network // nil: this host
}

// Bridge carries messages by one table, between one broker and this host's
// interfaces.
type Bridge struct {
	options Options
	log     *slog.Logger
	started time.Time
	session *session.Session
	room    *budget

	send     *sendPath
	sends    []*sendRule
	bindings []*binding

	receive     *receivePath
	receives    []*receiveRule
	memberships []*membership

	changed chan struct{} // asks for a look at the interfaces
	news    news          // what was told of them since the last look
}

// New makes a bridge, and opens nothing yet.
func New(o Options) (*Bridge, error) {
	if o.Table == nil {
		return nil, errors.New("bridge: no table")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.network == nil {
		o.network = host{}
	}
	b := &Bridge{
		options: o, log: o.Logger, started: time.Now(),
		room: &budget{max: o.QueueSize}, changed: make(chan struct{}, 1),
	}
	b.compileReceive()
	b.compileSend()
	s := o.Session
	s.Handle = b.send.handle
	wanted := o.Table.Subscriptions()
	s.Subscriptions = make([]session.Subscription, len(wanted))
	for i, sub := range wanted {
		s.Subscriptions[i] = session.Subscription(sub)
	}
	var err error
	if b.session, err = session.New(s); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	b.receive.publisher = b.session
	return b, nil
}

// compileReceive gives each receive rule its counters and its memberships. Rules
// that ask for the same share one.
func (b *Bridge) compileReceive() {
	table, specs := b.options.Table, b.options.Table.Receive()
	rules := make([]receiveRule, len(specs))
	b.receives = make([]*receiveRule, len(specs))
	p := newReceivePath(b)
	b.receive = p
	byJoin := make(map[join]*membership)
	for i := range specs {
		r := &rules[i]
		r.ReceiveRule, r.log, r.path = &specs[i], b.log, p
		r.breaker.limit = b.options.Loops.Breaker
		if b.options.Loops.Guard && table.ReceiveLoops(i) {
			if p.memory == nil {
				p.memory = newMemory(b.options.Loops)
			}
			r.hold = &hold{path: p}
		}
		for _, j := range joins(r.ReceiveRule) {
			m := byJoin[j]
			if m == nil {
				m = newMembership(j, p, b.options.network, b.log)
				byJoin[j] = m
				b.memberships = append(b.memberships, m)
			}
			if n := len(m.rules); n == 0 || m.rules[n-1] != r { // it may name a group twice
				m.rules = append(m.rules, r)
				r.memberships = append(r.memberships, m)
			}
		}
		b.receives[i] = r
	}
}

// compileSend gives each send rule its counters and each distinct binding its
// socket-to-be.
func (b *Bridge) compileSend() {
	b.send = newSendPath(b.options.Table, b.log)
	byWant := make(map[mapping.Binding]*binding)
	specs := b.options.Table.Send()
	rules := make([]sendRule, len(specs))
	b.sends = make([]*sendRule, len(specs))
	for i := range specs {
		spec := &specs[i]
		o := byWant[spec.Binding]
		if o == nil {
			o = newBinding(spec.Binding, b.options.network, b.room, &b.send.latency, &b.receive.own, b.kick, b.log)
			byWant[spec.Binding] = o
			b.bindings = append(b.bindings, o)
		}
		o.rules++
		r := &rules[i]
		r.SendRule, r.log, r.binding = spec, b.log, o
		if b.options.Table.SendLoops(i) {
			r.guard = b.receive.memory
		}
		b.sends[i] = r
	}
	b.send.rules = b.sends
}

// kick asks for a look at the interfaces now.
func (b *Bridge) kick() {
	select {
	case b.changed <- struct{}{}:
	default: // one is asked for already
	}
}

// stopTimeout is how long the end may take for what waits for a busy socket.
const stopTimeout = 10 * time.Second

// Run carries messages until ctx ends. Then it takes no more of them, nor
// datagrams, and finishes within 10 s what is on its way: what waits for a socket
// that is busy, and for the broker's acknowledgement. Then it leaves the broker.
// What waits for a source or an interface that is away is not waited for: the
// broker has it, unacknowledged, but for messages of QoS 0, which are dropped and
// counted, as is what the broker does not acknowledge in time.
func (b *Bridge) Run(ctx context.Context) error {
	// The parts outlive ctx, until they are told one after the other.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	talking, leave := context.WithCancel(running)
	defer leave()
	var drains, readers, parts sync.WaitGroup
	for _, o := range b.bindings {
		o.ctx, o.drains = running, &drains
	}
	for _, m := range b.memberships {
		m.readers = &readers
	}
	// First be told of changes, then look: so none falls in between.
	told := make(chan struct{})
	begun := sync.OnceFunc(func() { close(told) })
	parts.Go(func() {
		defer begun()
		err := b.options.network.Watch(running, func(c multicast.Change) {
			b.hearNews(c)
			begun()
		})
		if running.Err() == nil {
			b.log.Warn("cannot be told of changes of the interfaces; looking at them from time to time instead", "err", err)
		}
	})
	<-told
	b.refresh(ctx)
	parts.Go(func() { b.watch(running) })
	defer context.AfterFunc(ctx, func() {
		b.session.Drain()
		b.deafen(&readers)
		b.emptied(running)
		leave()
	})()
	err := b.session.Run(talking)
	stop()
	parts.Wait()
	drains.Wait()
	b.deafen(&readers)
	for _, o := range b.bindings {
		o.stop()
	}
	return err
}

// deafen ends the receiving for good, and hands on what the rules still hold.
func (b *Bridge) deafen(readers *sync.WaitGroup) {
	for _, m := range b.memberships {
		m.stop()
	}
	readers.Wait()
	for _, r := range b.receives {
		r.flush()
	}
}

// emptied waits until nothing waits for a busy socket or for the broker any more.
func (b *Bridge) emptied(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, o := range b.bindings {
		for o.busy() && sleep(ctx, time.Millisecond) == nil {
		}
	}
	for b.session.Outstanding() > 0 && sleep(ctx, time.Millisecond) == nil {
	}
}

// summarize logs what was dropped since told.
func (b *Bridge) summarize(told [numReasons]uint64) [numReasons]uint64 {
	var now [numReasons]uint64
	for _, l := range b.ledgers() {
		for why, n := range l.drops() {
			now[why] += n
		}
	}
	now[DropNoRule] += b.send.noRule.Load()
	var attrs []any
	for why, n := range now {
		if n > told[why] && !Reason(why).intended() {
			attrs = append(attrs, Reason(why).String(), n-told[why])
		}
	}
	if attrs != nil {
		b.log.Warn("dropped in the last minute", attrs...)
	}
	return now
}

// ledgers are those of all rules.
func (b *Bridge) ledgers() (all []*ledger) {
	for _, r := range b.sends {
		all = append(all, &r.ledger)
	}
	for _, r := range b.receives {
		all = append(all, &r.ledger)
	}
	return all
}
