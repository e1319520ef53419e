package send_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/bridge/tap"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// rig is the send side on a network that a test writes the script of: without a bridge and
// without a broker. Tests hand it batches of messages.
type rig struct {
	send    *send.Path
	working *send.Generation
	budget  *account.MemBudget
	own     loopguard.OwnAddresses
	watched *fake.Watched // what those are told who watch
	guard   *loopguard.DedupCache
	options rigOptions
	network *fake.Network
	said    fake.Publisher // what was published of answers
	drains  sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc // of ctx
	changed chan struct{}      // a look at the interfaces was asked for
	off     map[string]*account.Disabled
}

type rigOptions struct {
	QueueSize int64
	LastSent  *lastsent.Store
	Logger    *slog.Logger
	Spool     rigSpool
	InPlaceOf func(*fake.Socket) send.Sender // the socket that is used

	Changing bool // rules get other keys while messages wait, which may end as the keys of before have it
}

type rigSpool struct {
	On     *spool.Spool
	Dir    string
	MaxAge time.Duration
}

// rigStatus is what a rig has of a bridge's status.
type rigStatus struct {
	Rules  []send.Status
	NoRule uint64
	Queue  struct{ Messages, Bytes int64 }
	Spool  struct {
		Messages int
		Bytes    int64
	}
}

func newRig(t testing.TB, n *fake.Network, queue int64, rules ...mapping.SendRule) *rig {
	t.Helper()
	return newRigOf(t, n, rigOptions{QueueSize: queue}, rules, nil)
}

func newRigOf(t testing.TB, n *fake.Network, o rigOptions, sends []mapping.SendRule, receives []mapping.ReceiveRule) *rig {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.LastSent == nil {
		o.LastSent = lastsent.Open(lastsent.Options{})
	}
	if o.InPlaceOf == nil {
		o.InPlaceOf = func(s *fake.Socket) send.Sender { return s }
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &rig{guard: loopguard.NewDedupCache(loopguard.Options{Guard: true, Memory: 1000, Time: 10 * time.Second}),
		options: o, network: n, budget: account.NewMemBudget(o.QueueSize), changed: make(chan struct{}, 1), working: new(send.Generation), ctx: ctx, stop: stop}
	b.watched = fake.Watch(t)
	b.send = send.New(send.Options{
		Tap: b.watched.Tap,
		Log: o.Logger, LastSent: o.LastSent, Budget: b.budget, Own: &b.own, Spool: spill.Share(o.Spool.On), MaxAge: o.Spool.MaxAge, Repeats: true,
		Guard:    b.guard,
		Disabled: func(name, _ string) *account.Disabled { return b.off[name] },
		Open: func(src multicast.Source) (send.Sender, error) {
			s, err := n.Open(src)
			if err != nil {
				return nil, err
			}
			return o.InPlaceOf(s), nil
		},
		Settled: new(account.Signal),
		LookNow: func() {
			select {
			case b.changed <- struct{}{}:
			default:
			}
		},
	})
	b.send.PublishTo(&b.said)
	b.swap(t, sends, receives)
	t.Cleanup(func() {
		stop()
		b.send.Stop(context.Background())
		b.drains.Wait()
		b.checkSeries(t)
	})
	return b
}

// reload puts other rules to work. Those of receive say what comes back.
func (b *rig) reload(t testing.TB, sends []mapping.SendRule, receives []mapping.ReceiveRule) {
	t.Helper()
	b.checkSeries(t)
	b.swap(t, sends, receives)
}

func (b *rig) swap(t testing.TB, sends []mapping.SendRule, receives []mapping.ReceiveRule) {
	t.Helper()
	table, err := mapping.Compile(sends, receives)
	if err != nil {
		t.Fatal(err)
	}
	before, next := b.working, b.send.Build(table, b.working, nil)
	next.Attach(b.ctx, &b.drains)
	if interfaces, err := b.network.Interfaces(); err == nil && len(before.Rules) > 0 {
		b.send.OpenEarly(b.ctx, next, before, interfaces)
	}
	b.budget.Divide(next.Sockets(), len(receives)+next.ExpectingAnswers())
	b.send.Activate(next, before)
	before.RetireOld(next)
	b.working = next
	b.reconcile(b.ctx)
}

// reconcile looks at the interfaces.
func (b *rig) reconcile(ctx context.Context) {
	if interfaces, err := b.network.Interfaces(); err == nil {
		b.send.Reconcile(ctx, interfaces)
	}
}

// watch does what is done now and then, until ctx ends.
func (b *rig) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b.send.FindStuck(time.Now())
		b.send.SpillAgain()
		if i%10 == 0 {
			b.send.ExpireOld()
		}
	}
}

// watching looks once a second for bindings from which nothing leaves.
func (b *rig) watching(d time.Duration) {
	for ; d > 0; d -= min(d, time.Second) {
		time.Sleep(min(d, time.Second))
		b.send.FindStuck(time.Now())
	}
}

// spillAll hands to the disk what waits in memory, as at the end.
func (b *rig) spillAll(t *testing.T) {
	t.Helper()
	b.send.SpillAll(t.Context(), func() bool { return true })
}

func (b *rig) Status() (s rigStatus) {
	view := b.working.View(nil, time.Now())
	for i, r := range b.working.Rules {
		s.Rules = append(s.Rules, view.Status(r, i))
	}
	s.NoRule = b.send.Unmatched()
	s.Queue.Messages, s.Queue.Bytes = b.budget.Count(), b.budget.Bytes()
	if on := b.options.Spool.On; on != nil {
		s.Spool.Messages, s.Spool.Bytes = on.Len(), on.Bytes()
	}
	return s
}

// drivenSend are the reasons for which a test of this package has lost or filtered
// something.
var drivenSend struct {
	mu      sync.Mutex
	reasons [account.NumReasons]bool
	known   map[*account.Counters][account.NumReasons]bool // counted when a rule was looked at last; a reload may have changed it since
}

// checkSeries holds, at the end of every test, that each reason that was counted is one
// that can happen to the rule as it is configured: then its series was there before, with 0.
func (b *rig) checkSeries(t testing.TB) {
	t.Helper()
	drivenSend.mu.Lock()
	defer drivenSend.mu.Unlock()
	if drivenSend.known == nil {
		drivenSend.known = make(map[*account.Counters][account.NumReasons]bool)
	}
	b.watched.CheckRemoved(t, b.send.Removed())
	for _, r := range b.working.Rules {
		b.watched.Check(t, r.Name, &r.Counters, tap.Sent, func() uint64 { _, sent, _ := r.Totals(); return sent })
		known := drivenSend.known[&r.Counters]
		for why := range r.All() {
			drivenSend.reasons[why] = true
			if !known[why] && !r.CanCount(why) && !b.options.Changing {
				t.Errorf("rule %s: %s was counted, and had no series before", r.Name, why)
			}
			known[why] = true
		}
		drivenSend.known[&r.Counters] = known
	}
}

// allSendDriven ends the run of all tests: there has to be one for each reason.
func allSendDriven(code int) {
	if flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" {
		for why := range account.NumReasons {
			if send.Driven(why) && !drivenSend.reasons[why] {
				fmt.Printf("--- FAIL: no test has counted the reason %s\n", why)
				code = 1
			}
		}
	}
	os.Exit(code)
}

// left is how many messages of a rule are left to the broker.
func (b *rig) left(rule int) int {
	n, _ := b.working.Rules[rule].LeftWithBroker(time.Now())
	return n
}

// acked notes which messages are acknowledged.
type acked struct {
	mu   sync.Mutex
	done []string
	some chan struct{}
}

// acks notes the acknowledgements of what waits in memory now.
func (b *rig) acks() *acked {
	a := &acked{some: make(chan struct{}, 1000)}
	a.more(b)
	return a
}

// more has a note what has come since, too.
func (a *acked) more(b *rig) {
	b.send.OnSettled(a.note, func(payload string) { a.note("again " + payload) })
}

func (a *acked) note(payload string) {
	a.mu.Lock()
	a.done = append(a.done, payload)
	a.mu.Unlock()
	a.some <- struct{}{}
}

// list are those that are.
func (a *acked) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.done)
}

// wait waits for n of them.
func (a *acked) wait(n int) []string {
	for range n {
		<-a.some
	}
	return a.list()
}
