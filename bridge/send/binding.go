package send

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// binding is a mapping.Binding at work. While its source is not there, or while
// its socket takes no more, its datagrams wait in a queue of their own, and a
// goroutine of their own sends them when it can: so one binding in trouble
// delays neither the reader nor the other bindings, and order holds.
type binding struct {
	want    multicast.Binding
	open    func(multicast.Source) (Sender, error)
	log     *slog.Logger
	latency *account.Histogram
	spools  bool // there is a spool, though the rule may not use it now
	path    *Path
	lookNow func()                  // asks for a refresh now
	own     *loopguard.OwnAddresses // learns which address and port we send from
	blocked string                  // why it is never opened (diversion.go); "": it is
	off     bool                    // never opened, as its rules are disabled
	failed  func(i int, err error)  // countFailure, made once: a method value made per call would be an allocation per call

	ifIndex atomic.Int32 // index of the interface, the last one while pending
	pending atomic.Bool  // what state says, without the lock: the watch waits for none

	needsRedelivery atomic.Bool // there was no room for a message, which the broker is to repeat

	shown

	// Guarded by the path's mu: the flows that have something gathered.
	firstFlow, lastFlow *flow

	mu      sync.Mutex      // guards the rest
	ctx     context.Context // ends run; set before it is refreshed
	drains  *sync.WaitGroup // likewise
	rules   int             // how many leave through it
	stopped bool

	// The socket.
	socket     Sender // nil while pending
	source     multicast.Source
	answered   uint64           // what has come to its port, as far as it is counted in
	rest       time.Time        // not to be opened before, if the source is
	restSource multicast.Source // this one: its socket failed at once

	// What waits.
	budget       *account.BindingBudget
	queue        queue
	spooledRules []*Rule // those that have something on disk
	spilling     bool    // what waits goes to the disk
	storing      int     // messages on their way there
	unstored     bool    // the disk has turned something away that is still to go there
	draining     bool    // run is at work
	again        bool    // and is to look once more

	// Of transmit: while Send is under way, and of the last one.
	failures  int // datagrams that can never leave
	doubtful  int // datagrams that the kernel took, though then they did not count as sent: see transmit
	onFailure func(i int, err error)

	hosts    hosts        // that do not answer (hosts.go)
	kept     keeping      // what is sent again (keep.go)
	requests requestTable // what it waits for answers to (answers.go)
	counters numbering    // that are put into its datagrams (number.go)

	refused refusals   // what the kernel does not take (refusal.go)
	still   standstill // that nothing leaves (refusal.go)

	// Where the oldest message was that was seen last to wait (blocker.go).
	oldestIn     *ruleQueue
	oldestNumber uint64
}

func newBinding(want multicast.Binding, p *Path) *binding {
	b := &binding{
		want: want, open: p.open, path: p, budget: p.budget.ForBinding(), latency: &p.latency, spools: p.spill != nil,
		own: p.own, lookNow: p.lookNow, log: p.log,
		spilling: true,
	}
	b.kept.budget, b.requests.budget = p.again.ForBinding(), p.asked.ForBinding()
	b.setState(account.StatePending, "not opened yet")
	b.failed = b.countFailure
	return b
}

// block has the binding never opened, before it is put to work.
func (b *binding) block(d Diversion) {
	b.blocked = d.Route.Diversion()
	b.ifIndex.Store(int32(d.Index))
	b.show(func() { b.probe = multicast.Probe{Result: multicast.ProbeGateway, Detail: b.blocked} })
}

// errDisabled is why a rule that was switched off has no target.
var errDisabled = errors.New("the rule is disabled")

// switchOff has the binding never opened, before it is put to work: what its rules have waits.
func (b *binding) switchOff() {
	b.off = true
	b.setState(account.StateDisabled, errDisabled.Error())
}

// reconcile compares the binding with the interfaces as they are now: it opens the
// socket when source and interface are there, and closes it when they are gone
// or have changed.
func (b *binding) reconcile(ctx context.Context, interfaces []multicast.Interface) {
	switch {
	case b.off:
		return
	case b.blocked != "":
		b.pend(errors.New(b.blocked))
		return
	}
	src, err := b.want.ResolveIn(interfaces)
	if !b.lockForLook() {
		return
	}
	same := b.socket != nil && err == nil && src.Same(b.source)
	if same && src.Queue != b.source.Queue {
		b.source.Queue, b.refused.tooLong = src.Queue, 0
		b.socket.SetQueue(src.Queue)
		b.noteSegments()
	}
	resting := b.socket == nil && err == nil && src.Same(b.restSource) && time.Now().Before(b.rest)
	stays := same || resting || b.stopped
	if !stays {
		b.shut() // before the new one is opened, which may want the same source port
	}
	s, refused := b.socket, b.probe.Result == multicast.ProbeRefused
	b.mu.Unlock()
	if stays && refused && s != nil {
		b.probeAgain(ctx, s)
	}
	if stays {
		return
	}
	if err != nil {
		b.pend(err)
		return
	}
	if s, err = b.open(src); err != nil {
		b.pend(err)
		return
	}
	probe := s.Probe(ctx)
	if leavesWrongly(probe) {
		s.Close()
		b.pendFor(probe)
		return
	}
	b.up(s, src, probe)
}

// leavesWrongly reports whether a self-test has shown that what leaves would carry another address, or go to a
// gateway. Right source, right target, or nothing.
func leavesWrongly(p multicast.Probe) bool {
	return p.Result == multicast.ProbeRewritten || p.Result == multicast.ProbeGateway
}

// pendFor closes the socket, if there is one, for what a self-test has shown.
func (b *binding) pendFor(p multicast.Probe) {
	b.pend(errors.New(p.Detail))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.show(func() { b.probe = p })
}

// probeAgain repeats a self-test that a firewall refused, whose rules may be others now.
func (b *binding) probeAgain(ctx context.Context, s Sender) {
	probe := s.Probe(ctx)
	if probe.Result == multicast.ProbeRefused || probe.Result == multicast.ProbeSkipped {
		return
	}
	b.mu.Lock()
	if b.socket != s {
		b.mu.Unlock()
		return
	}
	if !leavesWrongly(probe) {
		b.show(func() { b.probe = probe })
		b.setState(account.StateUp, "")
		b.log.Info("the self-test is no longer refused", "interface", b.source.Interface, "source", s.LocalAddr(), "rules", b.rules, "self_test", probe.Result)
	}
	b.mu.Unlock()
	if leavesWrongly(probe) {
		b.pendFor(probe)
	}
}

// up puts a socket to work; what has waited leaves first.
func (b *binding) up(s Sender, src multicast.Source, probe multicast.Probe) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		s.Close()
		return
	}
	b.socket, b.source, b.answered = s, src, 0
	b.show(func() { b.probe, b.on, b.from = probe, src.Interface, s.LocalAddr() })
	b.own.Add(s.LocalAddr())
	if b.want.Answers != "" {
		b.drains.Go(func() { b.readAnswers(s) })
	}
	b.ifIndex.Store(int32(src.Index))
	if probe.Result == multicast.ProbeRefused {
		b.setState(account.StateDegraded, probe.Detail)
	} else {
		b.setState(account.StateUp, "")
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
	b.noteSegments()
	b.resumeKept(time.Now())
	b.wake()
}

// warn logs that the binding became pending. One that a route keeps from being opened is
// for the groups of that route alone; its rules may send to others all the same.
func (b *binding) warn(err error) {
	message := "binding pending; it goes on by itself when it can"
	if b.blocked != "" {
		message = "groups withheld because of a route; they go on by themselves when it is gone"
	}
	attrs := []any{"rules", b.rules, "err", err}
	if b.want.Source.IsValid() {
		attrs = append([]any{"source", mapping.PrefixText(b.want.Source)}, attrs...)
	}
	if b.want.Interface != "" {
		attrs = append([]any{"interface", b.want.Interface}, attrs...)
	}
	b.log.Warn(message, attrs...)
}

// sayFreed logs that a route does not withhold the groups of a binding any more.
func (b *binding) sayFreed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blocked != "" {
		b.log.Info("groups no longer withheld because of a route", "interface", b.want.Interface, "rules", b.rules,
			"after", time.Since(b.since).Round(time.Millisecond), "was", b.blocked)
	}
}

// pend closes the socket and says why.
func (b *binding) pend(err error) {
	b.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	is := err.Error()
	if b.state == account.StatePending && constantPart(b.reason) == constantPart(is) {
		b.show(func() { b.reason = is })
		return
	}
	b.setState(account.StatePending, is)
	b.warn(err)
	b.onSourceLost()
}

// constantPart is a reason without what differs from one look to the next though the
// cause is the same: ports and other numbers, and what there is instead, which stands in
// parentheses. Each try takes another port, and on a host of containers interfaces come
// and go all the time; that must not be logged each time.
func constantPart(reason string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch {
		case r == '(':
			depth++
		case r == ')' && depth > 0:
			depth--
		case depth == 0 && (r < '0' || r > '9'):
			return r
		}
		return -1
	}, reason)
}

// setState begins a state. Callers hold mu.
func (b *binding) setState(s account.State, reason string) {
	b.show(func() { b.state, b.reason, b.since = s, reason, time.Now() })
	b.pending.Store(s == account.StatePending)
}

// busy reports whether datagrams wait for the socket, or are being sent.
func (b *binding) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.socket != nil && b.queue.n > b.queue.pacing.n+b.queue.forHosts // what waits for its time, or for a host, is not waited for
}

func (b *binding) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut()
}

// shut closes the socket, if there is one. Callers hold mu.
func (b *binding) shut() {
	b.refused.tooLong, b.still.since = 0, time.Time{}
	b.queue.each(func(l *ruleQueue) bool {
		l.refusal = refusal{}
		return true
	})
	b.clearAllUnreachable()
	if b.socket != nil {
		b.countUnclaimed()
		b.own.Remove(b.socket.LocalAddr())
		b.socket.Close()
		b.socket, b.source = nil, multicast.Source{}
		b.show(func() { b.probe, b.on, b.from = multicast.Probe{}, "", netip.AddrPort{} })
		b.path.settled.Notify()
	}
	b.show(func() { b.stuck = "" })
}

// reopenPause is how long a socket that cannot send is left closed.
const reopenPause = time.Second

// stalled is called with the reason why Send took no more. Callers hold mu.
func (b *binding) stalled(err error) {
	if errors.Is(err, multicast.ErrPending) && b.socket != nil {
		// A socket that opens and then cannot send must not be opened, tested
		// and logged many times a second.
		if now := time.Now(); now.Sub(b.since) < reopenPause {
			b.restSource, b.rest = b.source, now.Add(reopenPause)
		}
		b.shut()
		b.setState(account.StatePending, err.Error())
		b.warn(err)
		b.onSourceLost()
		b.lookNow()
	}
}

// spillAll hands what waits in memory for a socket to the disk, if there is one; it reports
// whether nothing is on its way there any more.
func (b *binding) spillAll() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue.each(func(l *ruleQueue) bool {
		for !l.empty() {
			w := l.first
			switch {
			case w.ack == nil:
				b.giveUp(w, account.ReasonStopped, nil)
			case !b.spillOne(w):
				return l.rule.spool == nil // else the disk takes no more just now
			default:
				b.queue.remove(w)
			}
		}
		return true
	})
	return b.storing == 0
}

// stop closes the socket. What still waits is not acknowledged, so the broker
// has it; a QoS 0 message it has not.
func (b *binding) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut()
	b.stopped = true
	b.endRequests(account.ReasonStopped.String())
	for _, t := range []*time.Timer{b.queue.pacing.timer, b.kept.timer, b.requests.timer} {
		if t != nil {
			t.Stop()
		}
	}
	b.queue.eachDatagram(func(w *queuedDatagram) {
		b.queue.remove(w)
		b.budget.Release(w.in.room, w.size())
		if w.ack == nil {
			w.drop(account.ReasonStopped, nil)
		}
	})
}
