package bridge

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
	"topicast/mapping"
)

func onDown(p mapping.OnDown) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) { r.OnDown = p }
}

func maxAge(d time.Duration) func(*mapping.SendRule) {
	return func(r *mapping.SendRule) { r.MaxAge = d }
}

// openSpool opens the spool in a folder, for the time of the test.
func openSpool(t testing.TB, dir string, size int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, MaxSize: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// spooling is a bridge without interfaces that has a spool.
func spooling(t testing.TB, n *fakeNetwork, rules ...mapping.SendRule) *Bridge {
	t.Helper()
	s := openSpool(t, t.TempDir(), 16<<20)
	return newTestBridgeOf(t, n, Options{QueueSize: plenty, Spool: Spool{On: s, Dir: "dir"}}, rules, nil)
}

// stowed waits until all is on disk that is to go there.
func (b *Bridge) stowed(t *testing.T) {
	t.Helper()
	waitFor(t, "the disk", func() bool {
		for _, o := range b.parts().bindings {
			o.mu.Lock()
			busy := o.storing > 0
			o.mu.Unlock()
			if busy {
				return false
			}
		}
		return true
	})
}

func TestWhatWaitsForASourceIsOnDiskAndLeavesInOrder(t *testing.T) {
	n := &fakeNetwork{}
	b := spooling(t, n, rule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
	batch := []session.Message{message("t/1", "a", 1), message("t/2", "b", 2), message("t/1", "c", 1), message("t/1", "d", 0)}
	b.send.handle(batch)
	if !batch[0].Hold || !batch[1].Hold || !batch[2].Hold || batch[3].Hold {
		t.Error("QoS 1 and 2 are to be held until the disk has them, QoS 0 is not")
	}
	b.stowed(t)
	s := b.Status()
	if s.Queue.Messages != 0 || s.Spool.Messages != 3 || s.Spool.Bytes == 0 {
		t.Errorf("%d in memory, %+v on disk, want none and 3", s.Queue.Messages, s.Spool)
	}
	if got := s.Rules[0].Drops; len(got) != 1 || got["pending"] != 1 {
		t.Errorf("drops %v, want the message of QoS 0", got)
	}
	n.set(iso0)
	b.refresh(context.Background())
	waitFor(t, "three datagrams", func() bool { return len(n.socket().took()) == 3 })
	want := []string{"239.1.1.1:5000 a", "239.1.1.1:5000 c", "239.1.1.2:5000 b"} // by group, as they came together
	if diff := cmp.Diff(want, n.socket().took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	waitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
	b.send.handle([]session.Message{message("t/1", "e", 1)})
	if got := n.socket().took(); len(got) != 4 {
		t.Errorf("sent %q: what comes after the disk is empty is to leave at once", got)
	}
}

func TestTheDiskOutlivesTheBridge(t *testing.T) {
	dir := t.TempDir()
	rules := []mapping.SendRule{rule(t, "r", "t/{id}", "239.1.1.{id}:5000"), rule(t, "gone", "g", "239.2.2.2:5000")}
	s, err := spool.Open(spool.Options{Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b := newTestBridgeOf(t, &fakeNetwork{}, Options{QueueSize: plenty, Spool: Spool{On: s}}, rules, nil)
	b.send.handle([]session.Message{message("t/1", "a", 1), message("t/300", "bad", 1), message("g", "x", 1), message("t/2", "b", 1)})
	b.stowed(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The next one has another group for the rule, and no longer has the other rule.
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	next := newTestBridgeOf(t, n, Options{QueueSize: plenty, Spool: Spool{On: openSpool(t, dir, 1<<20)}},
		[]mapping.SendRule{rule(t, "r", "t/{id}", "239.3.3.{id}:5000")}, nil)
	waitFor(t, "two datagrams", func() bool { return len(n.socket().took()) == 2 })
	if diff := cmp.Diff([]string{"239.3.3.1:5000 a", "239.3.3.2:5000 b"}, n.socket().took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if len(next.orphans()) != 1 || next.options.Spool.On.Len() != 1 {
		t.Errorf("%d queues of rules that are gone, %d messages left; want 1 and 1", len(next.orphans()), next.options.Spool.On.Len())
	}
	next.options.Spool.MaxAge = time.Nanosecond
	next.tidy(time.Now())
	waitFor(t, "what is too old to go", func() bool { return next.options.Spool.On.Len() == 0 })
}

func TestATopicThatTheRuleNoLongerTakesIsCounted(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	b := newTestBridgeOf(t, &fakeNetwork{}, Options{QueueSize: plenty, Spool: Spool{On: s}}, []mapping.SendRule{rule(t, "r", "#", "239.1.1.1:5000")}, nil)
	b.send.handle([]session.Message{message("a", "1", 1), message("b", "2", 1)})
	b.stowed(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	next := newTestBridgeOf(t, n, Options{QueueSize: plenty, Spool: Spool{On: openSpool(t, dir, 1<<20)}}, []mapping.SendRule{rule(t, "r", "b", "239.1.1.1:5000")}, nil)
	waitFor(t, "one datagram", func() bool { return len(n.socket().took()) == 1 })
	if got := next.Status().Rules[0].Drops; got["removed"] != 1 {
		t.Errorf("drops %v, want one removed", got)
	}
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
				n := &fakeNetwork{}
				r := rule(t, "r", "t/{id}", "239.1.1.1:5000", onDown(c.policy))
				var b *Bridge
				if disk {
					b = spooling(t, n, r)
				} else {
					b = newTestBridge(t, n, plenty, r)
				}
				for _, m := range []session.Message{message("t/a", "a1", 1), message("t/b", "b1", 1), message("t/a", "a2", 1), message("t/a", "a3", 2), message("t/a", "a0", 0)} {
					time.Sleep(time.Millisecond) // no two at the same time
					b.send.handle([]session.Message{m})
				}
				b.stowed(t)
				n.set(iso0)
				b.refresh(context.Background())
				b.send.handle([]session.Message{message("t/z", "end", 1)})
				var got []string
				waitFor(t, "the last", func() bool {
					got = nil
					for _, line := range n.socket().took() {
						got = append(got, strings.Fields(line)[1])
					}
					return slices.Contains(got, "end")
				})
				if diff := cmp.Diff(append(c.sent, "end"), got); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(c.drops, b.Status().Rules[0].Drops); diff != "" {
					t.Errorf("drops (-want +got):\n%s", diff)
				}
				waitFor(t, "no more to wait", func() bool { return b.Status().Queue.Messages == 0 && b.Status().Queue.Bytes == 0 })
			})
		}
	}
}

func TestWhatIsTooOldIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNetwork{}
		b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000", maxAge(time.Minute)))
		b.send.handle([]session.Message{message("t", "1", 1), message("t", "2", 1)})
		time.Sleep(50 * time.Second)
		b.send.handle([]session.Message{message("t", "3", 1)})
		time.Sleep(20 * time.Second)
		n.set(iso0)
		b.refresh(context.Background())
		synctest.Wait()
		if diff := cmp.Diff([]string{"239.1.1.1:5000 3"}, n.socket().took()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if got := b.Status(); got.Rules[0].Drops["expired"] != 2 || got.Queue.Bytes != 0 {
			t.Errorf("drops %v, queue %+v", got.Rules[0].Drops, got.Queue)
		}
	})
}

func TestWhatIsTooOldOnDiskIsNotSentAndMakesRoom(t *testing.T) {
	n := &fakeNetwork{}
	b := spooling(t, n, rule(t, "r", "t", "239.1.1.1:5000", maxAge(20*time.Millisecond)))
	b.send.handle([]session.Message{message("t", "1", 1), message("t", "2", 1)})
	b.stowed(t)
	time.Sleep(25 * time.Millisecond)
	b.tidy(time.Now())
	waitFor(t, "room", func() bool { return b.Status().Spool.Messages == 0 })
	b.send.handle([]session.Message{message("t", "3", 1)})
	b.stowed(t)
	time.Sleep(25 * time.Millisecond)
	n.set(iso0)
	b.refresh(context.Background())
	waitFor(t, "the third to be found too old", func() bool { return b.Status().Rules[0].Drops["expired"] == 3 })
	if got := n.socket().took(); got != nil {
		t.Errorf("sent %q", got)
	}
}

func TestAFullSpoolDropsWhatComesAndCounts(t *testing.T) {
	n := &fakeNetwork{}
	s := openSpool(t, t.TempDir(), 64<<10)
	b := newTestBridgeOf(t, n, Options{QueueSize: plenty, Spool: Spool{On: s}}, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000")}, nil)
	const sent = 200
	for i := range sent {
		b.send.handle([]session.Message{message("t", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 1000)), 1)})
	}
	b.stowed(t)
	kept, lost := s.Len(), b.Status().Rules[0].Drops["spool_full"]
	if kept == 0 || lost == 0 || kept+int(lost) != sent {
		t.Fatalf("%d kept and %d counted as lost of %d", kept, lost, sent)
	}
	n.set(iso0)
	b.refresh(context.Background())
	waitFor(t, "what was kept", func() bool { return len(n.socket().took()) == kept })
	for i, line := range n.socket().took() {
		if want := fmt.Sprintf("239.1.1.1:5000 %03d ", i); !strings.HasPrefix(line, want) {
			t.Fatalf("datagram %d is %.24q, want the oldest in order", i, line)
		}
	}
}

// A steady stream while the disk is emptied stays in order, and comes to go
// straight again.
func TestAStreamCatchesUpInOrder(t *testing.T) {
	n := &fakeNetwork{}
	b := spooling(t, n, rule(t, "r", "t", "239.1.1.1:5000", func(r *mapping.SendRule) {
		r.Payload = mustPayload(t, "hex") // so that the disk keeps another payload than the queue
	}))
	const total = 20000
	for i := range total {
		b.send.handle([]session.Message{message("t", fmt.Sprintf("%08x", i), 1)})
		if i == total/4 {
			n.set(iso0)
			b.refresh(context.Background())
		}
		if i > total/4 && i%32 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	waitFor(t, "all", func() bool { return len(n.socket().took()) == total })
	for i, line := range n.socket().took() {
		want := "239.1.1.1:5000 " + string([]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		if line != want {
			t.Fatalf("datagram %d is %q", i, line)
		}
	}
	o := b.parts().bindings[0]
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.behind || len(o.backlog) > 0 {
		t.Errorf("still by the disk: behind %v, %d rules", o.behind, len(o.backlog))
	}
}

func mustPayload(t testing.TB, text string) mapping.Payload {
	t.Helper()
	p, err := mapping.ParsePayload(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What only the latest is wanted of takes no more room than the latest takes.
func TestTheDiskOfALatestRuleStaysSmall(t *testing.T) {
	n := &fakeNetwork{}
	b := spooling(t, n, rule(t, "r", "t/{id}", "239.1.1.{id}:5000", onDown(mapping.OnDownLatest)))
	const rounds, topics = 400, 10
	for i := range rounds {
		var batch []session.Message
		for id := range topics {
			batch = append(batch, message(fmt.Sprint("t/", id), fmt.Sprint(i), 1))
		}
		b.send.handle(batch)
		time.Sleep(time.Microsecond)
	}
	b.stowed(t)
	for range 2 { // the second finds what the first has moved
		b.tidy(time.Now())
		b.stowed(t)
	}
	waitFor(t, "little on disk", func() bool { return b.Status().Spool.Messages <= 2*topics })
	n.set(iso0)
	b.refresh(context.Background())
	waitFor(t, "the latest of each", func() bool { return len(n.socket().took()) >= topics })
	for _, line := range n.socket().took() {
		if !strings.HasSuffix(line, fmt.Sprint(" ", rounds-1)) {
			t.Errorf("sent %q, which is not the latest", line)
		}
	}
	waitFor(t, "the rest to be counted", func() bool {
		return b.Status().Rules[0].Drops["superseded"] == (rounds-1)*topics
	})
}

func TestAtTheEndTheDiskTakesWhatWaitsForABusySocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	s := openSpool(t, dir, 1<<20)
	b := newTestBridgeOf(t, n, Options{QueueSize: plenty, Spool: Spool{On: s}}, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000")}, nil)
	n.socket().allow(0, nil)
	<-n.socket().free
	b.send.handle([]session.Message{message("t", "1", 1), message("t", "2", 1)})
	b.retire(context.Background())
	if got := b.Status(); got.Queue.Messages != 0 || s.Len() != 2 {
		t.Errorf("%d in memory, %d on disk", got.Queue.Messages, s.Len())
	}
}

// A socket that is up and takes nothing is no reason to lose what there is a disk for.
func TestAQueueThatIsFullOverflowsToTheDisk(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	s := openSpool(t, t.TempDir(), 16<<20)
	b := newTestBridgeOf(t, n, Options{QueueSize: 8 << 10, Spool: Spool{On: s}}, []mapping.SendRule{rule(t, "r", "t", "239.1.1.1:5000")}, nil)
	n.socket().allow(0, nil)
	<-n.socket().free
	const total = 100
	for i := range total {
		b.send.handle([]session.Message{message("t", fmt.Sprintf("%03d %s", i, strings.Repeat("x", 500)), 1)})
	}
	if s.Len() == 0 || b.send.owes.Load() {
		t.Errorf("%d on disk, left to the broker: %v", s.Len(), b.send.owes.Load())
	}
	n.socket().allow(1<<20, nil)
	waitFor(t, "all", func() bool { return len(n.socket().took()) == total })
	for i, line := range n.socket().took() {
		if !strings.HasPrefix(line, fmt.Sprintf("239.1.1.1:5000 %03d ", i)) {
			t.Fatalf("datagram %d is %.24q", i, line)
		}
	}
	if got := b.Status().Rules[0].Drops; got != nil {
		t.Errorf("drops %v", got)
	}
}
