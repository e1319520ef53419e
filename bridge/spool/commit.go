package spool

import (
	"cmp"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// markEvery is how old the mark of the spool's time may become while there are records:
// what passes between the last one and a power cut does not count. lookEvery is how often
// the folder is looked at, and the time of day.
const (
	markEvery = time.Minute
	lookEvery = 2 * time.Second
)

// run is the committing goroutine: it takes all that waits, writes it, waits once for the
// disk, and tells those who asked. It never waits for more to come: while one commit is on
// its way to the disk, the next one gathers.
func (s *Spool) run() {
	defer close(s.stopped)
	for {
		b, removing, more := s.take()
		if !more {
			break
		}
		if s.trying {
			s.write(&b, removing)
		} else {
			s.putBack(&b, removing)
		}
		s.mu.Lock()
		s.slabs.put(b.slabs)
		s.spare = b.emptied()
		s.mu.Unlock()
	}
	if s.store != nil {
		if s.Len() > 0 && s.Err() == nil {
			_ = s.commit(new(batch), nil) // the time from here on counts from this mark
		}
		s.swap.Lock()
		s.store.close()
		s.store = nil
		s.swap.Unlock()
	}
}

// take waits until there is something to commit. There is no more when the
// spool is closing and nothing waits.
func (s *Spool) take() (b batch, removing []*Queue, more bool) {
	for retry := false; ; retry = s.rest() {
		s.mu.Lock()
		s.due, s.ask = s.due || s.ask, false
		work := s.work(retry)
		s.ended = !work && s.closing
		ended := s.ended
		if work {
			b, s.pending, s.spare, s.gone = s.pending, s.spare, batch{}, false
			s.writing = b.memory
			removing, s.removing = append(s.removing, s.later...), nil
			s.later = nil
			for _, q := range removing {
				q.removing = false
			}
		}
		s.mu.Unlock()
		if work || ended {
			return b, removing, work
		}
	}
}

// work reports whether there is something to do. While the spool cannot be used
// there is when it is time to try again, and when it is closing, once more. Callers
// hold mu.
func (s *Spool) work(retry bool) bool {
	s.trying = true
	switch {
	case s.Err() == nil:
		return len(s.pending.entries) > 0 || len(s.removing) > 0 || retry && len(s.later) > 0 || s.due
	case s.last:
		return len(s.pending.entries) > 0 // refused, and not told yet
	}
	s.last = s.closing
	s.trying = retry || s.closing || s.removes && len(s.removing) > 0
	return s.trying || s.gone
}

// rest waits for something to do. True means that it is time for what failed; then it has
// looked at the folder, too, and at the time of day.
func (s *Spool) rest() bool {
	timer := time.NewTimer(time.Until(s.next)) // however often it is woken before
	defer timer.Stop()
	select {
	case <-s.wake:
		return false
	case now := <-timer.C:
		if s.Err() == nil {
			s.next = now.Add(lookEvery)
		}
		s.due = s.due || s.markDue(now) || s.checkFolder() != nil
		s.mu.Lock()
		s.slabs.trim()
		s.mu.Unlock()
		return true
	}
}

// markDue reports whether the store is to be told what time it is.
func (s *Spool) markDue(now time.Time) bool {
	return s.Len() > 0 && (now.Sub(s.marked) >= markEvery || s.time.see())
}

// checkFolder checks that the folder is there and has room, also while nothing is written.
func (s *Spool) checkFolder() error {
	if s.store == nil {
		return nil
	}
	if err := s.store.inPlace(); err != nil {
		return err
	}
	return cmp.Or(s.store.complete(), s.diskTrouble())
}

// diskTrouble is what can be told without writing.
func (s *Spool) diskTrouble() error {
	if s.store == nil {
		return nil
	}
	return s.files.diskTrouble(s.dir)
}

// write commits a batch and calls what is to be called. What cannot be written now
// waits in front of what comes after it.
func (s *Spool) write(b *batch, removing []*Queue) {
	if s.last && s.Err() != nil && b.bytes == 0 {
		s.callDone(b)
		return
	}
	troubled, looked := s.Err() != nil, s.due
	s.began = time.Now()
	if troubled {
		s.markRemoved(b)
	}
	var err error
	if troubled || b.bytes > 0 || len(removing) > 0 || s.due {
		err = s.keep(b, removing)
	}
	if err != nil && !s.last {
		s.noteOutcome(s.failing(err))
		s.putBack(b, nil)
		return
	}
	if err != nil {
		s.mu.Lock()
		b.refuseAll(fmt.Errorf("%w: %w", ErrClosed, err)) // that was the last try
		s.mu.Unlock()
	}
	if err == nil && (troubled || looked) {
		if err = s.diskTrouble(); diskFull(err) { // what there was to write may have had room by chance
			_ = s.tidy(true)
		}
	}
	s.noteOutcome(err)
	s.callDone(b)
	if err == nil {
		if err := s.tidy(false); err != nil {
			s.noteOutcome(err)
		}
	}
}

// putBack has a batch wait in front of what comes after it, but for what is decided.
func (s *Spool) putBack(b *batch, removing []*Queue) {
	s.later = append(s.later, removing...)
	s.markRemoved(b)
	decided := b.split()
	if len(b.entries) > 0 {
		s.mu.Lock()
		b.before(&s.pending)
		s.pending, *b = *b, batch{}
		s.writing = 0
		s.mu.Unlock()
	}
	s.callDone(&decided)
}

// markRemoved takes note of the records of b that were removed before they were written.
func (s *Spool) markRemoved(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.markRemoved()
}

// callDone calls the done of each entry. There is room for more then, also in what the records
// lay in.
func (s *Spool) callDone(b *batch) {
	s.mu.Lock()
	s.writing = 0
	s.slabs.put(b.slabs)
	b.slabs = nil
	s.mu.Unlock()
	s.undecided.Add(-int64(len(b.entries)))
	for _, e := range b.entries {
		if e.done != nil {
			e.done(e.err)
		}
	}
}

// keep commits a batch, or what of it can be.
func (s *Spool) keep(b *batch, removing []*Queue) error {
	look := s.due || s.Err() != nil
	s.marked, s.due, s.removes = time.Now(), false, false
	err := s.ensureStore(b, look)
	if err == nil {
		err = s.commit(b, removing)
	}
	if err == nil {
		s.assured()
		s.later = nil
		return nil
	}
	if s.store != nil && len(removing) > 0 && b.bytes > 0 { // where there is no room for more, there may be some for that
		s.removes = s.commit(new(batch), removing) == nil
	}
	if s.store != nil && (s.removes || diskFull(err)) {
		_ = s.tidy(diskFull(err)) // what is deleted makes room, for the next try too
	}
	if !s.removes {
		s.later = append(s.later, removing...)
	}
	return err
}

// diskFull reports whether an error says that the disk has no room.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// commit writes the records of b, and what is removed.
func (s *Spool) commit(b *batch, removing []*Queue) error {
	w := s.store.writer()
	w.buffer, w.placed = s.buffer, make([]placed, 0, len(b.entries))
	defer func() { s.keepBuffer(w.buffer) }()
	err := error(nil)
	for i := 0; i < len(b.entries) && err == nil; i++ {
		if e := &b.entries[i]; e.waits() {
			err = w.put(e.queue, e.number, e.frame)
		}
	}
	if err == nil {
		err = w.sync()
	}
	if err == nil {
		err = s.note(w, removing)
	}
	if err != nil {
		w.abort()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.enter()
	b.written()
	return nil
}

// keepBuffer keeps what was written from for the next commit.
func (s *Spool) keepBuffer(buffer []byte) {
	if s.buffer = nil; cap(buffer) <= flushFrom {
		s.buffer = buffer[:0]
	}
}

// note writes a state: of what w has written, and of the queues with records removed.
func (s *Spool) note(w *writer, removing []*Queue) error {
	st := s.store
	s.time.see()
	mark := s.time.mark()
	concerned := make(map[*Queue]span, len(removing)+1)
	s.mu.Lock()
	var all []byte
	if st.states.old() {
		all = st.allQueues(mark)
	}
	for _, q := range removing {
		if d := st.queues[q]; d != nil {
			concerned[q] = span{d.safeHead(), d.next}
		}
	}
	for i := range w.placed {
		p := &w.placed[i]
		is, known := concerned[p.queue]
		if !known {
			if is.head = max(p.number, p.queue.head); st.queues[p.queue] != nil {
				is.head = st.queues[p.queue].safeHead()
			}
		}
		is.next = p.number + 1
		concerned[p.queue] = is
	}
	state := stateOf(mark, st.first)
	s.mu.Unlock()
	if all != nil {
		if err := st.states.begin(all); err != nil {
			return err
		}
	}
	for q, is := range concerned {
		state = appendQueue(state, q.name, is)
	}
	if err := st.states.write(state, len(removing) > 0); err != nil {
		st.states.close() // what is in them is not known: they are begun anew
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, is := range concerned {
		if d := st.queues[q]; d != nil {
			d.noted = is.head
		}
	}
	return nil
}

// noteRemoved has what is removed by now be so after a power cut, too.
func (s *Spool) noteRemoved() error {
	var removed []*Queue
	s.mu.Lock()
	for q, d := range s.store.queues {
		if d.noted != d.safeHead() {
			removed = append(removed, q)
		}
	}
	s.mu.Unlock()
	if len(removed) == 0 {
		return nil
	}
	return s.note(new(writer), removed)
}
