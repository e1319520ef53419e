package receive_test

import (
	"sync"
	"testing"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Each datagram that the kernel drops is counted once, whoever asks: the watch loop
// does every second, and the end of a membership may come at the same time.
func TestKernelDropsAreCountedOnce(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "r")}
	for range 50 {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, rigOptions{QueueSize: 1 << 20}, nil, rules)
		n.LastReceiver().Drop(5)
		var askers sync.WaitGroup
		askers.Go(b.receive.CountDrops)
		askers.Go(b.receive.CountDrops)
		askers.Go(func() { b.receive.StopReceivers(&b.readers) })
		askers.Wait()
		if got := b.working.Rules[0].Of(account.ReasonReceiveBuffer); got != 5 {
			t.Fatalf("%d counted, want 5", got)
		}
	}
}

// So are those since the last question when the socket is closed, because the
// interface has gone or was made anew.
func TestKernelDropsOfASocketThatIsClosedAreCounted(t *testing.T) {
	rules := []mapping.ReceiveRule{fake.ReceiveRule(t, "r", "239.1.1.1:5000", "r")}
	receiving(t, rigOptions{}, nil, rules, func(b *rig, n *fake.Network) {
		n.LastReceiver().Drop(5)
		n.Set()
		b.reconcile(t.Context())
		n.Set(fake.Iso0)
		b.reconcile(t.Context())
		n.LastReceiver().Drop(2)
		b.receive.CountDrops()
		if got := b.working.Rules[0].Of(account.ReasonReceiveBuffer); got != 7 {
			t.Errorf("%d counted, want 7", got)
		}
	})
}
