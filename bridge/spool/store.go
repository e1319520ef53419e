package spool

import (
	"errors"
	"io/fs"
	"syscall"
)

// Segments become so large, for a spool of max bytes.
func segmentSize(max int64) int64 {
	return min(maxSegment, (max/32+minSegment-1)/minSegment*minSegment)
}

const (
	minSegment = 256 << 10
	maxSegment = 64 << 20
)

// A store is what lies in the folder: the segments, in which all queues' records are one
// after the other as they came; and the states. All is written by one goroutine.
type store struct {
	dir    string
	files  *files
	folder *file
	lock   *file
	states *states
	most   int64 // how large segments become

	segments []*segment // by age; the spool's mutex is held to change it
	active   bool       // the last one can be appended to
	after    uint64     // the id of a new one is larger
	stray    bool       // there are files of records that count as removed, and no segments
	queues   map[*Queue]*diskQueue
	first    uint64                // the least number for a record of a queue that is new
	away     error                 // the disk is gone for this reason, and all is closed
	same     bool                  // as one that was open before
	before   map[*Queue]*diskQueue // what was known of that

	found findings
}

// A diskQueue is what is in a store of one queue.
type diskQueue struct {
	segments []*segment // those with records that are not removed, by age
	next     uint64     // the number after the last record
	last     uint64     // the segment that this one is in: as long as that is there, removed ones are
	head     uint64     // the number of the first that is not removed
	noted    uint64     // head as the states have it
	bytes    int64      // what the records counted that were found at the opening

	held    bool   // what was removed last is held
	settled uint64 // what head was before that
}

// safeHead is what may be noted as head.
func (d *diskQueue) safeHead() uint64 {
	if d.held {
		return d.settled
	}
	return d.head
}

// in notes that there are records in a segment.
func (d *diskQueue) in(g *segment) {
	if n := len(d.segments); n == 0 || d.segments[n-1] != g {
		d.segments = append(d.segments, g)
	}
}

func newDiskQueue(head uint64) *diskQueue { return &diskQueue{head: head, next: head, noted: head} }

// A cursor is a place in the index of a queue.
type cursor struct {
	segment int
	at      position
}

// some are places in one segment of the next records of a queue, at most so many, and goes
// on to the next ones. At the end there is no segment, but the number that comes next.
// Callers hold the spool's mutex.
func (s *store) some(q *Queue, c *cursor, most int) (g *segment, places []uint32, next uint64) {
	d := s.queues[q]
	if d == nil {
		return nil, nil, 0
	}
	for ; c.segment < len(d.segments); c.segment, c.at = c.segment+1, (position{}) {
		g := d.segments[c.segment]
		index := g.index[q]
		if c.at.n == index.n {
			continue
		}
		places = make([]uint32, 0, min(int(index.n-c.at.n), most))
		for at := range index.from(&c.at) {
			if places = append(places, at); len(places) == most {
				break
			}
		}
		return g, places, 0
	}
	return nil, nil, d.next
}

// remove removes the first record of a queue, unless it is on its way to the disk yet.
// Callers hold the spool's mutex.
func (s *store) remove(q *Queue, p place) {
	d := s.queues[q]
	if d == nil || p.number >= d.next || len(d.segments) == 0 {
		return
	}
	g := d.segments[0]
	index := g.index[q]
	index.removeFirst()
	g.used -= int64(p.length)
	if g.live--; g.live == 0 {
		g.used = 0 // nobody knows how long those were that cannot be read
	}
	if index.n > 0 {
		g.index[q] = index
		return
	}
	delete(g.index, q)
	d.segments = d.segments[1:]
}

// allQueues is a state that says all. Queues of which nothing is there any more, not even
// what was removed, are forgotten; but not those whose records are gone, and nobody has been told.
// Callers hold the spool's mutex.
func (s *store) allQueues(m mark) []byte {
	b := stateOf(m, s.first)
	for q, d := range s.queues {
		if !s.stray && len(d.segments) == 0 && d.safeHead() >= d.next && (len(s.segments) == 0 || d.last < s.segments[0].id) {
			delete(s.queues, q)
			continue
		}
		b = appendQueue(b, q.name, span{d.safeHead(), d.next})
	}
	return b
}

// closeOld closes segments for which there are too many.
func (s *store) closeOld() {
	for _, g := range s.segments[:max(0, len(s.segments)-maxOpen)] {
		g.close()
	}
}

// errMoved says what keeps the store from being used any more.
var errMoved = errors.New("the folder that is open is not the one at its path any more: it was removed or renamed, or something is mounted over it")

// gone reports whether an error says that there is nothing at a path.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// inPlace finds out whether the folder is still the one at its path. What is written to
// it if not is gone when the program ends.
func (s *store) inPlace() error {
	switch {
	case s.away != nil:
		return s.away
	case !s.files.samePath(s.folder, s.dir):
		return errMoved
	}
	return nil
}

// complete finds out whether all is there that is needed.
func (s *store) complete() error {
	for _, g := range s.segments {
		if !g.inPlace() {
			return errMoved
		}
	}
	if !s.states.inPlace() || !s.files.sameFile(s.lock, s.lock.Name()) {
		return errMoved
	}
	return nil
}

// disk is what the segments take, and how much of that are records not removed. Callers
// hold the spool's mutex.
func (s *store) disk() (size, used int64) {
	for _, g := range s.segments {
		size, used = size+g.size, used+g.used
	}
	return size, used
}
