package send_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Rules that leave through one socket, of which one floods: what it loses it loses itself.
func TestARuleThatFloodsTakesNoRoomOfOthersOfItsSocket(t *testing.T) {
	for name, c := range map[string]struct {
		qos  byte
		down mapping.OnDown
	}{
		"QoS 0, of which the latest waits": {0, mapping.OnDownLatest},
		"QoS 1":                            {1, mapping.OnDownSpool},
	} {
		t.Run(name, func(t *testing.T) {
			n, down := &fake.Network{}, fake.OnDown(c.down)
			b := newRig(t, n, 400*send.SizeOf("b/10", 1), fake.SendRule(t, "flood", "a/#", "239.1.1.1:5000", down), fake.SendRule(t, "quiet", "b/#", "239.1.1.2:5000", down))
			b.send.Handle([]session.Message{fake.Message("b/10", "x", c.qos)})
			var flood []session.Message
			for i := range 1000 {
				flood = append(flood, fake.Message(fmt.Sprint("a/", i), "x", c.qos))
			}
			b.send.Handle(flood)
			quiet := []session.Message{}
			for i := 11; i < 60; i++ {
				quiet = append(quiet, fake.Message(fmt.Sprint("b/", i), "x", c.qos))
			}
			b.send.Handle(quiet)
			got := b.Status().Rules
			if got[1].WaitingMemory != 50 || got[1].Drops != nil || b.left(1) != 0 {
				t.Errorf("of the quiet rule %d of 50 wait, %d are left to the broker, drops %v", got[1].WaitingMemory, b.left(1), got[1].Drops)
			}
			lost := got[0].Drops["queue_full"] + uint64(b.left(0))
			if got[0].WaitingMemory < 300 || uint64(got[0].WaitingMemory)+lost != 1000 {
				t.Errorf("of the other one %d wait and %d do not, of 1,000", got[0].WaitingMemory, lost)
			}
			n.Set(fake.Iso0)
			b.reconcile(t.Context())
			fake.WaitFor(t, "what waits", func() bool { return b.Status().Queue.Messages == 0 })
			if got := b.Status().Rules[1].Sent; got != 50 {
				t.Errorf("%d of 50 left", got)
			}
			if c.qos == 0 {
				return
			}
			// What the broker is to repeat of one rule is no reason to leave it what comes for others.
			batch := []session.Message{fake.Message("a/1", "y", 1), fake.Message("b/1", "y", 1)}
			b.send.Handle(batch)
			fake.WaitFor(t, "the one of the quiet rule", func() bool { return b.Status().Rules[1].Sent == 51 })
			if left := b.left(0); left != int(lost)+1 || b.Status().Rules[0].Sent != 1000-lost {
				t.Errorf("%d are left to the broker, want one more than %d", left, lost)
			}
		})
	}
}

// A rule that has used up its part goes on with what others leave, and gives it back.
func TestWhatOneRuleBorrowsIsThereAgain(t *testing.T) {
	n := &fake.Network{}
	b := newRig(t, n, 400*send.SizeOf("a", 1), fake.SendRule(t, "a", "a", "239.1.1.1:5000"), fake.SendRule(t, "b", "b", "239.1.1.2:5000"))
	for _, topic := range []string{"a", "b", "a"} {
		n.Set()
		b.reconcile(t.Context())
		for range 350 {
			b.send.Handle([]session.Message{fake.Message(topic, "x", 1)})
		}
		if got := b.Status().Queue.Messages; got != 350 {
			t.Errorf("%d of 350 wait for a rule that is alone with them", got)
		}
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		fake.WaitFor(t, "all", func() bool { return b.Status().Queue.Messages == 0 })
	}
}

// The parts are those of the rules that there are now.
func TestAReloadSharesTheRoomOfASocketAnew(t *testing.T) {
	rule := func(i int) mapping.SendRule {
		return fake.SendRule(t, fmt.Sprint("r", i), fmt.Sprintf("%d/#", i), "239.1.1.1:5000", fake.OnDown(mapping.OnDownLatest))
	}
	b := newRig(t, &fake.Network{}, 1600*send.SizeOf("1/1000", 1), rule(1))
	flood := func(rule, n int) {
		for i := range n {
			b.send.Handle([]session.Message{fake.Message(fmt.Sprintf("%d/%d", rule, 1000+i), "x", 0)})
		}
	}
	flood(1, 2000)
	if got := b.Status().Rules[0].WaitingMemory; got != 1600 {
		t.Errorf("%d wait of the only rule, want all there is room for", got)
	}
	b.reload(t, []mapping.SendRule{rule(1), rule(2), rule(3), rule(4)}, nil)
	flood(2, 2000)
	for i, want := range []int{1600, 100, 0, 0} { // what waits already is not taken away
		if got := b.Status().Rules[i].WaitingMemory; got != want {
			t.Errorf("of rule %d there wait %d, want %d", i+1, got, want)
		}
	}
}

// Much of one rule waits; what comes of another leaves soon all the same.
func TestARuleOfWhichMuchWaitsDelaysNoOther(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, 64<<20, fake.SendRule(t, "flood", "a", "239.1.1.1:5000"), fake.SendRule(t, "quiet", "b", "239.1.1.2:5000"))
	s := n.LastSocket()
	s.Allow(0, nil)
	<-s.Free
	var batch []session.Message
	for i := range 10_000 {
		batch = append(batch, fake.Message("a", fmt.Sprint(i), 1))
	}
	b.send.Handle(append(batch, fake.Message("b", "quiet 1", 1), fake.Message("b", "quiet 2", 1)))
	s.Allow(2*send.DrainBatch, nil)
	fake.WaitFor(t, "two rounds", func() bool { return len(s.Took()) == 2*send.DrainBatch })
	sent := fake.Payloads(s.Took())
	one, two := slices.Index(sent, "quiet 1"), slices.Index(sent, "quiet 2")
	if one < 0 || two < one {
		t.Errorf("those of the other rule are in places %d and %d of the first %d", one, two, len(sent))
	}
	s.Allow(10_000, nil)
	fake.WaitFor(t, "all", func() bool { return len(s.Took()) == 10_002 })
	flood := slices.DeleteFunc(s.Took(), func(line string) bool { return strings.Contains(line, "quiet") })
	fake.InOrder(t, flood, 9999)
}

// What is in front of one rule is refused and refused again, be it for ever; others leave.
func TestARuleWhoseDatagramsAreRefusedDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, 1<<20, fake.SendRule(t, "refused", "a", "239.1.1.1:5000"), fake.SendRule(t, "well", "b", "239.1.1.2:5000"))
		s := n.LastSocket()
		s.Never = 5
		for range 100 {
			b.send.Handle([]session.Message{fake.Message("a", "long!", 1)})
		}
		for i := range 100 {
			began := time.Now()
			b.send.Handle([]session.Message{fake.Message("b", fmt.Sprint(i), byte(i%2))})
			for len(s.Took()) <= i && time.Since(began) < time.Minute {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(began); took > 2*send.MaxPause {
				t.Fatalf("%d of the other rule took %v", i, took)
			}
			b.watching(time.Duration(i%5) * time.Second) // in which nothing leaves, and that is noticed
		}
		if got := b.Status().Rules[1]; got.Sent != 100 || got.Drops != nil {
			t.Errorf("%d of 100 left, drops %v", got.Sent, got.Drops)
		}
		if got := b.Status().Rules[0]; got.Sent != 0 || uint64(got.WaitingMemory)+got.Drops["no_buffer"] != 100 {
			t.Errorf("%d left of the one that is refused, %d wait, drops %v", got.Sent, got.WaitingMemory, got.Drops)
		}
	})
}

// Where nothing leaves at all, of QoS 0 one of each rule waits to be tried.
func TestWhereNothingLeavesLittleOfQoS0Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, 1<<20, fake.SendRule(t, "a", "a", "239.1.1.1:5000"), fake.SendRule(t, "b", "b", "239.1.1.2:5000"))
		n.LastSocket().Allow(0, multicast.ErrNoBuffer)
		b.send.Handle([]session.Message{fake.Message("a", "x", 1)})
		b.watching(5 * time.Second)
		for range 100 {
			b.send.Handle([]session.Message{fake.Message("b", "x", 0)})
		}
		if got := b.Status().Rules[1]; got.WaitingMemory != 1 || got.Drops["no_buffer"] != 99 || got.State != account.StateDegraded {
			t.Errorf("%d wait, drops %v, %s", got.WaitingMemory, got.Drops, got.State)
		}
		b.watching(5 * time.Second)
		if got := b.Status().Rules[1]; got.WaitingMemory != 0 || got.Drops["no_buffer"] != 100 {
			t.Errorf("later %d wait, drops %v", got.WaitingMemory, got.Drops)
		}
	})
}

// However often the latest of a topic is replaced, behind one that waits for long.
func TestWhatIsSupersededKeepsNoMemory(t *testing.T) {
	b := newRig(t, &fake.Network{}, fake.Plenty, fake.SendRule(t, "r", "+", "239.1.1.1:5000", fake.OnDown(mapping.OnDownLatest)))
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	b.send.Handle([]session.Message{fake.Message("once", "x", 0)})
	before := heap()
	for range 200_000 {
		b.send.Handle([]session.Message{fake.Message("often", "x", 0)})
	}
	if more := heap() - before; more > 4<<20 {
		t.Errorf("%d bytes for two that wait", more)
	}
	if got := b.Status().Rules[0]; got.WaitingMemory != 2 || got.Filtered["superseded"] != 199_999 {
		t.Errorf("%d wait, %v", got.WaitingMemory, got.Filtered)
	}
}
