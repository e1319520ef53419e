package session

import "math"

// What the broker does not take at once waits, and what waits is of many. In one queue a
// rule that has thousands of messages waiting would have the others wait behind them, for
// as long as the broker needs for all of them. So only a little stands in the ring ahead of
// the broker. The rest waits in a queue for each [Publication.Queue], and those take turns,
// each with the same number of bytes (deficit round robin: Shreedhar and Varghese, 1996).
// While the broker keeps up nothing waits there, and the ring is all there is.

// ringAhead and bytesAhead are how many messages, and bytes, stand in the ring beyond those
// that were written before others wait for their turn. It is as much as one write takes.
const (
	ringAhead  = 1024
	bytesAhead = 128 << 10
)

// turnBytes is what a queue may have more in the ring with each turn.
const turnBytes = 4 << 10

// turns are the queues of a flow.
type turns struct {
	queues map[any]*turnQueue // those in which something waits
	order  []*turnQueue       // the same, in the order of their turns
	next   int                // in order: whose turn it is
	len    int                // messages in all
	last   *turnQueue         // that of the last message: often the next one's too
	spare  []*queuePiece      // empty ones, maxSpare at most
}

// A queuePiece holds messages that follow each other in a queue. Thousands of queues have some at
// a time, and each longer one than before, now and then. In arrays that double, and stay until
// the queue is empty, they would take up to four times what waits.
type queuePiece [16]queuedMessage

// maxSpare is how many empty pieces are kept for the next message that waits.
const maxSpare = 128

// turnQueue is what waits of one Publication.Queue.
type turnQueue struct {
	key     any
	pieces  []*queuePiece // in order; the one in front lies in the first
	first   uint64        // number of the one in front
	end     uint64        // and of the next one to come
	bytes   int           // of their frames
	slab    *slab         // that the next frame goes to; nil at first
	deficit int           // bytes that it may have in the ring before the turn is over

	// See rescue.go.
	copied, limit uint64 // the number up to which there are copies of them, and are to be
	looks         looks
}

func (q *turnQueue) at(n uint64) *queuedMessage {
	const length = uint64(len(queuePiece{}))
	return &q.pieces[n/length-q.first/length][n%length]
}

// enter takes a publication in: into the ring, or behind others that wait for their turn. It
// returns where it stands until the next change, and its number; notYet if it has none.
func (f *flow) enter(p *Publication, as *form) (m *queuedMessage, n uint64) {
	if f.turns.len == 0 && !f.ahead() {
		message := f.message(p, as)
		f.push(&message)
		return f.at(f.tail - 1), f.tail - 1
	}
	q := f.turns.of(p.Queue)
	message := f.messageIn(f.slabFor(&q.slab, publishSize(p, as), q.slabSize()), p, as)
	f.turns.push(q, &message)
	return q.at(q.end - 1), notYet
}

// slabSize is how large the next slab of a queue is. What waits shares none with other queues, since it
// would keep it from them long after their messages have gone; and there is at most one that
// is not full, and one that is mostly read, so that they cost little beside what waits in the others.
func (q *turnQueue) slabSize() int { return min(q.bytes/4, slabSize) }

// notYet is a number that no message has.
const notYet = math.MaxUint64

// ahead reports whether enough stands in the ring ahead of the broker.
func (f *flow) ahead() bool {
	return f.tail-f.written >= ringAhead || f.unwritten >= bytesAhead
}

// of gives the queue with a key.
func (t *turns) of(key any) *turnQueue {
	q := t.last
	if q == nil || q.key != key {
		if q = t.queues[key]; q == nil {
			q = t.add(key)
		}
		t.last = q
	}
	return q
}

// push appends a message, which it copies, to a queue.
func (t *turns) push(q *turnQueue, m *queuedMessage) {
	const length = uint64(len(queuePiece{}))
	if q.end/length-q.first/length == uint64(len(q.pieces)) {
		q.pieces = append(q.pieces, t.newPiece())
	}
	*q.at(q.end) = *m
	q.end++
	q.bytes += len(m.frame)
	t.len++
}

// add begins a queue. Its turn is after those of all others.
func (t *turns) add(key any) *turnQueue {
	if t.queues == nil {
		t.queues = make(map[any]*turnQueue)
	}
	q := &turnQueue{key: key}
	t.queues[key] = q
	t.order = append(t.order, nil)
	copy(t.order[t.next+1:], t.order[t.next:])
	t.order[t.next] = q
	t.next++
	return q
}

// newPiece gives an empty piece.
func (t *turns) newPiece() (p *queuePiece) {
	last := len(t.spare) - 1
	if last < 0 {
		return new(queuePiece)
	}
	p, t.spare = t.spare[last], t.spare[:last]
	return p
}

// freeFirst takes the first piece from a queue, in which nothing is left.
func (t *turns) freeFirst(q *turnQueue) {
	if len(t.spare) < maxSpare {
		t.spare = append(t.spare, q.pieces[0])
	}
	q.pieces[0] = nil
	q.pieces = q.pieces[1:]
}

// popped forgets the message in front of a queue, which ends with its last one.
func (t *turns) popped(q *turnQueue) {
	m := q.at(q.first)
	q.bytes -= len(m.frame)
	*m = queuedMessage{} // it is to keep nothing alive
	if q.first++; q.first%uint64(len(queuePiece{})) == 0 {
		t.freeFirst(q)
	}
	q.copied = max(q.copied, q.first)
	t.len--
}

// endQueue ends the queue whose turn it is, which is empty.
func (f *flow) endQueue() {
	t := &f.turns
	q := t.order[t.next]
	f.close(&q.slab)
	if len(q.pieces) > 0 {
		t.freeFirst(q)
	}
	if t.last == q {
		t.last = nil
	}
	delete(t.queues, q.key)
	copy(t.order[t.next:], t.order[t.next+1:])
	t.order[len(t.order)-1] = nil
	t.order = t.order[:len(t.order)-1]
}

// admit has what waits for its turn follow into the ring, as far as that has room. It is
// called after each change that may have made some.
func (f *flow) admit() {
	t := &f.turns
	for t.len > 0 {
		if t.next >= len(t.order) {
			t.next = 0
		}
		q := t.order[t.next]
		if q.deficit <= 0 {
			q.deficit += turnBytes
		}
		for q.deficit > 0 && q.first < q.end {
			if f.ahead() {
				return // the turn goes on then
			}
			m := q.at(q.first)
			q.deficit -= len(m.frame)
			f.push(m)
			t.popped(q)
		}
		if q.first == q.end {
			f.endQueue()
		} else {
			t.next++
		}
	}
}

// reform has all frames be of another form. What the broker does not take for its size is given up.
func (f *flow) reform(to *form) {
	f.unwritten = 0
	for n := f.head; n < f.tail; n++ {
		m := f.at(n)
		f.reformOne(m, to, &f.slab, slabSize)
		if n >= f.written {
			f.unwritten += len(m.frame)
		}
	}
	for _, q := range f.turns.order {
		of := q.slabSize()
		q.bytes = 0
		for n := q.first; n < q.end; n++ {
			f.reformOne(q.at(n), to, &q.slab, of)
			q.bytes += len(q.at(n).frame)
		}
	}
}

func (f *flow) reformOne(m *queuedMessage, to *form, filling **slab, of int) {
	if m.frame == nil {
		return // it is acknowledged
	}
	f.ring.reform(m, to, filling, of)
	if to.maxPacket > 0 && len(m.frame) > to.maxPacket && m.state == unanswered {
		m.state, m.code = notTaken, reasonTooLarge
	}
}
