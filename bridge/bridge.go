package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"topicast/bridge/session"
	"topicast/mapping"
)

// Options says what to run. The zero Logger discards.
type Options struct {
	Version   string
	Table     *mapping.Table
	Session   session.Options // Subscriptions and Handle are filled in by the bridge
	QueueSize int64           // bytes that may wait in memory
	Logger    *slog.Logger

	network network // nil: this host
}

// Bridge carries messages by one table, between one broker and this host's
// interfaces.
type Bridge struct {
	options  Options
	log      *slog.Logger
	started  time.Time
	session  *session.Session
	path     *sendPath
	rules    []*sendRule
	bindings []*binding
	room     *budget
	changed  chan struct{} // asks for a refresh of the bindings
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
	b.compile()
	s := o.Session
	s.Handle = b.path.handle
	s.Subscriptions = nil
	for _, sub := range o.Table.Subscriptions() {
		s.Subscriptions = append(s.Subscriptions, session.Subscription(sub))
	}
	var err error
	if b.session, err = session.New(s); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return b, nil
}

// compile gives each rule its counters and each distinct binding its socket-to-be.
func (b *Bridge) compile() {
	b.path = newSendPath(b.options.Table, b.log)
	byWant := make(map[mapping.Binding]*binding)
	send := b.options.Table.Send()
	for i := range send {
		spec := &send[i]
		o := byWant[spec.Binding]
		if o == nil {
			o = newBinding(spec.Binding, b.options.network, b.room, &b.path.latency, b.kick, b.log)
			byWant[spec.Binding] = o
			b.bindings = append(b.bindings, o)
		}
		o.rules++
		b.rules = append(b.rules, &sendRule{SendRule: spec, binding: o, log: b.log})
	}
	b.path.rules = b.rules
}

// kick asks for a refresh of the bindings now instead of at the next look.
func (b *Bridge) kick() {
	select {
	case b.changed <- struct{}{}:
	default: // one is asked for already
	}
}

// stopTimeout is how long the end may take for what waits for a busy socket.
const stopTimeout = 10 * time.Second

// Run carries messages until ctx ends. Then it takes no more of them, sends what
// waits for a socket that is busy, within 10 s, and leaves the broker. What waits
// for a source or an interface that is away is not waited for: the broker has it,
// unacknowledged, but for messages of QoS 0, which are dropped and counted.
func (b *Bridge) Run(ctx context.Context) error {
	// The parts outlive ctx, until they are told one after the other.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	talking, leave := context.WithCancel(running)
	defer leave()
	var drains, parts sync.WaitGroup
	for _, o := range b.bindings {
		o.ctx, o.drains = running, &drains
	}
	b.refresh(ctx)
	parts.Go(func() { b.watch(running) })
	parts.Go(func() {
		if err := b.options.network.Watch(running, b.kick); running.Err() == nil {
			b.log.Warn("cannot be told of changes of the interfaces; looking at them from time to time instead", "err", err)
		}
	})
	defer context.AfterFunc(ctx, func() {
		b.session.Drain()
		b.emptied(running)
		leave()
	})()
	err := b.session.Run(talking)
	stop()
	parts.Wait()
	drains.Wait()
	for _, o := range b.bindings {
		o.stop()
	}
	return err
}

// emptied waits until nothing waits for a busy socket any more.
func (b *Bridge) emptied(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, o := range b.bindings {
		for o.busy() && sleep(ctx, time.Millisecond) == nil {
		}
	}
}

// How often the interfaces are looked at where nothing told of a change: often
// while a binding waits, for what it waits for may be no interface (a port that
// is taken, a rule of the firewall); else as a safety net.
const (
	lookPending  = time.Second
	lookSettled  = 30 * time.Second
	kickPause    = 50 * time.Millisecond // after a look: a change seldom comes alone, and the first must not wait
	summaryEvery = time.Minute
)

// watch keeps the bindings in step with the interfaces.
func (b *Bridge) watch(ctx context.Context) {
	look, sum := time.NewTimer(lookPending), time.NewTicker(summaryEvery)
	defer look.Stop()
	defer sum.Stop()
	var told [numReasons]uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-sum.C:
			told = b.summarize(told)
			continue
		case <-b.changed:
		case <-look.C:
		}
		b.refresh(ctx)
		if sleep(ctx, kickPause) != nil {
			return
		}
		look.Reset(b.nextLook())
	}
}

func (b *Bridge) nextLook() time.Duration {
	for _, o := range b.bindings {
		if o.pending() {
			return lookPending
		}
	}
	return lookSettled
}

// probesAtOnce bounds the self-tests under way: each joins a group and may wait
// for its own copy.
const probesAtOnce = 32

// refresh looks at the interfaces once and holds every binding against them.
func (b *Bridge) refresh(ctx context.Context) {
	interfaces, err := b.options.network.Interfaces()
	if err != nil {
		b.log.Error("cannot list the interfaces; the bindings stay as they are", "err", err)
		return
	}
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for _, o := range b.bindings {
		g.Go(func() error {
			o.refresh(ctx, interfaces)
			return nil
		})
	}
	g.Wait()
}

// summarize logs what was dropped since told.
func (b *Bridge) summarize(told [numReasons]uint64) [numReasons]uint64 {
	var now [numReasons]uint64
	for _, r := range b.rules {
		for why, n := range r.drops() {
			now[why] += n
		}
	}
	now[DropNoRule] += b.path.noRule.Load()
	var attrs []any
	for why, n := range now {
		if n > told[why] && Reason(why) != DropRetained {
			attrs = append(attrs, Reason(why).String(), n-told[why])
		}
	}
	if attrs != nil {
		b.log.Warn("dropped in the last minute", attrs...)
	}
	return now
}
