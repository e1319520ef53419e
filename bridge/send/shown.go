package send

import (
	"net/netip"
	"sync"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
)

// What a binding shows to those who look at it. Its mu is held while the kernel sends, and the
// kernel may not return: the status page, and the look at the interfaces, must go on without it.

// shown is what is read without the binding's mu. It is written under that and its own, so that
// the holder of either may read it; its own is held for moments, and nothing is called under it.
type shown struct {
	mu sync.Mutex

	state  account.State
	reason string
	since  time.Time
	probe  multicast.Probe
	on     string         // the socket's interface, and
	from   netip.AddrPort // its address; zero: there is none

	stuck      string // why nothing leaves, once that has lasted; "": something does
	stuckSince time.Time

	// What the socket reports only when it is asked (inspect.go).
	unclaimed   uint64 // what has come to the port of any socket
	unsegmented string // why datagrams are given to the kernel one by one; "" is in runs where they can be

	// What was seen of the queue (blocker.go).
	oldest, largest Blocker

	hangs time.Time // a look has waited in vain for mu; zero: none does. Under its own mu alone
}

// show changes what is shown. Callers hold the binding's mu.
func (s *shown) show(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// lookPatience is how long a look at the interfaces waits for a binding that is sending: longer
// than a send takes, however much there is to be sent.
const lookPatience = 2 * time.Second

// lockForLook locks mu as soon as the send that is under way is over. It reports false if that
// takes too long: then the look goes on without this binding, and another one is asked for once
// the kernel has returned.
func (b *binding) lockForLook() bool {
	if b.mu.TryLock() {
		return true
	}
	if b.hanging() {
		return false // who waits for it asks for a look
	}
	began := time.Now()
	locked, late := make(chan struct{}), make(chan struct{})
	go func() {
		b.mu.Lock()
		select {
		case locked <- struct{}{}:
		case <-late:
			on := b.setHangs(time.Time{})
			b.log.Warn("the kernel has returned from a send", "interface", on, "after", time.Since(began).Round(time.Millisecond))
			b.mu.Unlock()
			b.lookNow()
		}
	}()
	patience := time.NewTimer(b.path.lookPatience)
	defer patience.Stop()
	select {
	case <-locked:
		return true
	case <-patience.C:
	}
	on := b.setHangs(began)
	b.log.Error("the kernel does not return from a send", "interface", on)
	close(late)
	return false
}

// setHangs notes since when a look has waited in vain, and says on which interface.
func (b *binding) setHangs(since time.Time) (on string) {
	b.shown.mu.Lock()
	defer b.shown.mu.Unlock()
	b.hangs = since
	return b.on
}

// hanging reports whether a look has waited in vain for the binding, and it is still sending.
func (b *binding) hanging() bool {
	b.shown.mu.Lock()
	defer b.shown.mu.Unlock()
	return !b.hangs.IsZero()
}
