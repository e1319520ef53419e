package loopguard

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// OwnAddresses are the addresses and ports that our datagrams leave from.
type OwnAddresses struct {
	now atomic.Pointer[map[netip.AddrPort]int] // never changed, only replaced

	mu sync.Mutex
}

// Has reports whether a datagram from an address is our own.
func (o *OwnAddresses) Has(a netip.AddrPort) bool {
	known := o.now.Load()
	return known != nil && (*known)[a] > 0
}

// ownLinger is how long the address of a closed socket stays known: for as long
// as datagrams of its own may lie in a receive buffer.
const ownLinger = 10 * time.Second

// Add adds the address of a socket that is open now.
func (o *OwnAddresses) Add(a netip.AddrPort) { o.change(a, 1) }

// Remove removes that of a socket that is closed, after ownLinger.
func (o *OwnAddresses) Remove(a netip.AddrPort) {
	time.AfterFunc(ownLinger, func() { o.change(a, -1) })
}

// change counts, for a socket may be reopened on the same port.
func (o *OwnAddresses) change(a netip.AddrPort, by int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := make(map[netip.AddrPort]int)
	if known := o.now.Load(); known != nil {
		maps.Copy(next, *known)
	}
	if next[a] += by; next[a] == 0 {
		delete(next, a)
	}
	o.now.Store(&next)
}
