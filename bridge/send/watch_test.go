package send

import (
	"sync"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
)

// A system call that does not return holds the lock of its binding, and nothing else.
func TestASendThatHangsStopsNobodyWhoLooksAfterAll(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "hangs", "a", "239.1.1.1:5000"), fake.SendRule(t, "well", "b", "239.1.1.2:5000", fake.OnPriv))
	release, hanging := make(chan struct{}), make(chan struct{})
	n.SocketOn("iso0").OnSend = sync.OnceFunc(func() {
		close(hanging)
		<-release
	})
	var handled sync.WaitGroup
	handled.Go(func() { b.send.Handle([]session.Message{fake.Message("a", "1", 1)}) })
	<-hanging
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		now := time.Now()
		b.send.needsRedelivery.Store(true)
		b.send.unstored.Store(true)
		b.send.RequestRedelivery(now, func() {})
		b.send.SpillAgain()
		b.send.FindStuck(now)
		b.send.Inspect()
		b.send.ExpireOld()
		b.send.WakeAll()
		b.send.Pending()
		if !b.send.unstored.Load() {
			t.Error("what the disk turned away is not asked for again")
		}
	}()
	select {
	case <-looked:
	case <-time.After(20 * time.Second):
		t.Error("one hanging send stops the watch")
	}
	close(release)
	handled.Wait()
}
