package lastsent

import (
	"cmp"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// When there is no place for one more entry, some of the rules that have the most make
// places. So a rule whose topics are made up without end has its own forgotten, and none of
// those of others, as long as these have fewer: each finds its part.

// owner stands for a rule, by its name. It stands in the flags of an entry, above the flags.
type owner uint32

// nobody owns what was read from the file until a rule asks for it.
const nobody owner = 0

const ownerShift = 3 // above detached

func ownerOf(rule string) owner {
	return max(owner(xxhash.Sum64String(rule)>>(32+ownerShift)), 1)
}

func (e *Entry) owner() owner { return owner(e.flags.Load() >> ownerShift) }

// claimTime is how long after the start what nobody has asked for is still taken for that of a
// rule: the broker hands out what it retains at the first connection. What is left then is of
// topics and rules that are gone, and goes first.
const claimTime = 10 * time.Minute

// atOnce is the part of all entries that is forgotten at once: each time costs a look at all.
const atOnce = 64

// claim says whose an entry is. Callers hold mu.
func (s *Store) claim(e *Entry, of owner) {
	if e.owner() != nobody {
		return
	}
	e.flags.Or(uint32(of) << ownerShift)
	s.counts[of]++
	s.disown(nobody)
}

// disown counts one entry less. Callers hold mu.
func (s *Store) disown(of owner) {
	if s.counts[of]--; s.counts[of] == 0 {
		delete(s.counts, of)
	}
}

// evict forgets some entries. Callers hold mu.
func (s *Store) evict() {
	left := max(s.options.max/atOnce, 1)
	goes := func(of owner) bool { return of == nobody }
	if unclaimed := s.counts[nobody]; unclaimed == 0 || unclaimed < len(s.entries) && time.Since(s.opened) < s.options.claimTime {
		level := s.level(left)
		goes = func(of owner) bool { return of != nobody && s.counts[of] > level }
	}
	for key, e := range s.entries {
		of := e.owner()
		if !goes(of) {
			continue
		}
		delete(s.entries, key)
		s.disown(of)
		e.flags.Or(detached) // whoever has it still keeps it in memory
		switch {
		case s.path == "":
		case s.late.Load(): // a list would grow while the disk hangs
			s.reset = true
		case e.flags.Or(forgetting)&forgetting == 0: // whether or not it is in the file: it may just come there
			s.forgets = append(s.forgets, e)
		}
		if left--; left == 0 {
			break
		}
	}
	s.changed = slices.DeleteFunc(s.changed, func(e *Entry) bool { return e.flags.Load()&detached != 0 })
}

// level is how many entries each rule keeps at least, so that there are n to forget of those that
// have more; or fewer than n, where these would have to give up more than half. Callers
// hold mu.
func (s *Store) level(n int) int {
	counts := make([]int, 0, len(s.counts))
	for of, count := range s.counts {
		if of != nobody {
			counts = append(counts, count)
		}
	}
	slices.SortFunc(counts, func(a, b int) int { return cmp.Compare(b, a) })
	level, sum := 0, 0
	for i, count := range counts {
		next := 0
		if i+1 < len(counts) {
			next = counts[i+1]
		}
		if sum += count; sum-(i+1)*next >= n {
			level = (sum - n) / (i + 1)
			break
		}
	}
	return max(level, counts[0]/2)
}
