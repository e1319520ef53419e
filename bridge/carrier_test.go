package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

var errNoCarrier = fmt.Errorf("interface iso0 has no carrier: %w", multicast.ErrPending)

// restore gives the carrier back, and has the binding look at once.
func restore(b *Bridge) {
	o := b.parts().bindings[0]
	o.mu.Lock()
	o.rest = time.Time{}
	o.mu.Unlock()
	b.refresh(context.Background())
}

// expectPending checks that the rule waits for the carrier.
func expectPending(t *testing.T, b *Bridge) {
	t.Helper()
	if r := b.Status().Rules[0]; r.State != StatePending || r.Reason != errNoCarrier.Error() {
		t.Errorf("the rule is %s (%s), want pending for its carrier", r.State, r.Reason)
	}
	if len(b.changed) != 1 {
		t.Error("nobody was told to look at the interfaces now")
	}
}

func TestWhatWasSentWithoutCarrierIsNotAcknowledgedAndLeavesAgain(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	first := n.socket()
	first.reject = map[string]error{"bad": errors.New("refused")}
	first.cut(errNoCarrier)
	batch := []session.Message{message("t", "1", 1), message("t", "0", 0), message("t", "bad", 1), message("t", "2", 2)}
	b.send.handle(batch)
	if diff := cmp.Diff([]bool{true, false, false, true}, []bool{batch[0].Hold, batch[1].Hold, batch[2].Hold, batch[3].Hold}); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	expectPending(t, b)
	if r := b.Status().Rules[0]; r.Sent != 0 {
		t.Errorf("%d count as sent, want none", r.Sent)
	}
	a := newAcked()
	a.watch(b.parts().bindings[0])
	restore(b)
	waitFor(t, "what waited", func() bool { return len(n.socket().took()) == 2 })
	if diff := cmp.Diff([]string{"239.1.1.1:5000 1", "239.1.1.1:5000 2"}, n.socket().took()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	<-a.some
	<-a.some
	r := b.Status().Rules[0]
	if diff := cmp.Diff(map[string]uint64{"pending": 1, "refused": 1}, r.Drops); diff != "" || r.Sent != 2 {
		t.Errorf("%d sent, drops (-want +got):\n%s", r.Sent, diff)
	}
}

// It costs, and nothing waits for the answer.
func TestTheCarrierIsNotAskedForWhatIsNotAcknowledged(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0, priv0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"), rule(t, "p", "p", "239.1.1.1:5000", onPriv))
	for range 2 {
		b.send.handle([]session.Message{message("t", "1", 0), message("t", "2", 0), message("p", "3", 1)})
	}
	asked := map[string]int{}
	for _, s := range n.sockets {
		asked[s.src.Interface] = s.asked
	}
	if diff := cmp.Diff(map[string]int{"iso0": 0, "priv0": 2}, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestWhatWaitedIsNotAcknowledgedWithoutCarrier(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t", "239.1.1.1:5000"))
	first := n.socket()
	first.allow(0, nil)
	<-first.free
	first.reject = map[string]error{"bad": errors.New("refused")}
	b.send.handle([]session.Message{message("t", "1", 1), message("t", "bad", 1), message("t", "2", 1)})
	a := newAcked()
	a.watch(b.parts().bindings[0])
	first.cut(errNoCarrier)
	first.allow(1, nil)
	waitFor(t, "a closed socket", func() bool { return b.Status().Rules[0].State == StatePending })
	expectPending(t, b)
	if r := b.Status().Rules[0]; r.Sent != 0 || len(a.done) != 0 || len(r.Drops) != 0 {
		t.Errorf("%d sent, %q acknowledged, drops %v; want none", r.Sent, a.done, r.Drops)
	}
	restore(b)
	waitFor(t, "what waited", func() bool { return len(n.socket().took()) == 3 })
	if r := b.Status().Rules[0]; r.Sent != 3 || len(r.Drops) != 0 {
		t.Errorf("%d sent, drops %v; want 3 and none", r.Sent, r.Drops)
	}
}

func TestWhatWasSentWithoutCarrierStaysOnDisk(t *testing.T) {
	for _, policy := range []mapping.OnDown{mapping.OnDownSpool, mapping.OnDownLatest} {
		t.Run(policy.String(), func(t *testing.T) {
			n := &fakeNetwork{}
			b := spooling(t, n, rule(t, "r", "t/{id}", "239.1.1.{id}:5000", onDown(policy)))
			for _, m := range []session.Message{message("t/1", "a", 1), message("t/2", "b", 1), message("t/2", "c", 1)} {
				b.send.handle([]session.Message{m})
				time.Sleep(time.Microsecond) // no two at the same time
			}
			b.stowed(t)
			before := b.Status()
			n.lost = errNoCarrier
			n.set(iso0)
			b.refresh(context.Background())
			waitFor(t, "a closed socket", func() bool { return len(n.sockets) == 1 && b.Status().Rules[0].State == StatePending })
			expectPending(t, b)
			if s := b.Status(); s.Rules[0].Sent != 0 || s.Spool.Messages != before.Spool.Messages {
				t.Errorf("%d sent, %d on disk; want none and %d", s.Rules[0].Sent, s.Spool.Messages, before.Spool.Messages)
			}
			n.lost = nil
			restore(b)
			want, drops := []string{"239.1.1.1:5000 a", "239.1.1.2:5000 b", "239.1.1.2:5000 c"}, map[string]uint64(nil)
			if policy == mapping.OnDownLatest { // b is found again, and counted once
				want, drops = slices.Delete(want, 1, 2), map[string]uint64{"superseded": 1}
			}
			waitFor(t, "an empty disk", func() bool { return b.Status().Spool.Messages == 0 })
			if diff := cmp.Diff(want, n.socket().took()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			r := b.Status().Rules[0]
			if diff := cmp.Diff(drops, r.Drops); diff != "" || int(r.Sent) != len(want) {
				t.Errorf("%d sent, drops (-want +got):\n%s", r.Sent, diff)
			}
		})
	}
}
