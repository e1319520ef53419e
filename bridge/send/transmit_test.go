package send_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

var errNoCarrier = fmt.Errorf("interface iso0 has no carrier: %w", multicast.ErrPending)

// restore looks once more, as soon as a socket that could not send may be opened again.
func restore(b *rig) {
	time.Sleep(send.ReopenPause)
	b.reconcile(context.Background())
}

// expectPending checks that the rule waits for the carrier.
func expectPending(t *testing.T, b *rig) {
	t.Helper()
	if r := b.Status().Rules[0]; r.State != account.StatePending || r.Reason != errNoCarrier.Error() {
		t.Errorf("the rule is %s (%s), want pending for its carrier", r.State, r.Reason)
	}
	if len(b.changed) != 1 {
		t.Error("nobody was told to look at the interfaces now")
	}
}

func TestWhatWasSentWithoutCarrierIsNotAcknowledgedAndLeavesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		first := n.LastSocket()
		first.Reject = map[string]error{"bad": errors.New("refused")}
		first.Cut(errNoCarrier)
		batch := []session.Message{fake.Message("t", "1", 1), fake.Message("t", "0", 0), fake.Message("t", "bad", 1), fake.Message("t", "2", 2)}
		b.send.Handle(batch)
		if diff := cmp.Diff([]bool{true, false, false, true}, []bool{batch[0].Hold, batch[1].Hold, batch[2].Hold, batch[3].Hold}); diff != "" {
			t.Errorf("held (-want +got):\n%s", diff)
		}
		expectPending(t, b)
		if r := b.Status().Rules[0]; r.Sent != 0 {
			t.Errorf("%d count as sent, want none", r.Sent)
		}
		a := b.acks()
		restore(b)
		fake.WaitFor(t, "what waited", func() bool { return len(n.LastSocket().Took()) == 2 })
		if diff := cmp.Diff([]string{"239.1.1.1:5000 1", "239.1.1.1:5000 2"}, n.LastSocket().Took()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		<-a.some
		<-a.some
		r := b.Status().Rules[0]
		if diff := cmp.Diff(map[string]uint64{"pending": 1, "refused": 1}, r.Drops); diff != "" || r.Sent != 2 {
			t.Errorf("%d sent, drops (-want +got):\n%s", r.Sent, diff)
		}
	})
}

// It costs, and nothing waits for the answer.
func TestTheCarrierIsNotAskedForWhatIsNotAcknowledged(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"), fake.SendRule(t, "p", "p", "239.1.1.1:5000", fake.OnPriv))
	for range 2 {
		b.send.Handle([]session.Message{fake.Message("t", "1", 0), fake.Message("t", "2", 0), fake.Message("p", "3", 1)})
	}
	asked := map[string]int{}
	for _, s := range n.Sockets {
		asked[s.Src.Interface] = s.Asked
	}
	if diff := cmp.Diff(map[string]int{"iso0": 0, "priv0": 2}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestWhatWaitedIsNotAcknowledgedWithoutCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		first := n.LastSocket()
		first.Allow(0, nil)
		<-first.Free
		first.Reject = map[string]error{"bad": errors.New("refused")}
		b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("t", "bad", 1), fake.Message("t", "2", 1)})
		a := b.acks()
		first.Cut(errNoCarrier)
		first.Allow(1, nil)
		fake.WaitFor(t, "a closed socket", func() bool { return b.Status().Rules[0].State == account.StatePending })
		expectPending(t, b)
		if r := b.Status().Rules[0]; r.Sent != 0 || len(a.list()) != 0 || len(r.Drops) != 0 {
			t.Errorf("%d sent, %q acknowledged, drops %v; want none", r.Sent, a.list(), r.Drops)
		}
		restore(b)
		fake.WaitFor(t, "what waited", func() bool { return len(n.LastSocket().Took()) == 3 })
		if r := b.Status().Rules[0]; r.Sent != 3 || len(r.Drops) != 0 {
			t.Errorf("%d sent, drops %v; want 3 and none", r.Sent, r.Drops)
		}
	})
}

func TestWhatWasSentWithoutCarrierStaysOnDisk(t *testing.T) {
	for _, policy := range []mapping.OnDown{mapping.OnDownSpool, mapping.OnDownLatest} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fake.Network{}
				b := spooling(t, n, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000", fake.OnDown(policy)))
				for _, m := range []session.Message{fake.Message("t/1", "a", 1), fake.Message("t/2", "b", 1), fake.Message("t/2", "c", 1)} {
					b.send.Handle([]session.Message{m})
					time.Sleep(time.Microsecond) // no two at the same time
				}
				b.spilled(t)
				before := b.Status()
				n.Lost = errNoCarrier
				n.Set(fake.Iso0)
				b.reconcile(context.Background())
				fake.WaitFor(t, "a closed socket", func() bool { return len(n.Sockets) == 1 && b.Status().Rules[0].State == account.StatePending })
				expectPending(t, b)
				if s := b.Status(); s.Rules[0].Sent != 0 || s.Spool.Messages != before.Spool.Messages {
					t.Errorf("%d sent, %d on disk; want none and %d", s.Rules[0].Sent, s.Spool.Messages, before.Spool.Messages)
				}
				n.Lost = nil
				restore(b)
				want, filtered := []string{"239.1.1.1:5000 a", "239.1.1.2:5000 b", "239.1.1.2:5000 c"}, map[string]uint64(nil)
				if policy == mapping.OnDownLatest { // b is found again, and counted once
					want, filtered = slices.Delete(want, 1, 2), map[string]uint64{"superseded": 1}
				}
				fake.WaitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
				if diff := cmp.Diff(want, n.LastSocket().Took()); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				r := b.Status().Rules[0]
				if diff := cmp.Diff(filtered, r.Filtered); diff != "" || int(r.Sent) != len(want) || r.Drops != nil {
					t.Errorf("%d sent, drops %v, filtered (-want +got):\n%s", r.Sent, r.Drops, diff)
				}
			})
		})
	}
}
