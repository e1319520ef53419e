package bridge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/deadletter"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/bridge/tap"
	"topicast/mapping"
)

// Options says what to run. The zero Logger discards.
type Options struct {
	Version   string
	Table     *mapping.Table
	Former    *mapping.Table  // that of the process before, whose subscriptions the broker may still have; nil: it is not known
	Session   session.Options // Subscriptions, Former and Handle are filled in by the bridge
	QueueSize int64           // bytes that may wait in memory, both directions together
	Spool     Spool
	LastSent  *lastsent.Store // for retained: once; nil: in memory. The caller closes it after Run
	Loops     loopguard.Options
	Logger    *slog.Logger
	Settings  func(rule any) []string // what the status has of a rule, a *mapping.SendRule or *mapping.ReceiveRule, by its keys; nil: nothing
	Keys      func(rule any) []Key    // all of them, likewise, for Effective; nil: none

	// DeadLetters keeps what is published and the broker does not take; nil: nothing does. The
	// caller closes it after Run.
	DeadLetters *deadletter.File

	Tap *tap.Tap // is told what becomes of each message and datagram; nil: nobody is

	network network  // zero: this host
	end     endTimes // zero: theEnd
}

// Spool says what keeps messages on disk that cannot go on. Where nothing does, they
// wait in memory, as far as QueueSize allows.
type Spool struct {
	On     *spool.Spool  // nil: there is none; the caller closes it after Run
	Dir    string        // where it is, or was to be
	Size   int64         // bytes it may hold
	Err    error         // why there never will be one, if one was asked for
	MaxAge time.Duration // how long a message for the broker may wait there; 0: no limit
}

// Bridge carries messages by one table, between one broker and this host's
// interfaces.
type Bridge struct {
	options Options
	log     *slog.Logger
	started time.Time
	session *session.Session
	budget  *account.MemBudget
	own     loopguard.OwnAddresses
	settled account.Signal // something has left, or is on disk, or the broker has it
	send    *send.Path
	receive *receive.Path

	// Read and written by anybody.
	working       atomic.Pointer[generation]
	host          atomic.Pointer[mapping.HostInterfaces] // the interfaces at the last look, for tables
	routesDue     atomic.Bool                            // something may have changed what routes do
	routesChanged atomic.Bool                            // routes are to be listed anew
	reloads       atomic.Pointer[ReloadStatus]
	heartbeat     atomic.Int64  // when watch and the send path were last seen at work, in nanoseconds since started
	lookRequested chan struct{} // asks for a look at the interfaces
	unlisted      atomic.Bool   // they could not be listed at the last look
	lettersLost   atomic.Bool   // the last message that was given up found no room in the file for them
	linkChanges   linkChanges   // of the interfaces since the last look
	members       membersWatch  // who has joined the groups of rules with members

	// Used by the goroutine of watch alone.
	hostInForce   *mapping.HostInterfaces // as followHost saw them last
	instancesAt   time.Time               // when the instances were changed last, because of it
	instancesDue  bool                    // they are to be changed again, and that has to wait
	unclaimed     unclaimed
	lastFinished  uint64 // batches that the send path had finished at the last heartbeat
	lastRefreshed uint64 // and bindings that had been compared with the interfaces
	spoolUses     uint64 // how often the spool had come into use when it was last looked at

	lookMu sync.Mutex // one look at the interfaces, or swap, at a time; it guards seen
	seen   hostSeen

	reloadMu   sync.Mutex                   // one reload at a time; it guards the rest
	disabled   map[string]*account.Disabled // by the names that were asked for
	running    *runContext                  // nil: Run has not begun, or has ended
	routes     []multicast.GatewayRoute     // that no socket passes over (routes.go)
	routesAt   time.Time                    // when they were listed
	routesSeen time.Time                    // when what they do was looked at
}

// New makes a bridge, and opens nothing yet.
func New(o Options) (*Bridge, error) {
	if o.Table == nil {
		return nil, errors.New("bridge: no table")
	}
	o.setDefaults()
	b := &Bridge{
		options: o, log: o.Logger, started: time.Now(),
		budget: account.NewMemBudget(o.QueueSize), lookRequested: make(chan struct{}, 1),
	}
	b.unclaimed.begin(o.network)
	on := spill.Share(o.Spool.On)
	status := ""
	if o.Session.Status != nil {
		status = o.Session.Status.Topic
	}
	b.receive = receive.New(receive.Options{
		Log: b.log, Status: status, Tap: o.Tap, Settled: &b.settled, Refused: b.refused,
		Loops: o.Loops, Own: &b.own, Budget: b.budget, Spool: on, MaxAge: o.Spool.MaxAge,
		Listen: o.network.listen, Joins: o.network.joins, LookNow: b.requestLook, Disabled: b.isDisabled,
	})
	b.send = send.New(send.Options{
		Log: b.log, Tap: o.Tap, Settled: &b.settled, Refused: b.refused, LastSent: o.LastSent,
		Guard: b.receive.Guard(), Own: &b.own, Budget: b.budget, Spool: on, MaxAge: o.Spool.MaxAge,
		Open: o.network.open, LookNow: b.requestLook, Disabled: b.isDisabled,
		Repeats: !o.Session.Clean, Granted: func(id uint32) bool { return b.session.GrantedID(id) },
	})
	if o.Spool.On != nil {
		b.spoolUses = o.Spool.On.Uses()
	}
	table := o.Table
	if table.Several() {
		if interfaces, err := o.network.interfaces(); err == nil { // else at the first look
			b.noteInterfaces(interfaces)
		}
		table = b.onHost(table)
		b.logBeyond(table)
	}
	b.swap(b.build(table, noGeneration(), nil), noGeneration())
	b.logUnused()
	s := o.Session
	s.Handle = b.send.Handle
	s.Changed = b.sessionChanged
	s.Subscriptions = b.subscriptions(table)
	if o.Former != nil {
		for _, sub := range o.Former.Subscriptions(b.receive.Told()...) {
			s.Former = append(s.Former, sub.Filter)
		}
	}
	var err error
	if b.session, err = session.New(s); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	b.receive.PublishTo(b.session)
	b.send.PublishTo(b.session)
	return b, nil
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.network.interfaces == nil {
		o.network = host()
	}
	if o.end == (endTimes{}) {
		o.end = theEnd
	}
	if o.LastSent == nil {
		o.LastSent = lastsent.Open(lastsent.Options{})
	}
}

// sessionChanged is called by the session with its state.
func (b *Bridge) sessionChanged(s session.State) {
	if !s.Connected {
		b.send.ClearRedelivery()
	}
	b.receive.SetConnected(s.Connected, s.Protocol == session.Protocol5.String())
}

// requestLook asks for a look at the interfaces now.
func (b *Bridge) requestLook() {
	select {
	case b.lookRequested <- struct{}{}:
	default: // one is asked for already
	}
}

// Run carries messages until ctx ends. Then it takes no more of them, nor
// datagrams, and finishes what is on its way: what waits for a socket that is busy, and
// for the broker's acknowledgement. Then it leaves the broker. It returns within 9 s of
// the end of ctx, whatever hangs (end.go).
// What waits for a source or an interface that is away is not waited for: the
// broker has it, unacknowledged, but for messages of QoS 0, which are dropped and
// counted, as is what the broker does not acknowledge in time.
func (b *Bridge) Run(ctx context.Context) error {
	// The parts of the bridge outlive ctx: they end one after the other.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	talking, leave := context.WithCancel(running)
	defer leave()
	var drains, readers, background sync.WaitGroup
	b.attach(&runContext{running, &drains, &readers})
	// First be told of changes, then look: so none falls in between.
	reported := make(chan struct{})
	begun := sync.OnceFunc(func() { close(reported) })
	background.Go(func() {
		defer begun()
		err := b.options.network.watch(running, func(c multicast.Change) {
			b.onLinkChange(c)
			begun()
		})
		if running.Err() == nil {
			b.log.Warn("cannot be told of changes of the interfaces; looking at them from time to time instead", "err", err)
		}
	})
	<-reported
	background.Go(func() { b.watch(running) }) // the first look may take long
	b.followRoutes(ctx)                        // before what is on disk leaves
	b.reconcile(ctx)
	b.followHost(ctx)
	background.Go(func() { b.followInterfaces(running) })
	background.Go(func() { b.receive.Pump(running) })
	var err error
	talked := begin(func() { err = b.session.Run(talking) })
	select {
	case <-ctx.Done():
	case <-talked: // it could not even begin
	}
	e := b.newEnding()
	e.finish(&readers)
	unacknowledged := b.session.Outstanding()
	leave()
	e.wait("leaving the broker", e.left, talked)
	waiting := b.send.InMemory()
	stop()
	e.close(&background, &drains, &readers)
	e.report(waiting, unacknowledged)
	select {
	case <-talked:
		return err
	default:
		return nil
	}
}

// summarize logs what was dropped since reported, and with log.level debug what was
// filtered. It returns the counts as they are now.
func (b *Bridge) summarize(reported [account.NumReasons]uint64) [account.NumReasons]uint64 {
	now := b.counts()
	var dropped, filtered []any
	for i, n := range now {
		switch why := account.Reason(i); {
		case n <= reported[why]:
		case why.Filtered():
			filtered = append(filtered, why.String(), n-reported[why])
		default:
			dropped = append(dropped, why.String(), n-reported[why])
		}
	}
	if dropped != nil {
		b.log.Warn("dropped in the last minute", dropped...)
	}
	if filtered != nil {
		b.log.Debug("filtered in the last minute, as the configuration asks", filtered...)
	}
	return now
}

// counts are what went no further, by reason, since the start.
func (b *Bridge) counts() (now [account.NumReasons]uint64) {
	add := func(l *account.Counters) {
		for why, n := range l.All() {
			now[why] += n
		}
	}
	for _, l := range b.current().counters() {
		add(l)
	}
	for _, removed := range []iter.Seq2[string, *account.Counters]{b.send.Removed(), b.receive.Removed()} {
		for _, l := range removed {
			add(l)
		}
	}
	now[account.ReasonNoRule] += b.send.Unmatched()
	return now
}

// refused writes a message that the broker does not take to the file of dead letters, if there is one.
// kept is called when it is there, or cannot be.
func (b *Bridge) refused(rule string, m *session.Publication, why error, kept func()) {
	f := b.options.DeadLetters
	taken := f != nil && f.Add(deadletter.Letter{Time: time.Now(), Rule: rule, Topic: string(m.Topic), QoS: m.QoS, Retain: m.Retain, Payload: m.Payload, Reason: why.Error()}, kept)
	if !taken && kept != nil {
		kept()
	}
	if f == nil {
		return
	}
	lost := b.lettersLost.Swap(!taken)
	args := []any{"rule", rule, "topic", string(m.Topic), "bytes", len(m.Payload), "file", f.Path()}
	switch {
	case !taken && !lost:
		b.log.Error("a message that the broker does not take is lost: the file of dead letters takes no more now", args...)
	case taken && why == session.ErrRefused:
		b.log.Warn("a message that the broker does not take is kept in the file of dead letters", args...)
	default: // the session has said what it does with the topic
		b.log.Debug("a message on a topic that the broker does not take is given up", args...)
	}
}
