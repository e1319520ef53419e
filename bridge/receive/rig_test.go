package receive_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// rig is the receive side on a network that a test writes the script of: without a bridge
// and without a broker. What it publishes goes to a fake.Publisher.
type rig struct {
	receive *receive.Path
	working *receive.Generation
	budget  *account.MemBudget
	own     loopguard.OwnAddresses
	options rigOptions
	network *fake.Network
	readers sync.WaitGroup
	to      fake.Publisher
	watched *fake.Watched    // what those are told who watch
	changed chan struct{}    // a look at the interfaces was asked for
	changes multicast.Change // since the last look
	keep    []func()         // that it is kept elsewhere now
	refused []string         // what the broker did not take: rule, topic, payload
}

type rigOptions struct {
	QueueSize  int64
	TopicBytes int64 // the memory for topics; 0: as it is
	Loops      loopguard.Options
	Joins      func() (multicast.Joins, error)
	Logger     *slog.Logger
	Status     string
	Spool      rigSpool
}

type rigSpool struct {
	On     *spool.Spool
	MaxAge time.Duration
}

// rigStatus is what a rig has of a bridge's status.
type rigStatus struct{ Receive []receive.Status }

func newRig(t testing.TB, n *fake.Network, o rigOptions, send []mapping.SendRule, rules []mapping.ReceiveRule) *rig {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &rig{options: o, network: n, budget: account.NewMemBudget(o.QueueSize), changed: make(chan struct{}, 1), working: new(receive.Generation)}
	b.watched = fake.Watch(t)
	b.receive = receive.New(receive.Options{
		Tap: b.watched.Tap,
		Log: o.Logger, Budget: b.budget, Own: &b.own, Loops: o.Loops, Spool: spill.Share(o.Spool.On), MaxAge: o.Spool.MaxAge,
		Listen: func(o multicast.ReceiverOptions, on multicast.Interface) (receive.Receiver, error) {
			r, err := n.Listen(o, on)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
		Joins:   o.Joins,
		Status:  o.Status,
		Settled: new(account.Signal),
		Refused: func(rule string, m *session.Publication, _ error, kept func()) {
			b.refused = append(b.refused, fmt.Sprintf("%s %s %s", rule, m.Topic, m.Payload))
			if kept != nil {
				b.keep = append(b.keep, kept)
			}
		},
		LookNow: func() {
			select {
			case b.changed <- struct{}{}:
			default:
			}
		},
	})
	b.receive.PublishTo(&b.to)
	if o.TopicBytes > 0 {
		b.receive.SetTopicBytes(o.TopicBytes)
	}
	b.reload(t, send, rules)
	t.Cleanup(func() {
		b.receive.StopReceivers(&b.readers)
		b.checkTold(t)
		checkReceiveSeries(t, b.working)
	})
	return b
}

// reload puts other rules to work. Those of send say what comes back.
func (b *rig) reload(t testing.TB, send []mapping.SendRule, receive []mapping.ReceiveRule) {
	t.Helper()
	b.checkTold(t)
	checkReceiveSeries(t, b.working)
	table, err := mapping.Compile(send, receive)
	if err != nil {
		t.Fatal(err)
	}
	table = table.On(mapping.HostInterfaces{})
	before, next := b.working, b.receive.Build(table, b.working)
	next.Attach(&b.readers)
	b.budget.Divide(len(send), len(receive))
	b.receive.Activate(table, next, before)
	before.RetireOld(next)
	b.working = next
	b.reconcile(t.Context())
}

// checkTold fails unless those who watch were told of each loss.
func (b *rig) checkTold(t testing.TB) {
	t.Helper()
	b.watched.CheckRemoved(t, b.receive.Removed())
	for _, r := range b.working.Rules {
		b.watched.Check(t, r.Name, &r.Counters, "", func() uint64 { return 0 })
	}
}

// reconcile looks at the interfaces.
func (b *rig) reconcile(context.Context) {
	changes := b.changes
	b.changes = multicast.Change{}
	if interfaces, err := b.network.Interfaces(); err == nil {
		b.receive.Rejoin(interfaces, changes)
	}
}

func (b *rig) interfacesChanged(c multicast.Change) { b.changes = c }
func (b *rig) connect(is bool)                      { b.receive.SetConnected(is, false) }
func (b *rig) expireOld()                           { b.receive.ExpireOld() }
func (b *rig) unused() []string                     { return b.receive.Unused() }

func (b *rig) Status() (s rigStatus) {
	for i, r := range b.working.Rules {
		s.Receive = append(s.Receive, r.Status(time.Now(), i))
	}
	return s
}

// publisher is what the rig publishes to.
func (b *rig) publisher() *fake.Publisher { return &b.to }

// copies are those of what the session has of the first rule.
func (b *rig) copies() *spool.Queue { return b.working.Rules[0].Copies() }

// driven are the reasons for which a test of this package has lost or filtered something.
var drivenReceive struct {
	mu      sync.Mutex
	reasons [account.NumReasons]bool
	known   map[*account.Counters][account.NumReasons]bool // counted when a rule was looked at last; a reload may have changed it since
}

// checkReceiveSeries holds, at the end of every test, that each reason that was counted is
// one that can happen to the rule as it is configured: then its series was there before,
// with 0.
func checkReceiveSeries(t testing.TB, g *receive.Generation) {
	t.Helper()
	drivenReceive.mu.Lock()
	defer drivenReceive.mu.Unlock()
	if drivenReceive.known == nil {
		drivenReceive.known = make(map[*account.Counters][account.NumReasons]bool)
	}
	for _, r := range g.Rules {
		known := drivenReceive.known[&r.Counters]
		for why := range r.All() {
			drivenReceive.reasons[why] = true
			if !known[why] && !r.CanCount(why) {
				t.Errorf("rule %s: %s was counted, and had no series before", r.Name, why)
			}
			known[why] = true
		}
		drivenReceive.known[&r.Counters] = known
	}
}

// allReceiveDriven ends the run of all tests: there has to be one for each reason.
func allReceiveDriven(code int) {
	if flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && flag.Lookup("test.list").Value.String() == "" {
		for why := range account.NumReasons {
			if receive.Driven(why) && !drivenReceive.reasons[why] {
				fmt.Printf("--- FAIL: no test has counted the reason %s\n", why)
				code = 1
			}
		}
	}
	os.Exit(code)
}
