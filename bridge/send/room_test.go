package send_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// With a spool a full memory is no reason to withhold anything.
func TestWhatFindsNoRoomInMemoryGoesToTheDiskAtOnce(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Priv0}}
	s := fake.OpenSpool(t, t.TempDir(), 16<<20)
	b := newRigOf(t, n, rigOptions{QueueSize: 1, Spool: rigSpool{On: s}}, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	const total = 100
	for i := range total {
		b.send.Handle([]session.Message{fake.Message("t", fmt.Sprint(i), 2)})
	}
	b.spilled(t)
	if got := s.Len(); got != total || b.send.RedeliveryDue() {
		t.Errorf("%d on disk, left to the broker: %v", got, b.send.RedeliveryDue())
	}
	n.Set(fake.Iso0)
	b.reconcile(context.Background())
	fake.WaitFor(t, "all", func() bool { return len(n.LastSocket().Took()) == total })
	for i, line := range n.LastSocket().Took() {
		if line != fmt.Sprint("239.1.1.1:5000 ", i) {
			t.Fatalf("datagram %d is %q", i, line)
		}
	}
	if got := b.budget.Count(); got != 0 || b.budget.Bytes() != 0 {
		t.Errorf("%d messages, %d bytes count as waiting", got, b.budget.Bytes())
	}
}

// fanOut are rules for one topic, whose source is away.
func fanOut(t *testing.T, n int) (rules []mapping.SendRule) {
	for i := range n {
		rules = append(rules, fake.SendRule(t, fmt.Sprint("r", i), "t", fmt.Sprintf("239.1.%d.%d:5000", i/256, i%256)))
	}
	return rules
}

// A message that many rules send is more than waits in memory and for the disk: the rest of
// it is waited with until the disk has taken what came before. It does not stay with the
// broker, which would repeat it for all of these rules.
func TestWhatIsMoreThanWaitsForTheDiskIsWaitedWith(t *testing.T) {
	const rules, size = 400, 60_000 // three times what waits for the disk
	s := fake.OpenSpool(t, t.TempDir(), 64<<20)
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: 4 << 20, Spool: rigSpool{On: s}}, fanOut(t, rules), nil)
	b.send.SetDiskPatience(10 * time.Minute)
	b.send.Handle([]session.Message{fake.Message("t", strings.Repeat("x", size), 1)})
	if b.send.RedeliveryDue() {
		t.Error("it is left to the broker")
	}
	b.spilled(t)
	if got := s.Len(); got != rules {
		t.Errorf("%d on disk, want %d", got, rules)
	}
}

// Where the disk does not answer, a batch ends after a while, and says what keeps it.
func TestADiskThatHangsHoldsABatchForAWhileOnly(t *testing.T) {
	const rules, size = 400, 60_000
	s := fake.OpenSpool(t, t.TempDir(), 64<<20)
	answers := make(chan struct{})
	defer close(answers)
	written := make(chan struct{})
	s.Queue("hangs").Append(spool.Record{Topic: []byte("t")}, func(error) {
		close(written)
		<-answers // the goroutine that writes
	})
	<-written
	var log bytes.Buffer
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: 4 << 20, Spool: rigSpool{On: s}, Logger: slog.New(slog.NewTextHandler(&log, nil))}, fanOut(t, rules), nil)
	b.send.SetDiskPatience(time.Millisecond)
	b.send.Handle([]session.Message{fake.Message("t", strings.Repeat("x", size), 1)})
	if !b.send.RedeliveryDue() {
		t.Error("nothing is left to the broker")
	}
	if want := "they stay with the broker, unacknowledged, and with them what it has sent since; the spool's disk is slower than they come"; !strings.Contains(log.String(), want) {
		t.Errorf("the log has no %q: %s", want, &log)
	}
}

// Where a batch has waited in vain for a disk that hangs, the next do not wait, or the messages of
// all rules would be as late each time; when the disk has answered they do again.
func TestADiskThatHangsHoldsOneBatchAlone(t *testing.T) {
	const rules, size = 400, 60_000
	s := fake.OpenSpool(t, t.TempDir(), 256<<20)
	answers, written := make(chan struct{}), make(chan struct{})
	s.Queue("hangs").Append(spool.Record{Topic: []byte("t")}, func(error) {
		close(written)
		<-answers // the goroutine that writes
	})
	<-written
	b := newRigOf(t, &fake.Network{}, rigOptions{QueueSize: 4 << 20, Spool: rigSpool{On: s}}, fanOut(t, rules), nil)
	var handled atomic.Int32
	handle := func() {
		b.send.Handle([]session.Message{fake.Message("t", strings.Repeat("x", size), 1)})
		handled.Add(1)
	}
	b.send.SetDiskPatience(time.Millisecond)
	handle()
	b.send.SetDiskPatience(10 * time.Minute)
	b.send.ClearRedelivery()
	go handle()
	fake.WaitFor(t, "the next batch, which waits too", func() bool { return handled.Load() == 2 })
	if !b.send.RedeliveryDue() {
		t.Error("nothing is left to the broker")
	}
	close(answers)
	b.spilled(t)
	b.send.ClearRedelivery()
	handle()
	if b.send.RedeliveryDue() {
		t.Error("it waits no more, though the disk has answered")
	}
}

// What one of several rules has no room for the broker repeats, for all of them: the others send it twice.
func TestWhatOneRuleHasNoRoomForIsRepeatedForAll(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Priv0}}
	b := newRig(t, n, 1500, fake.SendRule(t, "away", "t", "239.1.1.1:5000"), fake.SendRule(t, "there", "t", "239.1.1.2:5000", fake.OnPriv))
	message := func() []session.Message { return []session.Message{fake.Message("t", strings.Repeat("x", 500), 1)} }
	b.send.Handle(message()) // takes the room
	for range 2 {
		b.send.Handle(message())
		if !b.send.RedeliveryDue() {
			t.Error("nothing is left to the broker")
		}
		b.send.ClearRedelivery()
	}
	if got := len(n.From("priv0")); got != 3 {
		t.Errorf("the rule that has room sent %d datagrams, want 3", got)
	}
}
