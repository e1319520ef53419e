package send_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// spooling is a bridge without interfaces that has a spool.
func spooling(t testing.TB, n *fake.Network, rules ...mapping.SendRule) *rig {
	t.Helper()
	return spoolingFor(t, n, 0, rules...)
}

// spoolingFor is spooling where what no rule uses is kept for a time.
func spoolingFor(t testing.TB, n *fake.Network, maxAge time.Duration, rules ...mapping.SendRule) *rig {
	t.Helper()
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	return newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s, Dir: "dir", MaxAge: maxAge}}, rules, nil)
}

// spilled waits until all is on disk that is to go there.
func (b *rig) spilled(t *testing.T) {
	t.Helper()
	fake.WaitFor(t, "the disk", func() bool { return b.send.Storing() == 0 })
}

func TestWhatWaitsForASourceIsOnDiskAndLeavesInOrder(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
	batch := []session.Message{fake.Message("t/1", "a", 1), fake.Message("t/2", "b", 2), fake.Message("t/1", "c", 1), fake.Message("t/1", "d", 0)}
	b.send.Handle(batch)
	held := batch[0].Hold && batch[1].Hold && batch[2].Hold
	if onDisk := b.Status().Spool.Messages; batch[3].Hold || !held && onDisk == 0 { // a disk may be faster than we are
		t.Error("QoS 1 and 2 are to be held until the disk has them, QoS 0 is not")
	}
	b.spilled(t)
	s := b.Status()
	if s.Queue.Messages != 0 || s.Spool.Messages != 3 || s.Spool.Bytes == 0 {
		t.Errorf("%d in memory, %+v on disk, want none and 3", s.Queue.Messages, s.Spool)
	}
	if got := s.Rules[0].Drops; len(got) != 1 || got["pending"] != 1 {
		t.Errorf("drops %v, want the message of QoS 0", got)
	}
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	fake.WaitFor(t, "three datagrams", func() bool { return len(n.LastSocket().Took()) == 3 })
	want := []string{"239.1.1.1:5000 a", "239.1.1.1:5000 c", "239.1.1.2:5000 b"} // by group, as they came together
	if diff := cmp.Diff(want, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	fake.WaitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
	b.send.Handle([]session.Message{fake.Message("t/1", "e", 1)})
	if got := n.LastSocket().Took(); len(got) != 4 {
		t.Errorf("sent %q: what comes after the disk is empty is to leave at once", got)
	}
}

func TestTheDiskOutlivesTheBridge(t *testing.T) {
	dir := t.TempDir()
	rules := []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "gone", "g", "239.2.2.2:5000")}
	s, err := spool.Open(spool.Options{Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s}}, rules, nil)
	b.send.Handle([]session.Message{fake.Message("t/1", "a", 1), fake.Message("t/300", "bad", 1), fake.Message("g", "x", 1), fake.Message("t/2", "b", 1)})
	b.spilled(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The next one has another group for the rule, and no longer has the other rule.
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	next := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: fake.OpenSpool(t, dir, 1<<20), MaxAge: time.Nanosecond}},
		[]mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.3.3.{id}:5000")}, nil)
	fake.WaitFor(t, "two datagrams", func() bool { return len(n.LastSocket().Took()) == 2 })
	if diff := cmp.Diff([]string{"239.3.3.1:5000 a", "239.3.3.2:5000 b"}, n.LastSocket().Took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	fake.WaitFor(t, "a disk with the removed rule's message alone", func() bool { return next.options.Spool.On.Len() == 1 })
	if len(next.send.Unused()) != 1 {
		t.Errorf("%d queues of rules that are gone, want 1", len(next.send.Unused()))
	}
	next.send.ExpireOld()
	fake.WaitFor(t, "what is too old to go", func() bool { return next.options.Spool.On.Len() == 0 })
}

func TestATopicThatTheRuleNoLongerTakesIsCounted(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s}}, []mapping.SendRule{fake.SendRule(t, "r", "#", "239.1.1.1:5000")}, nil)
	b.send.Handle([]session.Message{fake.Message("a", "1", 1), fake.Message("b", "2", 1)})
	b.spilled(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	next := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: fake.OpenSpool(t, dir, 1<<20)}}, []mapping.SendRule{fake.SendRule(t, "r", "b", "239.1.1.1:5000")}, nil)
	fake.WaitFor(t, "one datagram", func() bool { return len(n.LastSocket().Took()) == 1 })
	fake.WaitFor(t, "one removed", func() bool { return next.Status().Rules[0].Drops["removed"] == 1 })
}

func TestOnDownSaysWhatWaits(t *testing.T) {
	for name, c := range map[string]struct {
		policy     mapping.OnDown
		sent       []string
		drops      map[string]uint64
		withMemory bool // the same without a disk
	}{
		"spool":  {mapping.OnDownSpool, []string{"a1", "b1", "a2", "a3"}, map[string]uint64{"pending": 1}, true},
		"latest": {mapping.OnDownLatest, []string{"b1", "a0"}, map[string]uint64{"superseded": 3}, true},
		"drop":   {mapping.OnDownDrop, nil, map[string]uint64{"pending": 5}, true},
	} {
		for _, disk := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s disk=%v", name, disk), func(t *testing.T) {
				n := &fake.Network{}
				r := fake.SendRule(t, "r", "t/{id}", "239.1.1.1:5000", fake.OnDown(c.policy))
				var b *rig
				if disk {
					b = spooling(t, n, r)
				} else {
					b = newRig(t, n, fake.Plenty, r)
				}
				for _, m := range []session.Message{fake.Message("t/a", "a1", 1), fake.Message("t/b", "b1", 1), fake.Message("t/a", "a2", 1), fake.Message("t/a", "a3", 2), fake.Message("t/a", "a0", 0)} {
					time.Sleep(time.Millisecond) // no two at the same time
					b.send.Handle([]session.Message{m})
				}
				b.spilled(t)
				n.Set(fake.Iso0)
				b.reconcile(context.Background())
				b.send.Handle([]session.Message{fake.Message("t/z", "end", 1)})
				var got []string
				fake.WaitFor(t, "the last", func() bool {
					got = nil
					for _, line := range n.LastSocket().Took() {
						got = append(got, strings.Fields(line)[1])
					}
					return slices.Contains(got, "end")
				})
				if diff := cmp.Diff(append(c.sent, "end"), got); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				counts := b.Status().Rules[0].Drops
				if c.policy == mapping.OnDownLatest {
					counts = b.Status().Rules[0].Filtered
				}
				if diff := cmp.Diff(c.drops, counts); diff != "" {
					t.Errorf("drops, or what was filtered (-want +got):\n%s", diff)
				}
				fake.WaitFor(t, "no more to wait", func() bool { return b.Status().Queue.Messages == 0 && b.Status().Queue.Bytes == 0 })
			})
		}
	}
}

func TestWhatIsTooOldIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.MaxAge(time.Minute)))
		b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("t", "2", 1)})
		time.Sleep(50 * time.Second)
		b.send.Handle([]session.Message{fake.Message("t", "3", 1)})
		time.Sleep(20 * time.Second)
		n.Set(fake.Iso0)
		b.reconcile(context.Background())
		synctest.Wait()
		if diff := cmp.Diff([]string{"239.1.1.1:5000 3"}, n.LastSocket().Took()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if got := b.Status(); got.Rules[0].Drops["expired"] != 2 || got.Queue.Bytes != 0 {
			t.Errorf("drops %v, queue %+v", got.Rules[0].Drops, got.Queue)
		}
	})
}

func TestWhatIsTooOldOnDiskIsNotSentAndMakesRoom(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", fake.MaxAge(time.Nanosecond)))
	b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("t", "2", 1)})
	b.spilled(t)
	b.send.ExpireOld()
	fake.WaitFor(t, "room", func() bool { return b.Status().Spool.Messages == 0 })
	b.send.Handle([]session.Message{fake.Message("t", "3", 1)})
	b.spilled(t)
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	fake.WaitFor(t, "the third to be found too old", func() bool { return b.Status().Rules[0].Drops["expired"] == 3 })
	if got := n.LastSocket().Took(); got != nil {
		t.Errorf("sent %q", got)
	}
}

func TestAFullSpoolDropsWhatComesAndCounts(t *testing.T) {
	n := &fake.Network{}
	s := fake.OpenSpool(t, t.TempDir(), 64<<10)
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s}}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	const sent = 200
	for i := range sent {
		b.send.Handle([]session.Message{fake.Message("t", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000)), 1)})
	}
	b.spilled(t)
	kept, lost := s.Len(), b.Status().Rules[0].Drops["spool_full"]
	if kept == 0 || lost == 0 || kept+int(lost) != sent {
		t.Fatalf("%d kept and %d counted as lost of %d", kept, lost, sent)
	}
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	fake.WaitFor(t, "what was kept", func() bool { return len(n.LastSocket().Took()) == kept })
	for i, line := range n.LastSocket().Took() {
		if want := fmt.Sprintf("239.1.1.1:5000 %03d ", i); !strings.HasPrefix(line, want) {
			t.Fatalf("datagram %d is %.24q, want the oldest in order", i, line)
		}
	}
}

// A steady stream while the disk is emptied stays in order, and comes to go
// straight again.
func TestAStreamCatchesUpInOrder(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000", func(r *mapping.SendRule) {
		r.Payload = fake.MustPayload(t, "hex") // so that the disk keeps another payload than the queue
	}))
	const total = 20000
	for i := range total {
		b.send.Handle([]session.Message{fake.Message("t", fmt.Sprintf("%08x", i), 1)})
		if i == total/4 {
			n.Set(fake.Iso0)
			b.reconcile(context.Background())
		}
		if i > total/4 && i%32 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	fake.WaitFor(t, "all", func() bool { return len(n.LastSocket().Took()) == total })
	for i, line := range n.LastSocket().Took() {
		want := "239.1.1.1:5000 " + string([]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		if line != want {
			t.Fatalf("datagram %d is %q", i, line)
		}
	}
	if b.send.ByTheDisk() {
		t.Error("still by the disk")
	}
}

// What only the latest is wanted of takes no more room than the latest takes.
func TestTheDiskOfALatestRuleStaysSmall(t *testing.T) {
	n := &fake.Network{}
	b := spooling(t, n, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", fake.OnDown(mapping.OnDownLatest)))
	const rounds, topics = 400, 10
	for i := range rounds {
		var batch []session.Message
		for id := range topics {
			batch = append(batch, fake.Message(fmt.Sprint("t/", id), fmt.Sprint(i), 1))
		}
		b.send.Handle(batch)
		time.Sleep(time.Microsecond)
	}
	b.spilled(t)
	for range 2 { // the second finds what the first has moved
		b.send.ExpireOld()
		b.spilled(t)
	}
	fake.WaitFor(t, "little on disk", func() bool { return b.Status().Spool.Messages <= 2*topics })
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	fake.WaitFor(t, "the latest of each", func() bool { return len(n.LastSocket().Took()) >= topics })
	for _, line := range n.LastSocket().Took() {
		if !strings.HasSuffix(line, fmt.Sprint(" ", rounds-1)) {
			t.Errorf("sent %q, which is not the latest", line)
		}
	}
	fake.WaitFor(t, "the rest to be counted", func() bool {
		return b.Status().Rules[0].Filtered["superseded"] == (rounds-1)*topics
	})
}

func TestAtTheEndTheDiskTakesWhatWaitsForABusySocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	s := fake.OpenSpool(t, dir, 1<<20)
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: s}}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("t", "2", 1)})
	b.spillAll(t)
	if got := b.Status(); got.Queue.Messages != 0 || s.Len() != 2 {
		t.Errorf("%d in memory, %d on disk", got.Queue.Messages, s.Len())
	}
}

// A socket that is up and takes nothing is no reason to lose what there is a disk for.
func TestAQueueThatIsFullOverflowsToTheDisk(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	b := newRigOf(t, n, rigOptions{QueueSize: 8 << 10, Spool: rigSpool{On: s}}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	const total = 100
	for i := range total {
		b.send.Handle([]session.Message{fake.Message("t", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 500)), 1)})
	}
	if s.Len() == 0 || b.send.RedeliveryDue() {
		t.Errorf("%d on disk, left to the broker: %v", s.Len(), b.send.RedeliveryDue())
	}
	n.LastSocket().Allow(1<<20, nil)
	fake.WaitFor(t, "all", func() bool { return len(n.LastSocket().Took()) == total })
	for i, line := range n.LastSocket().Took() {
		if !strings.HasPrefix(line, fmt.Sprintf("239.1.1.1:5000 %03d ", i)) {
			t.Fatalf("datagram %d is %.24q", i, line)
		}
	}
	if got := b.Status().Rules[0].Drops; got != nil {
		t.Errorf("drops %v", got)
	}
}

func TestWhatTheDiskLosesIsCounted(t *testing.T) {
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: fake.Plenty, Spool: rigSpool{On: fake.OpenSpool(t, t.TempDir(), 512)}},
		[]mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	b.send.Handle([]session.Message{fake.Message("t", strings.Repeat("x", 1000), 1)}) // more than the disk may hold
	fake.WaitFor(t, "the loss", func() bool { return b.Status().Rules[0].Drops["spool_failed"] == 1 })
}
