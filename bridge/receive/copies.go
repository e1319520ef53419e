package receive

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/bridge/spool"
)

// Copies on disk of what the session has and the broker has not acknowledged, so that
// a kill or a power cut loses none of it. The way of one:
//
//	1 Rescue      the session asks for a copy (session/rescue.go): it comes to a queue
//	              of this process, aside from what is published
//	2 stored      it is on disk
//	3 Published   the broker has the message, which the session has published as ever
//	4 trim        the pump lets the disk forget the copy
//
// While this process lives nobody publishes a copy. The next process takes it for what the
// broker never acknowledged to an earlier one, and publishes it first. Between 3 and 4 a
// kill leaves a copy of what the broker has: it gets that twice.
type copies struct {
	spool   *publishSpool
	origins [2]copyOrigin // of the messages of QoS 1, and of QoS 2
	due     atomic.Bool   // there may be some to trim

	// Held for moments: the session holds a lock of its own when it asks for a copy,
	// and another one when it reports what became of a message.
	mu   sync.Mutex
	list []*copied // in the order of the queue
	kept int       // how many of them are in the queue
	gone bool      // the queue has lost them; another one has taken the place of these
}

// copied is one message of which there is a copy.
type copied struct {
	came    time.Duration // says which record of the queue it is
	size    int64         // what it counts in the spool
	inside  bool          // in the queue
	stored  bool          // on disk
	err     error         // why it is not in the queue
	over    bool          // the broker has the message, or never will
	keeping bool          // it never will, and who keeps such messages does not have this one on disk yet
	stopped bool          // the session has ended before
}

// done reports whether the copy is not needed any more.
func (e *copied) done() bool { return e.over && !e.keeping }

// copyOrigin is the Origin of messages of one quality of service of which there are
// copies. The session reports them in their order.
type copyOrigin struct {
	*copies
	waiting []*copied // those that it has not reported yet
}

// rescue keeps a copy of a message of a rule, whose Origin is from.
func (s *publishSpool) rescue(m *session.Publication, from session.Origin) (session.Origin, bool) {
	c := s.copies.Load()
	if c == nil {
		c = &copies{spool: s}
		c.origins[0].copies, c.origins[1].copies = c, c
		s.copies.Store(c) // the session asks for one copy at a time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &copied{size: int64(len(m.Topic) + len(m.Payload) + len(m.Properties) + spool.Overhead)}
	on := s.path.spool
	most := on.MaxSize()
	if !s.path.ending.Load() {
		most /= 2 // it may hold as much of what is nowhere else, and the file is bounded
	}
	if e.size > most {
		return from, true
	}
	if s.full.Store(on.Bytes()+e.size > on.MaxSize()); s.full.Load() {
		return nil, false
	}
	// Copies do not count, and so take no room from what only the disk has.
	if on.Copies(e.size) > most {
		on.Copies(-e.size)
		s.full.Store(true)
		return nil, false
	}
	p := pendingMessage{at: time.Now(), topic: m.Topic, payload: m.Payload, properties: m.Properties, flags: flagsOf(m.QoS, m.Retain)}
	came, ok := s.queue.Aside().Append(p.record(), func(err error) { c.stored(e, err) })
	if !ok || came == 0 {
		on.Copies(-e.size)
		return from, ok // not now; or it is too long
	}
	e.came, e.inside = came, true
	c.list = append(c.list, e)
	c.kept++
	o := &c.origins[m.QoS-1]
	o.waiting = append(o.waiting, e)
	return o, true
}

// stored is called by the spool when a copy is safe, or why it is not.
func (c *copies) stored(e *copied, err error) {
	c.mu.Lock()
	switch {
	case e.came == 0: // it was refused at once
	case err == nil:
		e.stored = true
	default:
		e.err = err
		c.leave(e)
	}
	lost := err != nil && e.stopped
	c.mu.Unlock()
	if lost {
		c.spool.rule.Load().unsaved(1, err)
	}
	c.wakePump()
	c.spool.roomAgain()
}

// wakePump has the pump look for what there is to trim.
func (c *copies) wakePump() {
	c.due.Store(true)
	c.spool.path.untrimmed.Store(true)
	c.spool.path.WakePump()
}

// takeNext takes the next n off those that the session has not reported.
func (o *copyOrigin) takeNext(n int) []*copied {
	n = min(n, len(o.waiting))
	next := o.waiting[:n:n]
	if o.waiting = o.waiting[n:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
	return next
}

// Published implements session.Origin: the broker has the next n messages.
func (o *copyOrigin) Published(n, bytes int) {
	s := o.spool
	s.rule.Load().published.Add(uint64(n))
	s.budget.Release(n, bytes)
	o.finish(n)
	s.path.settled.Notify()
}

// Refused implements session.Refuser. The copy of the next message stays until it is kept
// elsewhere.
func (o *copyOrigin) Refused(m *session.Publication, why error) {
	o.mu.Lock()
	e := new(copied)
	if len(o.waiting) > 0 {
		e = o.waiting[0]
	}
	e.keeping = true
	o.mu.Unlock()
	o.spool.rule.Load().refused(m, why, func() {
		o.mu.Lock()
		e.keeping = false
		o.mu.Unlock()
		o.wakePump()
	})
}

// finish lets the next n be trimmed.
func (o *copyOrigin) finish(n int) {
	o.mu.Lock()
	for _, e := range o.takeNext(n) {
		e.over = true
	}
	o.mu.Unlock()
	o.wakePump()
}

// Lost implements session.Origin: the next n messages will not reach the broker, at
// least not by this session.
func (o *copyOrigin) Lost(n, bytes int, err error) {
	defer o.spool.path.settled.Notify()
	s := o.spool
	s.budget.Release(n, bytes)
	if !errors.Is(err, session.ErrStopped) {
		s.rule.Load().unpublished(n, err)
		o.finish(n)
		return
	}
	o.mu.Lock()
	lost := 0
	for _, e := range o.takeNext(n) { // not lost: on disk, or on the way there
		e.stopped = true
		if e.err != nil {
			lost, err = lost+1, e.err
		}
	}
	o.mu.Unlock()
	if lost > 0 {
		s.rule.Load().unsaved(lost, err)
	}
}

// unsaved counts messages that neither the broker has nor the disk.
func (r *Rule) unsaved(n int, err error) {
	r.failures.Add(1)
	r.loseMany(account.SpoolLoss(errors.Is(err, spool.ErrFull)), uint64(n), "topic", r.Topic.String(), err)
}

// Rescue implements session.Rescuer: the session ends, and asks once more. The spool's
// file may have been damaged since, and what was in it lost.
func (o *copyOrigin) Rescue(m *session.Publication) (session.Origin, bool) {
	o.mu.Lock()
	s := o.spool
	if !o.gone && s.queue.Aside().Len() < o.kept {
		o.gone = true
		o.drop(len(o.list))
		s.copies.Store(nil)
	}
	gone := o.gone
	o.mu.Unlock()
	if !gone {
		return o, true
	}
	return s.rescue(m, s.rule.Load())
}

// copied is how many copies there are that are not trimmed.
func (s *publishSpool) copied() int {
	c := s.copies.Load()
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.list)
}

// trim lets the disk forget the copies of what the broker has.
func (s *publishSpool) trim() {
	c := s.copies.Load()
	if c == nil || !c.due.Swap(false) {
		return
	}
	var records [inflightSize]spool.Record
	for n := c.over(); n > 0; n = c.over() {
		read, _ := s.queue.Aside().Front(records[:min(n, len(records))], 0)
		if !c.forget(records[:read], n) {
			c.due.Store(true) // the spool is in trouble
			return
		}
	}
}

// errNotThere is said of a copy that the disk has not kept.
var errNotThere = errors.New("the spool does not have it any more; is the disk failing?")

// forget removes the copies that are not needed any more from the front of the queue,
// which are n as far as is known, given what is there. It reports whether there may be more.
func (c *copies) forget(front []spool.Record, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.spool.queue.Aside()
	if len(front) == 0 && q.Len() == 0 && c.spool.path.spool.Err() == nil {
		c.drop(n) // lost with the spool's file
		return true
	}
	done, lost := 0, 0
	for ; done < len(front); done++ {
		left := c.list[done+lost:]
		at := slices.IndexFunc(left, func(e *copied) bool { return e.came == front[done].Came })
		if at < 0 || !left[at].done() {
			break
		}
		for _, e := range left[:at] {
			e.err = errNotThere
		}
		lost += at
	}
	q.Remove(done) // before they are taken off: else the spool might seem full for a moment
	c.drop(done + lost)
	return done > 0
}

// over is how many copies there are at the front of the list that are on disk and not
// needed there any more.
func (c *copies) over() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.list) > 0 && c.list[0].done() && c.list[0].err != nil {
		c.drop(1)
	}
	for n < len(c.list) && c.list[n].done() && c.list[n].stored {
		n++
	}
	return n
}

// drop takes the first n off the list. Callers hold mu.
func (c *copies) drop(n int) {
	for _, e := range c.list[:n] {
		c.leave(e)
	}
	clear(c.list[:n])
	if c.list = c.list[n:]; len(c.list) == 0 {
		c.list = nil
	}
}

// leave takes note that a copy is not in the queue any more. Callers hold mu.
func (c *copies) leave(e *copied) {
	if e.inside {
		e.inside = false
		c.kept--
		c.spool.path.spool.Copies(-e.size)
	}
}
