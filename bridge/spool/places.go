package spool

import (
	"encoding/binary"
	"iter"
)

// places are where the records of one queue lie in a segment, in order, but for those that are
// removed. A full spool may have millions of short ones, so of each but the first only the
// distance from the one before is kept: one to three bytes, as a rule.
type places struct {
	first, last uint32 // valid unless there are none
	n           uint32
	distances   []byte // as unsigned varints, from the first on
}

// add appends one, which lies behind all others.
func (p *places) add(at uint32) {
	if p.n == 0 {
		p.first = at
	} else {
		p.distances = binary.AppendUvarint(p.distances, uint64(at-p.last))
	}
	p.last = at
	p.n++
}

// removeFirst removes the first one.
func (p *places) removeFirst() {
	if p.n--; p.n == 0 {
		*p = places{}
		return
	}
	distance, length := binary.Uvarint(p.distances)
	p.first += uint32(distance)
	p.distances = p.distances[length:]
}

// A position is how far one has got in places: how many were passed, the last of them, and the
// bytes of the distances up to it. The zero value is before the first.
type position struct {
	n, at  uint32
	length int
}

// from goes on behind what s has passed, and takes note in it.
func (p *places) from(s *position) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for s.n < p.n {
			if s.n == 0 {
				s.at = p.first
			} else {
				distance, length := binary.Uvarint(p.distances[s.length:])
				s.at += uint32(distance)
				s.length += length
			}
			s.n++
			if !yield(s.at) {
				return
			}
		}
	}
}
