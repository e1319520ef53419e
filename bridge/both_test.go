package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// At the end all of the spool is for what the session has: copies are all that there is
// then.
func TestTheEndHasAllOfTheSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, err := mapping.Compile(nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")})
		if err != nil {
			t.Fatal(err)
		}
		server := &sickBroker{make(chan struct{}), make(chan struct{})}
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		on := fake.OpenSpool(t, t.TempDir(), 300) // room for four, and as copies for two
		b, err := New(Options{Table: table, QueueSize: fake.Plenty, network: of(n), Spool: Spool{On: on},
			Session: session.Options{URLs: []string{"mqtt://memory:1883"}, ClientID: "test", Dial: server.dial}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- b.Run(ctx) }()
		synctest.Wait()
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "1", "2", "3", "4", "5", "6")
		time.Sleep(2 * time.Second)
		if got := on.Len(); got != 2 {
			t.Errorf("%d copies while the broker does not answer, want 2", got)
		}
		end()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if got := on.Len(); got != 4 {
			t.Errorf("%d on disk at the end, want 4", got)
		}
		if got := b.Status().Receive[0].Drops; got["spool_full"] != 2 || len(got) != 1 {
			t.Errorf("drops %v", got)
		}
		close(server.over)
		on.Close()
		synctest.Wait()
	})
}

// The loop guard forgets after seconds what may be published after hours.
func TestTheLoopGuardKnowsWhatComesOffTheDisk(t *testing.T) {
	dir := t.TempDir()
	send := []mapping.SendRule{fake.SendRule(t, "back", "t", "239.1.1.1:5000")}
	loops := guardedLoops
	loops.Delay = 0
	o := Options{Loops: loops}
	b, n, _ := bridgeSpooling(t, dir, 1<<20, o, send, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "hello")
	b.spooled(t, 1)
	if err := b.options.Spool.On.Close(); err != nil {
		t.Fatal(err)
	}
	next, n, p := bridgeSpooling(t, dir, 1<<20, o, send, fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t"))
	next.connect(true)
	p.Deliver(t, 1)
	next.send.Handle([]session.Message{fake.Message("t", "hello", 1)})
	if got := n.LastSocket().Took(); got != nil {
		t.Errorf("sent %q: that is our own message", got)
	}
	if got := next.Status().Rules[0].Filtered["loop"]; got != 1 {
		t.Errorf("drops %v", next.Status().Rules[0].Drops)
	}
}

func TestASpoolInTroubleShowsInTheStatus(t *testing.T) {
	b := newTestBridgeOf(t, &fake.Network{}, Options{QueueSize: fake.Plenty, Spool: Spool{Dir: "/var/lib/x", Size: 7, Err: spool.ErrInUse}}, nil,
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "t")})
	if s := b.Status().Spool; s == nil || s.Dir != "/var/lib/x" || s.Size != 7 || !strings.Contains(s.Error, spool.ErrInUse.Error()) {
		t.Errorf("%+v", s)
	}
}

// bridgeSpooling is a bridge of receive rules on iso0 that has a spool in dir, and no
// connection yet. Its pump runs.
func bridgeSpooling(t *testing.T, dir string, size int64, o Options, send []mapping.SendRule, receive ...mapping.ReceiveRule) (*Bridge, *fake.Network, *fake.Publisher) {
	t.Helper()
	n := &fake.Network{}
	n.Set(fake.Iso0)
	if o.QueueSize == 0 {
		o.QueueSize = fake.Plenty
	}
	o.Spool.On = fake.OpenSpool(t, dir, size)
	b := newTestBridgeOf(t, n, o, send, receive)
	fake.Run(t, b.receive.Pump)
	return b, n, publisherOf(b)
}

// connect is what the session tells of its connection.
func (b *Bridge) connect(is bool) { b.sessionChanged(session.State{Connected: is}) }

func TestWhatAnotherBridgeSendsOfTheSameMessageIsNotPublished(t *testing.T) {
	send, receive := cycleOf(t)
	const other = "172.17.0.3:40000"
	loops := guardedLoops
	loops.Delay = 100 * time.Millisecond
	got := bridgeReceiving(t, Options{Loops: loops}, send, receive, func(b *Bridge, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		b.send.Handle([]session.Message{fake.Message("both", "ON", 0), fake.Message("both", "OFF", 0), fake.Message("both", "ON", 0)})
		r.Hear(other, "ON", "OFF", "ON")
		r.Hear(other, "faster") // the other bridge was
		time.Sleep(50 * time.Millisecond)
		b.send.Handle([]session.Message{fake.Message("both", "faster", 0)})
		time.Sleep(time.Second)
		synctest.Wait()
		if d := b.Status().Receive[0].Filtered; d["loop"] != 4 {
			t.Errorf("drops %v, want 4 of the loop guard", d)
		}
		r.Hear(other, "ON") // once more than was sent
		time.Sleep(time.Second)
	})
	if diff := cmp.Diff([]string{"both ON"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatThisBridgePublishedIsNotSentToWhereItCameFrom(t *testing.T) {
	send, receive := cycleOf(t)
	send = append(send, fake.SendRule(t, "elsewhere", "both", "239.1.1.2:5000"), fake.SendRule(t, "priv", "both", "239.1.1.1:5000", fake.OnPriv))
	receive = append(receive, fake.ReceiveRule(t, "priv in", "239.1.1.1:5000", "both", func(r *mapping.ReceiveRule) { r.Interface = "priv0" }))
	bridgeReceiving(t, Options{Loops: guardedLoops}, send, receive, func(b *Bridge, n *fake.Network) {
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "ON", "OFF", "ON")
		synctest.Wait()
		echo := []session.Message{fake.Message("both", "ON", 0), fake.Message("both", "OFF", 0), fake.Message("both", "ON", 0)}
		b.send.Handle(echo)
		b.send.Handle([]session.Message{fake.Message("both", "ON", 0)}) // somebody else's
		sent := make(map[string][]string)
		for _, s := range n.Sockets {
			sent[s.Src.Interface] = append(sent[s.Src.Interface], s.Took()...)
		}
		want := map[string][]string{
			"iso0": {"239.1.1.2:5000 ON", "239.1.1.2:5000 OFF", "239.1.1.2:5000 ON",
				"239.1.1.1:5000 ON", "239.1.1.2:5000 ON"},
			"priv0": {"239.1.1.1:5000 ON", "239.1.1.1:5000 OFF", "239.1.1.1:5000 ON", "239.1.1.1:5000 ON"},
		}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Error(diff)
		}
		if d := b.Status().Rules[0].Filtered; d["loop"] != 3 {
			t.Errorf("drops %v, want 3 of the loop guard", d)
		}
	})
}

// bridgeReceiving runs a bridge of receive rules within synctest, and returns what it
// published once all is quiet.
func bridgeReceiving(t *testing.T, o Options, send []mapping.SendRule, receive []mapping.ReceiveRule, script func(*Bridge, *fake.Network)) []string {
	t.Helper()
	var out []string
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
		if o.QueueSize == 0 {
			o.QueueSize = 1 << 20
		}
		b := newTestBridgeOf(t, n, o, send, receive)
		script(b, n)
		synctest.Wait()
		out = publisherOf(b).Published()
	})
	return out
}

var guardedLoops = loopguard.Options{Guard: true, Memory: 1000, Time: 10 * time.Second, Breaker: 100}

// cycle is a pair of rules that feed each other.
func cycleOf(t *testing.T) ([]mapping.SendRule, []mapping.ReceiveRule) {
	return []mapping.SendRule{fake.SendRule(t, "out", "both", "239.1.1.1:5000")},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "both")}
}

// echoing counts what the loop guard stops of a message that we published ourselves.
func (b *Bridge) echoing(n *fake.Network, payload string) uint64 {
	before := b.Status().Rules[0].Sent
	n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, payload)
	synctest.Wait()
	b.send.Handle([]session.Message{fake.Message("both", payload, 0)})
	return b.Status().Rules[0].Sent - before
}

func TestALoopThatAReloadMakesIsGuarded(t *testing.T) {
	send, receive := cycleOf(t)
	straight := []mapping.SendRule{fake.SendRule(t, "out", "both", "239.1.1.2:5000")}
	bridgeReceiving(t, Options{Loops: guardedLoops}, straight, receive, func(b *Bridge, n *fake.Network) {
		for i, c := range []struct {
			what string
			send []mapping.SendRule
			sent uint64
		}{
			{"on no cycle", straight, 1},
			{"on a cycle", send, 0},
			{"still on it", send, 0},
			{"off the cycle", straight, 1},
			{"on it again", send, 0},
		} {
			b.reload(t, c.send, receive)
			if got := b.echoing(n, fmt.Sprint(i)); got != c.sent {
				t.Errorf("%s: what we published is sent %d times, want %d", c.what, got, c.sent)
			}
		}
	})
}

// spooled waits until n messages are on disk.
func (b *Bridge) spooled(t *testing.T, n int) {
	t.Helper()
	fake.WaitFor(t, fmt.Sprint(n, " messages on disk"), func() bool {
		return b.options.Spool.On.Len() == n && b.budget.Count() == 0
	})
}

// bridgeWithSpool is a bridge without interfaces that has a spool.
func bridgeWithSpool(t testing.TB, n *fake.Network, rules ...mapping.SendRule) *Bridge {
	t.Helper()
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	return newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Spool: Spool{On: s, Dir: "dir"}}, rules, nil)
}

// allOnDisk waits until all is on disk that is to go there.
func (b *Bridge) allOnDisk(t *testing.T) {
	t.Helper()
	fake.WaitFor(t, "the disk", func() bool { return b.options.Spool.On.Undecided() == 0 })
}

// numbered hands over messages with the numbers from first to last.
func (b *Bridge) numbered(topic string, first, last int) {
	for i := first; i <= last; i++ {
		b.send.Handle([]session.Message{fake.Message(topic, fmt.Sprint(i), 1)})
	}
}

// watching looks once a second for bindings from which nothing leaves, as watch does.
func (b *Bridge) watching(d time.Duration) {
	for ; d > 0; d -= min(d, countEvery) {
		time.Sleep(min(d, countEvery))
		b.send.FindStuck(time.Now())
	}
}
