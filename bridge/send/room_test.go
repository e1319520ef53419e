package send_test

import (
	"context"
	"fmt"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
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
	b.refresh(context.Background())
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
