package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// Options says what to run. The zero Logger discards.
type Options struct {
	Version   string
	Table     *mapping.Table
	Session   session.Options // Subscriptions and Handle are filled in by the bridge
	QueueSize int64           // bytes that may wait in memory, both directions together
	Spool     Spool
	Loops     Loops
	Logger    *slog.Logger

	network network // nil: this host
}

// Spool says what keeps on disk that which cannot go on. Where nothing does, it
// waits in memory, as far as QueueSize allows.
type Spool struct {
	On     *spool.Spool  // nil: there is none; the caller closes it after Run
	Dir    string        // where it is, or was to be
	Size   int64         // bytes it may hold
	Err    error         // why there is none, if one was asked for
	MaxAge time.Duration // how long a message for the broker may wait there; 0: no limit
}

// Bridge carries messages by one table, between one broker and this host's
// interfaces.
type Bridge struct {
	options Options
	log     *slog.Logger
	started time.Time
	session *session.Session
	room    *budget

	send    *sendPath
	receive *receivePath
	working atomic.Pointer[parts]

	looking   sync.Mutex // at the interfaces
	reloading sync.Mutex // guards the rest of this group
	duties    *duties    // nil: Run has not begun, or has ended
	reloads   atomic.Pointer[ReloadStatus]

	beat    atomic.Int64  // when watch and the send path were last seen at work, in Unix nanoseconds
	seen    uint64        // batches that the send path had finished by then; of watch
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
	b.beat.Store(time.Now().UnixNano())
	b.receive, b.send = newReceivePath(b), newSendPath(b.log)
	b.send.repeats = !o.Session.Clean
	b.install(b.assemble(o.Table, new(parts)), new(parts))
	b.tellOrphans()
	s := o.Session
	s.Handle = b.send.handle
	s.Changed = b.sessionChanged
	s.Subscriptions = subscriptions(o.Table)
	var err error
	if b.session, err = session.New(s); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	b.receive.publisher = b.session
	return b, nil
}

// sessionChanged is told by the session of its state.
func (b *Bridge) sessionChanged(s session.State) {
	b.receive.online.Store(s.Connected)
	if !s.Connected {
		b.forgive()
	}
	b.receive.stir()
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
	b.employ(&duties{running, &drains, &readers})
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
	parts.Go(func() { b.receive.pump(running, func() []*detour { return b.parts().detours }) })
	defer context.AfterFunc(ctx, func() {
		b.employ(nil) // no reload from here on
		b.session.Drain()
		b.deafen(&readers)
		b.emptied(running)
		b.retire(running)
		leave()
	})()
	err := b.session.Run(talking)
	b.employ(nil)
	stop()
	parts.Wait()
	drains.Wait()
	b.deafen(&readers)
	for _, o := range b.parts().bindings {
		o.stop()
	}
	return err
}

// deafen ends the receiving for good, and hands on what the rules still hold.
func (b *Bridge) deafen(readers *sync.WaitGroup) {
	p := b.parts()
	for _, m := range p.memberships {
		m.stop()
	}
	readers.Wait()
	for _, r := range p.receives {
		r.flush()
	}
}

// emptied waits until nothing waits for a busy socket or for the broker any more.
func (b *Bridge) emptied(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, o := range b.parts().bindings {
		for o.busy() && sleep(ctx, time.Millisecond) == nil {
		}
	}
	if b.options.Spool.On != nil && !b.receive.online.Load() {
		return // the disk takes what the broker has not
	}
	for b.session.Outstanding() > 0 && sleep(ctx, time.Millisecond) == nil {
	}
}

// retire hands to the disk what the end has not waited for.
func (b *Bridge) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, o := range b.parts().bindings {
		for !o.retire() && sleep(ctx, time.Millisecond) == nil {
		}
	}
	for _, d := range b.parts().detours {
		for !d.retire() && sleep(ctx, time.Millisecond) == nil {
		}
	}
}

// summarize logs what was dropped since told.
func (b *Bridge) summarize(told [numReasons]uint64) [numReasons]uint64 {
	var now [numReasons]uint64
	for _, l := range b.parts().ledgers() {
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
