package spool

import (
	"bytes"
	"fmt"
	"time"
)

// ensureStore sees to it that a store is open, that it is the one at the path, and that
// what is written to is there; all: and the rest too.
func (s *Spool) ensureStore(b *batch, all bool) error {
	if s.store == nil {
		return s.openStore(b)
	}
	err := s.store.inPlace()
	if err == nil {
		return s.heal(all)
	}
	if s.store.away != nil && !s.isBack() && s.spared() {
		return err
	}
	lost, failed := s.moveTo(b)
	if failed != nil {
		return fmt.Errorf("%w; what it holds is still read, and cannot be put there: %w", err, failed)
	}
	what := "the spool's folder was removed or renamed, or something was mounted over it: what it held is in a new one now"
	if s.store.same {
		what = "what the spool holds was away, and is there again"
	}
	s.log.Warn(what, "dir", s.dir, "messages", s.Len(), "lost", lost)
	return nil
}

// openStore opens what is in the folder. b is the batch that is to be written to it.
func (s *Spool) openStore(b *batch) error {
	st, err := openStore(&s.files, s.dir, s.maxSize, s.Queue, s.time, nil)
	if err != nil {
		return err
	}
	s.found(st)
	time := s.timeOf(st)
	s.swap.Lock()
	s.mu.Lock()
	s.adopt(st, b, time, nil)
	s.mu.Unlock()
	s.swap.Unlock()
	return s.commit(new(batch), nil)
}

// maxNamed is how many files one line of the log names.
const maxNamed = 20

// found logs what is not as it should be.
func (s *Spool) found(st *store) {
	f := &st.found
	if len(f.left) > 0 {
		s.log.Error("files of the spool cannot be opened: what is in them counts as lost, and the rest goes on; remove what is no file, and let this user read the others before the next start",
			"dir", s.dir, "lost", f.lost, "files", f.left[:min(len(f.left), maxNamed)], "err", f.why)
	}
	if f.bad > 0 || f.failed != nil || f.lost > 0 && len(f.left) == 0 {
		s.log.Error("the spool is damaged: what is damaged of it is lost, and the rest is there; look at the disk's health",
			"dir", s.dir, "lost", f.lost, "bytes", f.bad, "files", f.files, "err", f.failed)
	}
	if len(f.newer) > 0 {
		s.log.Error("a newer version of topicast has left messages in the spool's folder, which this one cannot read; they stay there until that version runs again",
			"dir", s.dir, "files", f.newer)
	}
	if f.imported {
		s.log.Info("the spool's file of an earlier version was taken over", "dir", s.dir, "messages", f.taken, "aside", f.aside)
	}
}

// timeOf is the time that goes on in a store.
func (s *Spool) timeOf(st *store) *timeline {
	t := s.time.copy()
	switch f := &st.found; {
	case f.mark != nil:
		t.resume(*f.mark)
		return t
	case len(st.queues) == 0:
		return t // a new one: the time goes on
	case !f.imported:
		s.log.Error("the spool's time is damaged; what is in it counts as if it had come just now; look at the disk's health", "dir", s.dir)
	}
	t.resume(mark{at: st.found.latest})
	return t
}

// adopt uses a store from here on. It counts what was in it, behind which comes what was
// moved there of other queues, with so much more as their numbers, and what waits in
// memory; and it goes by its time. Callers hold both mutexes.
func (s *Spool) adopt(st *store, b *batch, time *timeline, moved map[*Queue]uint64) {
	batches := []*batch{b, &s.pending}
	if by := s.time.become(time); by != 0 {
		s.shift.Add(int64(by))
		for _, b := range batches {
			b.shift(by)
		}
	}
	s.store = nil // what is counted here was there before
	for _, q := range s.queues {
		d := st.queues[q]
		if more, ours := moved[q]; ours {
			s.renumber(q, batches, more)
		} else {
			next, first := st.first, q.next // of those on disk, of those in memory
			if d != nil {
				next = d.next
			}
			for _, b := range batches {
				first = min(first, b.first(q))
			}
			if d != nil || first < next {
				s.renumber(q, batches, next-first)
			}
			q.head, q.taken = max(q.head, next), nil
		}
		if d != nil && d.head != q.head {
			q.count(int(q.head-d.head), d.bytes)
			q.head, q.taken = d.head, nil
		}
	}
	s.store = st
	s.uses.Add(1)
}

// renumber adds to the numbers of what waits in memory of a queue. Callers hold mu.
func (s *Spool) renumber(q *Queue, batches []*batch, more uint64) {
	for _, b := range batches {
		b.renumber(q, more)
	}
	q.next, q.head = q.next+more, q.head+more
	for i := range q.taken {
		q.taken[i].number += more
	}
}

// moveTo opens the folder at the path, or makes one, and puts there what the one that is
// open holds: its files can be read still. Should that not work, both are as before. It
// returns how many records are lost, for they cannot be read.
func (s *Spool) moveTo(b *batch) (lost int, err error) {
	s.swap.Lock()
	defer s.swap.Unlock() // nobody reads or removes meanwhile
	to, err := openStore(&s.files, s.dir, s.maxSize, s.Queue, s.time, s.store)
	if err != nil {
		return 0, err
	}
	time := s.time.copy()
	if !to.same {
		time = s.timeOf(to)
	}
	m := &move{spool: s, to: to, by: s.time.copy().become(time), more: map[*Queue]uint64{}}
	m.number()
	if len(to.segments) > 0 {
		m.after = to.segments[len(to.segments)-1].id
	}
	err = m.copyAll()
	if err == nil {
		s.mu.Lock()
		all := to.allQueues(time.mark())
		s.mu.Unlock()
		err = to.states.begin(all)
	}
	if err != nil {
		m.undo()
		return 0, err
	}
	s.found(to)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.store
	for q, d := range old.queues { // what is lost at the end counts
		next := d.next + m.more[q]
		to.first = max(to.first, next)
		there := to.queues[q]
		if there == nil {
			continue // nothing is left of it
		}
		if to.same && next > there.next {
			m.lost += int(next - there.next)
		}
		there.next = next
	}
	// Should it come back, what it holds is not to come twice.
	done := stateOf(s.time.mark(), to.first)
	for q, d := range old.queues {
		done = appendQueue(done, q.name, span{d.next, d.next})
	}
	s.adopt(to, b, time, m.more)
	_ = old.states.write(done, true) // it may be gone for good
	old.close()
	return m.lost, nil
}

// A move is the way of what a store holds to another one.
type move struct {
	spool *Spool
	to    *store
	by    time.Duration     // by how much the time there is ahead
	more  map[*Queue]uint64 // what is added to the numbers of a queue's records
	after uint64            // the id of the last segment that was there before
	lost  int
}

// number finds out which numbers the records get: behind those that are there.
func (m *move) number() {
	s := m.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, d := range s.store.queues {
		there := m.to.queues[q]
		switch {
		case m.to.same:
			if m.more[q] = 0; there == nil {
				m.to.queues[q] = newDiskQueue(d.head)
			}
			continue
		case there != nil:
			m.more[q] = there.next - d.head
			continue
		}
		m.more[q] = max(d.head, m.to.first) - d.head
		m.to.queues[q] = newDiskQueue(d.head + m.more[q])
	}
}

// copyAll copies all records.
func (m *move) copyAll() error {
	const atOnce = 1 << 14
	m.to.active = false
	w := m.to.writer()
	w.moving = true
	r := &reader{}
	for _, g := range m.spool.store.segments {
		if m.to.same && m.spool.store.away != nil {
			break // it is what has just been read
		}
		m.spool.mu.Lock()
		left := g.left()
		m.spool.mu.Unlock()
		*r = reader{file: g, size: g.size, salt: g.salt, buffer: r.buffer[:0], ahead: window}
		for _, is := range left {
			f, _, ok := r.frame(int64(is.at))
			switch {
			case !ok && deviceFails(r.failed) && m.spool.spared():
				return fmt.Errorf("%w: %w", errUnread, r.failed)
			case !ok:
				m.lost++
				continue
			case m.to.same && f.number < m.to.queues[is.queue].next:
				continue // it is there
			}
			b := bytes.Clone(r.bytes(int64(is.at), f.length))
			shift(b, m.by)
			if err := w.put(is.queue, f.number+m.more[is.queue], b); err != nil {
				return err
			}
			if len(w.placed) >= atOnce {
				if err := w.done(); err != nil {
					return err
				}
			}
		}
	}
	return w.done()
}

// done enters what was put, and goes on.
func (w *writer) done() error {
	if err := w.sync(); err != nil {
		return err
	}
	w.enter()
	w.touched, w.placed = w.touched[:0], w.placed[:0]
	return nil
}

// undo removes what was copied.
func (m *move) undo() {
	for _, g := range m.to.segments {
		if g.id > m.after {
			_ = g.remove()
		}
	}
	m.to.close()
}
