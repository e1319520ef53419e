package spill

import (
	"cmp"
	"slices"
	"time"

	"topicast/bridge/spool"
)

// LowWater is how few messages on disk are left when the rest that comes waits for them in
// memory: else a steady stream would go by the disk for ever.
const LowWater = 1024

// A Queue is what one rule has on disk, oldest first.
type Queue struct {
	of   *Queues
	wake func()

	// Under its mu.
	rule   Rule
	pieces []*piece // in the order in which they are read
	own    *piece   // the last of them: what is appended goes there; nil: not found yet
	beside *piece   // Aside
	same   bool     // the rule was the same before the last Assign
	gone   bool     // no rule uses it any more; what it has in memory still may be appended
	twice  int64    // bytes of it that are just there twice
	latest latest
}

// Append adds a copy of a message to the end, without waiting for the disk. stored is told
// when it is safe, or why it never will be ([spool.Queue.Append]). It is false, and nothing
// has happened, if the disk takes no more just now.
func (q *Queue) Append(r spool.Record, stored func(error)) bool {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	if q.own == nil {
		q.claimOwn()
	}
	own := q.own
	if !q.hasRoom(&r) {
		return own.Refuse(spool.ErrFull, stored)
	}
	came, ok := own.Append(r, func(err error) {
		stored(err)
		q.wakeReader(own)
	})
	if ok && came != 0 && q.rule.Latest { // else it is refused
		q.noteLatest(r.Topic, came)
	}
	return ok
}

// wakeReader wakes the queue that reads a piece by now, if it is not this one.
func (q *Queue) wakeReader(own *piece) {
	if reader := own.of.Load(); reader != nil && reader != q {
		reader.wake()
	}
}

// Len is how many messages there are, with those on their way to the disk.
func (q *Queue) Len() (n int) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	for _, p := range q.pieces {
		n += p.Len()
	}
	return n
}

// Bytes is what they take.
func (q *Queue) Bytes() (n int64) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	for _, p := range q.pieces {
		n += p.Bytes()
	}
	return n
}

// A Batch is the front of a queue, while it is being passed on.
type Batch struct {
	Records []spool.Record
	Lost    int // what was in front of them, and is gone: too old, or damaged; it is counted

	queue *Queue
	piece *piece // nil: given back
}

// Front reads the oldest messages that are on disk. Where there are some nobody else reads
// them until Remove is called.
func (q *Queue) Front(into []spool.Record) Batch {
	p, rule := q.head()
	if p == nil {
		return Batch{}
	}
	p.reading.Lock()
	return q.read(p, rule, into)
}

// TryFront is Front where nobody else reads just now; it reports whether that is so.
func (q *Queue) TryFront(into []spool.Record) (Batch, bool) {
	p, rule := q.head()
	if p == nil {
		return Batch{}, true
	}
	if !p.reading.TryLock() {
		return Batch{}, false
	}
	return q.read(p, rule, into), true
}

// read reads the front of a piece, whose reading it holds.
func (q *Queue) read(p *piece, rule Rule, into []spool.Record) Batch {
	n, lost := p.Front(into, rule.MaxAge)
	rule.Losses.CountSpoolLosses(rule.Name, lost.Expired, lost.Damaged)
	b := Batch{Records: into[:n], Lost: lost.Expired + lost.Damaged, queue: q, piece: p}
	if n == 0 {
		b.give(0)
	}
	return b
}

// Remove removes the first n, which are passed on or lost, and lets others read the rest.
func (b *Batch) Remove(n int) {
	if b.piece == nil {
		return
	}
	b.queue.passed(b.Records[:n])
	b.give(n)
}

// give gives back what has been read, but for the first n.
func (b *Batch) give(n int) {
	b.piece.Remove(n)
	b.piece.reading.Unlock()
	b.piece = nil
}

// head is the piece to read from: the first with something in it. Those before are let go.
func (q *Queue) head() (*piece, Rule) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	for len(q.pieces) > 0 && q.pieces[0].Len() == 0 {
		if q.pieces[0] == q.own {
			q.own = nil
		}
		q.pieces[0].of.Store(nil)
		q.pieces = slices.Delete(q.pieces, 0, 1)
	}
	if len(q.pieces) == 0 {
		q.forgetLatest()
		q.latest.all = true
		return nil, q.rule
	}
	return q.pieces[0], q.rule
}

// Expire drops what is too old in front, where nobody passes it on.
func (q *Queue) Expire() {
	if p, rule := q.head(); p != nil {
		lost := p.expire(rule.MaxAge)
		rule.Losses.CountSpoolLosses(rule.Name, lost.Expired, lost.Damaged)
	}
}

// Aside is a queue in the spool that this process writes and does not pass on. The next one
// finds it, of the kind that is read first.
func (q *Queue) Aside() *spool.Queue {
	s := q.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := q.beside; b != nil && b.Len() == 0 && (b.rule != q.rule.Name || b.is != q.rule.Is) {
		b.of.Store(nil) // it is of what the rule was before
		q.beside = nil
	}
	if q.beside == nil {
		l := s.uniqueLabel(label{rule: q.rule.Name, kind: s.o.Kinds[0], is: q.rule.Is})
		q.beside = s.piece(l.String(), l)
		q.beside.of.Store(q)
	}
	return q.beside.Queue
}

// release lets go of what the queue reads, as its rule is gone. Callers hold the Queues' mu.
func (q *Queue) release() {
	for _, p := range q.pieces {
		p.of.Store(nil)
		p.owner = Rule{Name: q.rule.Name, Is: q.rule.Is}
	}
	q.pieces = nil
	q.forgetLatest()
}

// sort puts the pieces in the order in which their messages came. Callers hold the Queues'
// mu.
func (q *Queue) sort() {
	if len(q.pieces) < 2 {
		return
	}
	type place struct {
		kind int
		came time.Duration
	}
	places := make(map[*piece]place, len(q.pieces))
	for _, p := range q.pieces {
		places[p] = place{slices.Index(q.of.o.Kinds, p.kind), p.came(&q.rule)}
	}
	slices.SortStableFunc(q.pieces, func(a, b *piece) int {
		return cmp.Or(cmp.Compare(places[a].kind, places[b].kind), cmp.Compare(places[a].came, places[b].came))
	})
}

// claimOwn finds the piece that what is appended goes to: one that says what the rule is now,
// behind all others. Callers hold the Queues' mu.
func (q *Queue) claimOwn() {
	s := q.of
	l := label{rule: q.rule.Name, kind: s.o.Kinds[len(s.o.Kinds)-1], is: q.rule.Is}
	if n := len(q.pieces); n > 0 {
		last := q.pieces[n-1]
		if l.unique = last.unique; last.label == l {
			q.own = last
			return
		}
		l.unique = ""
	} else {
		q.latest.all = true
	}
	q.own = s.piece(l.String(), l)
	if q.gone {
		return
	}
	if q.own.of.Load() != nil { // it stands farther ahead, or another rule has it
		l = s.uniqueLabel(l)
		q.own = s.piece(l.String(), l)
	}
	q.own.of.Store(q)
	q.pieces = append(q.pieces, q.own)
}
