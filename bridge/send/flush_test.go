package send_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// flush discards what waits for a rule, by its place.
func (b *rig) flush(t testing.TB, rule int) account.Flushed {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return b.send.Flush(ctx, b.working.Rules[rule], time.Now())
}

// What is flushed does not leave, is acknowledged and counted as lost; what waits for other rules stays,
// and what comes after it goes on as ever.
func TestWhatIsFlushedIsDiscardedAndCounted(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprint("disk ", disk), func(t *testing.T) {
			n := &fake.Network{}
			o := rigOptions{QueueSize: fake.Plenty}
			if disk {
				o.Spool.On = fake.OpenSpool(t, t.TempDir(), 1<<20)
			}
			b := newRigOf(t, n, o, []mapping.SendRule{fake.SendRule(t, "one", "a/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "two", "b", "239.1.1.1:5000")}, nil)
			batch := []session.Message{fake.Message("b", "kept", 1)}
			for i := range 700 { // more than is read from the disk at a time
				batch = append(batch, fake.Message("a/7", fmt.Sprint(i), 1))
			}
			b.send.Handle(batch)
			acks := b.acks()
			want := account.Flushed{Rule: "one", Memory: 700}
			if disk {
				want.Memory, want.Disk = 0, 700
				fake.WaitFor(t, "all of it to be on disk", func() bool { return o.Spool.On.Len() == 701 && o.Spool.On.Undecided() == 0 })
			}
			if got := b.flush(t, 0); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if s := b.Status().Rules; s[0].Drops["flushed"] != 700 || s[0].WaitingMemory+s[0].WaitingDisk != 0 || s[1].WaitingMemory+s[1].WaitingDisk != 1 || len(s[1].Drops) > 0 {
				t.Errorf("%+v", s)
			}
			if n := len(acks.list()); !disk && n != 700 { // those of the disk were before
				t.Errorf("%d are acknowledged", n)
			}
			if got := b.flush(t, 0); got != (account.Flushed{Rule: "one"}) {
				t.Errorf("of nothing: %+v", got)
			}
			b.send.Handle([]session.Message{fake.Message("a/7", "after", 1)})
			n.Set(fake.Iso0)
			b.reconcile(t.Context())
			fake.WaitFor(t, "what was kept leaves, and what came after", func() bool { return n.Count("239.1.1.1:5000", "239.1.1.7:5000") == 2 })
			fake.WaitFor(t, "nothing waits", func() bool { return b.budget.Count() == 0 })
		})
	}
}

// What the kernel is being given just now may have left already: it stays, that is told, and what waits
// behind it is discarded as soon as the kernel returns.
func TestAFlushWaitsForASendThatIsUnderWay(t *testing.T) {
	n := &fake.Network{}
	n.Set(fake.Iso0)
	b := newRigOf(t, n, rigOptions{QueueSize: fake.Plenty}, []mapping.SendRule{fake.SendRule(t, "one", "a", "239.1.1.1:5000")}, nil)
	b.reconcile(t.Context())
	sending, returns := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() {
		close(sending)
		<-returns
	})
	s := n.LastSocket()
	s.Mu.Lock()
	s.Room = 1
	s.OnSend = first
	s.Mu.Unlock()
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		b.send.Handle([]session.Message{fake.Message("a", "leaves", 1), fake.Message("a", "waits", 1)})
	}()
	<-sending
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got := b.send.Flush(ctx, b.working.Rules[0], time.Now()); got != (account.Flushed{Rule: "one", Left: true}) {
		t.Errorf("while the kernel has it: %+v", got)
	}
	flushed := make(chan account.Flushed)
	go func() { flushed <- b.send.Flush(t.Context(), b.working.Rules[0], time.Now()) }()
	close(returns)
	<-handled
	if got := <-flushed; got != (account.Flushed{Rule: "one", Memory: 1}) {
		t.Errorf("when the kernel has returned: %+v", got)
	}
}
