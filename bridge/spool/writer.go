package spool

import (
	"math/rand/v2"
	"os"
)

// flushFrom is how much is handed to the system at once.
const flushFrom = 256 << 10

// A writer appends records to a store. They are there when it has finished, and what it
// wrote is entered; or not at all.
type writer struct {
	store   *store
	buffer  []byte
	at      int64 // where in the last segment the buffer goes
	placed  []placed
	touched []touched
	moving  bool // to a store whose numbers are others
}

// placed is where a record is that was written.
type placed struct {
	queue   *Queue
	number  uint64
	segment *segment
	at      uint32
	length  int
}

// touched is a segment that was written to, and what it was before.
type touched struct {
	segment *segment
	size    int64 // by now
	fresh   bool
}

func (s *store) writer() *writer { return &writer{store: s} }

// put appends a record's frame.
func (w *writer) put(q *Queue, number uint64, frame []byte) error {
	if len(w.touched) == 0 || w.at+int64(len(w.buffer)) >= w.store.most {
		if err := w.next(); err != nil {
			return err
		}
	}
	if len(w.buffer)+len(frame) > flushFrom {
		if err := w.flush(); err != nil {
			return err
		}
	}
	t := &w.touched[len(w.touched)-1]
	at := w.at + int64(len(w.buffer))
	start := len(w.buffer)
	w.buffer = append(w.buffer, frame...)
	setNumber(w.buffer[start:], number)
	seal(w.buffer[start:], t.segment.salt, at)
	w.placed = append(w.placed, placed{q, number, t.segment, uint32(at), len(frame)})
	return nil
}

// next goes on to the segment that can be appended to, or to a new one.
func (w *writer) next() error {
	if err := w.sync(); err != nil {
		return err
	}
	s := w.store
	if len(w.touched) == 0 && s.active && s.segments[len(s.segments)-1].size < s.most {
		g := s.segments[len(s.segments)-1]
		w.touched, w.at = append(w.touched, touched{g, g.size, false}), g.size
		return nil
	}
	id := s.after + 1
	if n := len(s.segments); n > 0 {
		id = max(id, s.segments[n-1].id+1)
	}
	if n := len(w.touched); n > 0 {
		id = max(id, w.touched[n-1].segment.id+1)
	}
	g, err := s.create(id)
	if err != nil {
		return err
	}
	w.touched, w.at = append(w.touched, touched{g, 0, true}), 0
	return nil
}

// create makes a segment. Its name is safe then.
func (s *store) create(id uint64) (*segment, error) {
	g := newSegment(s.files, s.dir, id, rand.Uint64())
	f, err := s.files.open(g.path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	g.file = f
	if err := s.files.syncDir(s.dir); err != nil {
		g.remove()
		return nil, err
	}
	return g, nil
}

// remove closes and deletes a segment. What else is in its place now is left to who put it
// there.
func (g *segment) remove() error {
	g.close()
	if info, err := g.on.lstat(g.path); err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err := g.on.remove(g.path); err != nil && !gone(err) {
		return err
	}
	return nil
}

func (w *writer) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	t := &w.touched[len(w.touched)-1]
	if _, err := t.segment.file.WriteAt(w.buffer, w.at); err != nil {
		return err
	}
	w.at += int64(len(w.buffer))
	t.size, w.buffer = w.at, w.buffer[:0]
	return nil
}

// sync waits until all is safe that was put.
func (w *writer) sync() error {
	if len(w.touched) == 0 {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.touched[len(w.touched)-1].segment.file.Sync(); err != nil {
		w.store.active = false // the system forgets what it could not write
		return err
	}
	return nil
}

// abort takes out again what was written.
func (w *writer) abort() {
	for _, t := range w.touched {
		if t.fresh {
			_ = t.segment.remove() // empty, or found again with numbers that are there
		} else if err := t.segment.file.Truncate(t.segment.size); err != nil {
			w.store.active = false
		}
	}
}

// enter enters what was written. Callers hold the spool's mutex.
func (w *writer) enter() {
	s := w.store
	for _, t := range w.touched {
		t.segment.size = t.size
		if t.fresh {
			s.segments, s.active = append(s.segments, t.segment), true
		}
	}
	for i := range w.placed {
		p := &w.placed[i]
		d := s.queues[p.queue]
		if d == nil {
			d = newDiskQueue(p.number)
			s.queues[p.queue] = d
		}
		d.next, d.last = max(d.next, p.number+1), p.segment.id
		s.first = max(s.first, d.next)
		if p.number >= d.head && (w.moving || p.number >= p.queue.head) {
			p.segment.add(p.queue, p.at, p.length)
			d.in(p.segment)
		}
	}
}
