package multicast

import (
	"sync"

	"github.com/vishvananda/netlink"
)

// Idle reports whether nothing waits to leave the interface, nor those that it sends
// through, for all that the kernel tells: a datagram that is refused for want of room
// (ErrNoBuffer) all the same is refused for another reason, and always will be. It is
// longer than a shaper's burst or queue, or a filter of tc drops it.
//
// While another sender asks it is false: asking takes the longer the more interfaces
// there are, and all of them may be full at a time.
func (s *Sender) Idle() bool {
	if !askingIdle.TryLock() {
		return false
	}
	defer askingIdle.Unlock()
	waiting, err := dump(qdiscs)
	if err != nil {
		return false
	}
	links, err := dump(netlink.LinkList)
	return err == nil && idle(s.source.Index, waiting, through(links), deepest)
}

var askingIdle sync.Mutex

func idle(index int, waiting []qdisc, below map[int][]int, depth int) bool {
	for _, q := range waiting {
		if q.index == index && q.backlog > 0 {
			return false
		}
	}
	for _, lower := range below[index] {
		if depth == 0 || !idle(lower, waiting, below, depth-1) {
			return false
		}
	}
	return true
}
