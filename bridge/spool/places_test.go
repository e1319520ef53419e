package spool

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// What places say of a queue is what was entered, less what was removed, from wherever one reads on.
func TestPlacesAreThoseThatWereEntered(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var p places
		var want []uint32
		next := uint32(0)
		for range 300 {
			if len(want) > 0 && r.IntN(3) == 0 {
				p.removeFirst()
				want = want[1:]
				continue
			}
			next += uint32(r.IntN(1 << r.IntN(24)))
			p.add(next)
			want = append(want, next)
		}
		var got []uint32
		for at := (position{}); at.n < p.n; {
			most := len(got) + 1 + r.IntN(20)
			for place := range p.from(&at) {
				if got = append(got, place); len(got) >= most {
					break
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	var p places
	for _, at := range []uint32{0, math.MaxUint32} { // the ends of a segment of 4 GiB
		p.add(at)
	}
	if p.removeFirst(); p.first != math.MaxUint32 || p.n != 1 {
		t.Errorf("at %d, %d of them", p.first, p.n)
	}
}

// Of the millions of short records that a full spool may have each takes two bytes of memory where
// the rules are not too many.
func TestPlacesOfShortRecordsTakeLittleMemory(t *testing.T) {
	const records, apart = 100_000, 1000
	var p places
	for i := range records {
		p.add(uint32(i * apart))
	}
	if took := cap(p.distances); took > 2*records*3/2 {
		t.Errorf("%d records take %d bytes", records, took)
	}
}
