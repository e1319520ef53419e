package spool

// A slab is memory that the records of a batch lie in, one after the other. Slabs are of one
// size and are used again: memory that grows with what waits would be taken twice over while
// it grows, and be garbage afterwards. A record longer than a quarter of one has memory of its
// own, so that a slab is filled to three quarters at least.
const slabSize = 1 << 20

// maxSlabs is how many are kept for those to come, and keptSlabs while nothing is to be
// written: one for the batch that is written, and one for the next.
const (
	maxSlabs  = pendingMax/slabSize + 2
	keptSlabs = 2
)

// slabs are those that no batch has. The spool's mutex guards them.
type slabs struct{ free [][]byte }

func (s *slabs) get() []byte {
	n := len(s.free)
	if n == 0 {
		return make([]byte, 0, slabSize)
	}
	slab := s.free[n-1]
	s.free[n-1] = nil
	s.free = s.free[:n-1]
	return slab
}

// put takes back those of a batch.
func (s *slabs) put(slabs [][]byte) {
	for _, slab := range slabs {
		if len(s.free) < maxSlabs {
			s.free = append(s.free, slab[:0])
		}
	}
}

// trim lets go of those that are only needed while much is written.
func (s *slabs) trim() {
	if len(s.free) > keptSlabs {
		clear(s.free[keptSlabs:])
		s.free = s.free[:keptSlabs]
	}
}

// room is memory for a record of so many bytes, in the last slab of a batch, or in one more.
func (b *batch) room(n int, from *slabs) []byte {
	if n > slabSize/4 {
		return make([]byte, 0, n)
	}
	last := len(b.slabs) - 1
	if last < 0 || cap(b.slabs[last])-len(b.slabs[last]) < n {
		b.slabs = append(b.slabs, from.get())
		last++
	}
	slab := b.slabs[last]
	b.slabs[last] = slab[:len(slab)+n]
	return slab[len(slab) : len(slab) : len(slab)+n]
}
