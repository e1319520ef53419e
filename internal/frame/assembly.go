package frame

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// maxPending is how many datagrams are waited for at a time. Each has 64 KiB at most.
	maxPending = 64

	// maxParts is how many fragments of a datagram are kept: of 65,535 bytes over an MTU of 576
	// bytes there are 119.
	maxParts = 256

	// fragmentPatience is how long fragments are waited for (RFC 8200, 4.5).
	fragmentPatience = 60 * time.Second
)

// fragmentKey tells which fragments belong together (RFC 791, 3.2; RFC 8200, 4.5).
type fragmentKey struct {
	source, to netip.Addr
	protocol   uint8
	id         uint32
}

type part struct {
	offset int
	bytes  []byte
}

// partial is a datagram of which fragments have come.
type partial struct {
	began time.Time
	parts []part
	size  int // of all of it; 0: the last fragment has not come
	have  int
}

// assembly puts fragments together.
type assembly struct {
	pending map[fragmentKey]*partial
	lost    int
}

// add takes a fragment, and returns the whole if it was the last that was missing. A
// datagram whose fragments overlap is given up (RFC 5722, 4), but one that came twice is not.
func (a *assembly) add(key fragmentKey, offset int, more bool, b []byte, at time.Time) []byte {
	p := a.pending[key]
	if p != nil && at.Sub(p.began) > fragmentPatience {
		a.drop(key)
		p = nil
	}
	if p == nil {
		if len(a.pending) >= maxPending {
			a.dropOldest()
		}
		if a.pending == nil {
			a.pending = make(map[fragmentKey]*partial)
		}
		p = &partial{began: at}
		a.pending[key] = p
	}
	end := offset + len(b)
	i, again := slices.BinarySearchFunc(p.parts, offset, func(p part, offset int) int { return p.offset - offset })
	switch {
	case again && len(p.parts[i].bytes) == len(b):
		return nil // a copy of it
	case again, end > 65535, more && len(b)%8 != 0, len(b) == 0, len(p.parts) == maxParts,
		!more && p.size != 0 && p.size != end, p.size != 0 && end > p.size,
		i > 0 && p.parts[i-1].offset+len(p.parts[i-1].bytes) > offset, i < len(p.parts) && end > p.parts[i].offset:
		a.drop(key)
		return nil
	}
	if !more {
		p.size = end
	}
	p.parts = slices.Insert(p.parts, i, part{offset, slices.Clone(b)})
	p.have += len(b)
	if last := p.parts[len(p.parts)-1]; p.size != 0 && last.offset+len(last.bytes) > p.size {
		a.drop(key)
		return nil
	}
	if p.size == 0 || p.have != p.size {
		return nil
	}
	whole := make([]byte, 0, p.size)
	for _, part := range p.parts {
		whole = append(whole, part.bytes...)
	}
	delete(a.pending, key)
	return whole
}

func (a *assembly) drop(key fragmentKey) {
	delete(a.pending, key)
	a.lost++
}

func (a *assembly) dropOldest() {
	var oldest fragmentKey
	var began time.Time
	first := true
	for key, p := range a.pending {
		if first || p.began.Before(began) {
			oldest, began, first = key, p.began, false
		}
	}
	a.drop(oldest)
}
