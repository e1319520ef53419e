package bridge

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestOneTroubleOfManyRulesIsOneSentence(t *testing.T) {
	n := &fake.Network{}
	var rules []mapping.SendRule
	for i := range 50 {
		rules = append(rules, fake.SendRule(t, fmt.Sprint(i), fmt.Sprint("t/", i), "239.1.1.1:5000"))
	}
	b := newTestBridge(t, n, fake.Plenty, rules...)
	got := b.Status().Waiting
	if len(got) != 2 || !strings.HasPrefix(got[1], "50 rules are pending: ") {
		t.Errorf("waiting for %q, want the broker, and 50 rules in one sentence", got)
	}
}

func TestTheInterfacesAreLookedAtOftenOnlyWhileSomethingWaits(t *testing.T) {
	n := &fake.Network{}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	if got := b.nextLook(); got != lookPending {
		t.Errorf("next look after %v while pending, want %v", got, lookPending)
	}
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	if got := b.nextLook(); got != lookSettled {
		t.Errorf("next look after %v while all is well, want %v", got, lookSettled)
	}
}

func TestASteppedClockNeitherSkipsABeatNorHidesAHang(t *testing.T) {
	for _, step := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			b := newTestBridge(t, &fake.Network{}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
			now := time.Now()
			b.updateHeartbeat(now)
			if !b.alive(stepped(t, now.Add(time.Second), step)) {
				t.Error("it counts as dead for a step of the clock")
			}
			b.updateHeartbeat(stepped(t, now, step))
			if !b.alive(now.Add(time.Second)) {
				t.Error("it counts as dead for a step that was taken back")
			}
			if b.alive(stepped(t, now.Add(stallTimeout), step)) {
				t.Error("it hangs, and counts as alive for a step of the clock")
			}
		})
	}
}

// Ages on disk go by the spool's clock, for both directions and over a restart, and
// what waits in memory brings its age along.
func TestWhatWaitsOnDiskIsAsOldAsTheSpoolsClockSays(t *testing.T) {
	clock := &diskClock{}
	dir := t.TempDir()
	boot := func() (*Bridge, *spool.Spool) {
		s, err := spool.Open(spool.Options{Dir: dir, MaxSize: 1 << 20, Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		return newTestBridgeOf(t, &fake.Network{}, Options{QueueSize: fake.Plenty, Spool: Spool{On: s, Dir: dir, MaxAge: time.Hour}},
			[]mapping.SendRule{fake.SendRule(t, "s", "t", "239.1.1.1:5000", fake.MaxAge(time.Hour))}, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.2:5000", "u")}), s
	}
	b, s := boot()
	b.send.Handle([]session.Message{fake.Message("t", "1", 1)})
	b.options.Spool.On.Queue("r\x00received").Append(spool.Record{Topic: []byte("u"), Payload: []byte("1"), Flags: 1}, nil)
	b.allOnDisk(t)
	clock.up.Add(int64(59 * time.Minute))
	b.send.ExpireOld()
	b.receive.ExpireOld()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, s = boot()
	b.send.ExpireOld()
	b.receive.ExpireOld()
	if s.Len() != 2 {
		t.Fatalf("%d of 2 on disk after 59 minutes of an hour", s.Len())
	}
	clock.up.Add(int64(2 * time.Minute))
	b.send.ExpireOld()
	b.receive.ExpireOld()
	if got := b.Status(); s.Len() != 0 || got.Rules[0].Drops["expired"] != 1 || got.Receive[0].Drops["expired"] != 1 {
		t.Errorf("%d on disk after 61 minutes of an hour; drops %v and %v", s.Len(), got.Rules[0].Drops, got.Receive[0].Drops)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// stepped is what time.Now would return at t if the time of day had been set by so
// much, whole seconds: the monotonic part stays.
func stepped(t *testing.T, now time.Time, by time.Duration) time.Time {
	t.Helper()
	was := now
	// See time.Time: 1 bit that there is a monotonic part, 33 of seconds, 30 of
	// nanoseconds.
	wall := (*uint64)(unsafe.Pointer(&now))
	*wall += uint64(int64(by/time.Second)) << 30
	if now.Sub(was) != 0 || now.UnixNano()-was.UnixNano() != int64(by) {
		t.Fatal("package time has changed: no time can be made whose time of day is stepped")
	}
	return now
}

// diskClock is the clock of a spool, in the hands of a test: the time of day is of no
// account.
type diskClock struct{ up atomic.Int64 }

func (c *diskClock) Boot() string { return "boot" }

func (c *diskClock) Up() time.Duration { return time.Duration(c.up.Load()) }

func (c *diskClock) TimeOfDay() (time.Time, time.Duration, bool) { return time.Time{}, 0, false }

// Answers are counted across the sockets of a binding, shown for each rule that sends
// from the port, and logged once.
func TestAnswersThatNobodyTakesAreCounted(t *testing.T) {
	var log bytes.Buffer
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: fake.Plenty, Logger: slog.New(slog.NewTextHandler(&log, nil))},
		[]mapping.SendRule{fake.SendRule(t, "a", "a", "239.1.1.1:5000"), fake.SendRule(t, "b", "b", "239.1.1.2:5000")}, nil)
	unclaimed := func(want uint64) {
		t.Helper()
		b.send.Inspect()
		var text strings.Builder
		if err := b.WriteRules(&text); err != nil {
			t.Fatal(err)
		}
		for i, r := range b.Status().Rules {
			if r.Unclaimed != want {
				t.Errorf("status of rule %d: %d, want %d", i, r.Unclaimed, want)
			}
			line := `topicast_unclaimed_datagrams_total{direction="send",rule="` + r.Name + `"} ` + string('0'+byte(want)) + "\n"
			if !strings.Contains(text.String(), line) {
				t.Errorf("no %s in\n%s", line, text.String())
			}
		}
	}
	unclaimed(0)
	n.LastSocket().Answer(2)
	unclaimed(2)
	n.LastSocket().Answer(1)
	unclaimed(3)
	n.LastSocket().Answer(2) // and the socket is closed before it is asked
	n.Set()
	b.reconcile(t.Context())
	unclaimed(5)
	n.Set(fake.Iso0)
	b.reconcile(t.Context())
	n.LastSocket().Answer(1)
	unclaimed(6)
	n.LastSocket().Answer(1<<32 - 1) // the kernel's count begins anew
	n.LastSocket().Mu.Lock()
	n.LastSocket().Answers = 3
	n.LastSocket().Mu.Unlock()
	unclaimed(8)
	if got := strings.Count(log.String(), "datagrams come to the port that a rule sends from"); got != 1 {
		t.Errorf("logged %d times, want once:\n%s", got, log.String())
	}
}

// What waits for an address is not published, should a rule of that name come to go
// the other way.
func TestARuleThatTurnsRoundDoesNotTakeWhatItHadOnDisk(t *testing.T) {
	b, n, p := bridgeSpooling(t, t.TempDir(), 1<<20, Options{}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.OnPriv)})
	b.numbered("t", 0, 2)
	b.allOnDisk(t)
	b.connect(true)
	b.reload(t, nil, []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.2.1.1:5000", "t")})
	n.At("239.2.1.1:5000", "iso0").Hear(fake.Device, "x")
	if got := p.Deliver(t, 1); !slices.Equal(got, []string{"t x"}) {
		t.Errorf("published %q", got)
	}
	if got := b.options.Spool.On.Len(); got != 3 {
		t.Errorf("%d of 3 on disk still", got)
	}
}

// Senders that never come back fill what comes from the network to its limit. What
// a binding waits with is not among it, nor what another binding waits with.
func TestNeitherAFloodNorAnInterfaceThatIsAwayTakesTheRoomOfTheOthers(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newTestBridgeOf(t, n, Options{QueueSize: 64 << 10},
		[]mapping.SendRule{fake.SendRule(t, "away", "away", "239.1.1.1:5000"), fake.SendRule(t, "lamps", "lamps", "239.1.1.2:5000", fake.OnPriv)},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "flooded", "239.1.1.3:5000", "from/{source}", func(r *mapping.ReceiveRule) {
			r.Interface, r.Every = "priv0", time.Hour
		})})
	in := n.At("239.1.1.3:5000", "priv0")
	for i := range 1000 {
		for range 2 { // the second waits for an hour
			in.Hear(fmt.Sprintf("10.0.%d.%d:9", i/200, i%200+1), strings.Repeat("x", 100))
		}
	}
	fake.WaitFor(t, "the flood to find no room", func() bool { return b.Status().Receive[0].Drops["queue_full"] > 0 })
	n.Set(fake.Priv0)
	b.reconcile(context.Background())
	for i := range 1000 {
		b.send.Handle([]session.Message{fake.Message("away", fmt.Sprint(i, strings.Repeat("x", 100)), 1)})
	}
	if !b.send.RedeliveryDue() {
		t.Fatal("there was room for all; the test is to fill it")
	}
	var lamps *fake.Socket
	for _, s := range n.Sockets {
		if s.Src.Interface == "priv0" {
			lamps = s
		}
	}
	lamps.Allow(0, nil) // busy for a moment
	<-lamps.Free
	const total = 40
	for i := range total {
		b.send.Handle([]session.Message{fake.Message("lamps", fmt.Sprint(i), 1)})
	}
	lamps.Allow(1000, nil)
	fake.WaitFor(t, "the lamps", func() bool { return len(lamps.Took()) == total })
	for i, line := range lamps.Took() {
		if line != fmt.Sprint("239.1.1.2:5000 ", i) {
			t.Fatalf("datagram %d is %q", i, line)
		}
	}
	if got, most := b.budget.Bytes(), b.budget.Size(); got > most {
		t.Errorf("%d bytes wait, and queue.size is %d", got, most)
	}
}

// What a rule waits for keeps the bridge from being ready, and says so.
func TestAPendingRuleKeepsTheBridgeFromBeingReady(t *testing.T) {
	b := newTestBridge(t, &fake.Network{}, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	if s := b.Status(); s.Ready || !strings.Contains(strings.Join(s.Waiting, "\n"), "rule r is pending") {
		t.Errorf("ready=%v waiting=%q", s.Ready, s.Waiting)
	}
}

// A rule from which nothing leaves shows among the conditions.
func TestARuleThatIsStuckIsACondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		n.LastSocket().Allow(0, multicast.ErrNoBuffer)
		<-n.LastSocket().Free
		b.send.Handle([]session.Message{fake.Message("t", "a", 1)})
		b.watching(time.Minute)
		if got := b.Readiness().Conditions; !slices.ContainsFunc(got, func(c Condition) bool { return c.Rule == "r" && c.State == account.StateDegraded }) {
			t.Errorf("conditions %v", got)
		}
	})
}

// The receive side knows what the sockets of the send side send.
func TestWhatTheSocketsOfSendRulesSendIsNotPublished(t *testing.T) {
	send := []mapping.SendRule{fake.SendRule(t, "out", "out", "239.1.1.1:5000")}
	receive := []mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.1.1.1:5000", "in")}
	got := bridgeReceiving(t, Options{}, send, receive, func(b *Bridge, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		r.Hear(n.LastSocket().LocalAddr().String(), "ours")
		r.Hear("172.17.0.1:40001", "of another program here")
		synctest.Wait()
		if d := b.Status().Receive[0].Filtered; d["own"] != 1 {
			t.Errorf("filtered %v, want 1 own", d)
		}
	})
	if !slices.Equal(got, []string{"in of another program here"}) {
		t.Errorf("published %q", got)
	}
}
