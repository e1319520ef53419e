package send_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
)

// hang has a send hang, once it is armed; it says when it does, and lets it go on.
type hang struct {
	armed           atomic.Bool
	hangs, released chan struct{}
}

func newHang(s *fake.Socket) *hang {
	h := &hang{hangs: make(chan struct{}), released: make(chan struct{})}
	s.OnSend = func() {
		if h.armed.CompareAndSwap(true, false) {
			close(h.hangs)
			<-h.released
		}
	}
	return h
}

// Who looks at the rules waits for no send, and is told of one that the kernel does not return
// from; and the sockets of the others go on to follow the interfaces.
func TestASendThatHangsStopsNeitherTheStatusNorTheLookAtInterfaces(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0, fake.Priv0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "hangs", "a", "239.1.1.1:5000"), fake.SendRule(t, "well", "b", "239.1.1.2:5000", fake.OnPriv))
	b.send.SetLookPatience(10 * time.Millisecond) // what hangs does so for longer than any
	h := newHang(n.SocketOn("iso0"))
	n.SocketOn("iso0").Allow(0, nil)
	<-n.SocketOn("iso0").Free
	b.send.Handle([]session.Message{fake.Message("a", "0", 1)})
	var waits send.Blocker
	fake.WaitFor(t, "a message that waits to be seen", func() bool {
		waits, _, _ = b.send.Blockers()
		return waits.Rule == "hangs"
	})
	h.armed.Store(true)
	n.SocketOn("iso0").Allow(9, nil)
	<-h.hangs
	done := make(chan struct{})
	go func() {
		defer close(done)
		state := func(rule int, want account.State) {
			t.Helper()
			if r := b.Status().Rules[rule]; r.State != want || r.Interface == "" || r.Source == "" {
				t.Errorf("rule %s is %s: %+v", r.Name, r.State, r)
			}
		}
		look := func(ifs ...multicast.Interface) {
			n.Set(ifs...)
			b.reconcile(t.Context())
		}
		state(0, account.StateUp)
		state(1, account.StateUp)
		if oldest, _, n := b.send.Blockers(); oldest != waits || n != 1 {
			t.Errorf("%+v waits, for %d bindings; want %+v", oldest, n, waits)
		}
		if b.send.Hangs() {
			t.Error("taken for hanging before anybody has waited")
		}
		look(fake.Iso0)
		if !b.send.Hangs() {
			t.Error("not taken for hanging")
		}
		state(0, account.StateDegraded)
		state(1, account.StatePending)
		b.send.SetLookPatience(time.Hour) // what is known to hang is not waited for again
		look(fake.Iso0, fake.Priv0)
		state(1, account.StateUp)
		look(fake.Interface("iso0", 9, "172.17.0.1/16"), fake.Priv0)
		state(0, account.StateDegraded)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("one hanging send stops who looks")
	}
	for len(b.changed) > 0 {
		<-b.changed
	}
	close(h.released)
	<-done
	<-b.changed // a look is asked for
	if r := b.Status().Rules[0]; r.State != account.StateUp || b.send.Hangs() {
		t.Errorf("the rule is %s (%s), hangs: %v", r.State, r.Reason, b.send.Hangs())
	}
	b.reconcile(t.Context())
	if got := n.SocketOn("iso0").Src.Index; got != 9 {
		t.Errorf("the socket is on interface %d, which is gone", got)
	}
	fake.WaitFor(t, "no message to wait", func() bool { _, _, n := b.send.Blockers(); return n == 0 })
}

// A look waits for a send that is merely slow.
func TestALookWaitsForASendThatIsSlow(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
	b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "a", "239.1.1.1:5000"))
	b.send.SetLookPatience(time.Hour)
	h := newHang(n.LastSocket())
	h.armed.Store(true)
	var handled sync.WaitGroup
	handled.Go(func() { b.send.Handle([]session.Message{fake.Message("a", "1", 1)}) })
	<-h.hangs
	n.Set()
	time.AfterFunc(10*time.Millisecond, func() { close(h.released) })
	b.reconcile(t.Context())
	if r := b.Status().Rules[0]; r.State != account.StatePending || b.send.Hangs() {
		t.Errorf("the rule is %s (%s), hangs: %v", r.State, r.Reason, b.send.Hangs())
	}
	handled.Wait()
}

// What was seen to wait is no longer told once it has left, though the binding is sending each
// time it is looked at.
func TestWhatHasLeftIsNotToldToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fake.Network{Present: []multicast.Interface{fake.Iso0}}
		b := newRig(t, n, fake.Plenty, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
		h := newHang(n.LastSocket())
		n.LastSocket().Allow(0, nil)
		<-n.LastSocket().Free
		b.send.Handle([]session.Message{fake.Message("t", "1", 1)})
		time.Sleep(time.Second)
		b.send.Handle([]session.Message{fake.Message("t", "2", 1)})
		synctest.Wait()
		if oldest, _, _ := b.send.Blockers(); time.Since(oldest.Since) != time.Second {
			t.Errorf("%+v waits", oldest)
		}
		n.LastSocket().Allow(1, nil)
		synctest.Wait()
		h.armed.Store(true)
		n.LastSocket().Allow(1, nil)
		synctest.Wait()
		if oldest, largest, n := b.send.Blockers(); n != 0 {
			t.Errorf("%+v and %+v wait", oldest, largest)
		}
		close(h.released)
	})
}

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
		b.send.Owe()
		b.send.RequestRedelivery(now, func() {})
		b.send.SpillAgain()
		b.send.FindStuck(now)
		b.send.Inspect()
		b.send.ExpireOld()
		b.send.WakeAll()
		b.send.Pending()
		if !b.send.Owes() {
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
