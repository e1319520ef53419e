package spool

import (
	"bufio"
	"cmp"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// shrinkFrom is how large the segment that is written to may stay when nothing is left.
const shrinkFrom = 64 << 10

// tidy deletes the segments of which nothing is left. While what is removed takes more
// than what is not, it writes anew what is left where that is least: of the queue of one
// rule that is away, between those of others that go on. full: the disk has no room.
func (s *Spool) tidy(full bool) error {
	if err := s.retire(full); err != nil {
		return err
	}
	for {
		run := s.sparse()
		if len(run) == 0 {
			return nil
		}
		if err := s.rewrite(run, false); err != nil {
			return err
		}
	}
}

// retire deletes the segments of which nothing is left: the one that is written to only where
// it is of use, and nothing is left at all or the disk is full.
func (s *Spool) retire(full bool) error {
	s.mu.Lock()
	st, unused := s.store, full || s.Len() == 0
	var dead []*segment
	for i, g := range st.segments {
		current := st.active && i == len(st.segments)-1
		if g.live == 0 && !g.held && (!current || unused && g.size > shrinkFrom) {
			dead = append(dead, g)
		}
	}
	s.mu.Unlock()
	return s.drop(dead)
}

// drop takes segments out of the store, which are not needed any more, and deletes them.
func (s *Spool) drop(old []*segment) error {
	if len(old) == 0 {
		return nil
	}
	// Else after a power cut what was in them would count as lost. Where there is no room for
	// that, it has to be made first.
	err := s.noteRemoved()
	if diskFull(err) {
		s.takeOut(old[:1])
		if err = old[0].remove(); err == nil {
			err = s.noteRemoved()
		}
		old = old[1:]
	}
	if err != nil {
		return err
	}
	s.takeOut(old)
	for _, g := range old {
		if e := g.remove(); errors.Is(e, fs.ErrPermission) {
			s.keepUnremoved(g, e)
		} else {
			err = cmp.Or(err, e)
		}
	}
	return cmp.Or(err, s.store.files.syncDir(s.store.dir))
}

// keepUnremoved takes note that a segment of which nothing is left cannot be deleted. It is
// tried again at the next start, and what is in it is known to be removed by then.
func (s *Spool) keepUnremoved(g *segment, why error) {
	s.mu.Lock()
	told := s.store.stray
	s.store.stray = true
	s.mu.Unlock()
	if !told {
		s.log.Error("files of the spool that are done with cannot be removed, and take room on the disk; let this user remove them, before the next start",
			"dir", s.dir, "file", filepath.Base(g.path), "err", why)
	}
}

// takeOut takes segments out of the store.
func (s *Spool) takeOut(old []*segment) {
	s.swap.Lock()
	s.mu.Lock()
	st := s.store
	if n := len(st.segments); n > 0 {
		st.active = st.active && !slices.Contains(old, st.segments[n-1])
	}
	st.segments = slices.DeleteFunc(st.segments, func(g *segment) bool { return slices.Contains(old, g) })
	s.mu.Unlock()
	st.closeOld()
	s.swap.Unlock()
}

// sparse are segments in a row that are to be written anew as one, if it is time for that.
func (s *Spool) sparse() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.store
	size, used := st.disk()
	if size <= min(2*used, 2*s.maxSize)+2*st.most {
		return nil
	}
	whole := st.segments
	if st.active {
		whole = whole[:len(whole)-1]
	}
	least := -1
	for i, g := range whole {
		if !g.stays() && g.used < g.size && (least < 0 || g.used*whole[least].size < whole[least].used*g.size) {
			least = i
		}
	}
	if least < 0 {
		return nil
	}
	first, next := least, least+1
	sum := whole[least].used
	for ; next < len(whole) && !whole[next].stays() && sum+whole[next].used <= st.most; next++ {
		sum += whole[next].used
	}
	for ; first > 0 && !whole[first-1].stays() && sum+whole[first-1].used <= st.most; first-- {
		sum += whole[first-1].used
	}
	return slices.Clone(whole[first:next])
}

// stays reports whether a segment is not to be written anew. Callers hold the spool's mutex.
func (g *segment) stays() bool { return g.keep || g.held }

// errKept says that a segment is not written anew, for not all in it can be read.
var errKept = errors.New("not all that is left of a segment can be read")

// rewrite writes what is left in segments in a row to a new one, which takes their place.
// Others read and remove meanwhile. What cannot be read is left out if they are gone; else
// they stay.
func (s *Spool) rewrite(run []*segment, gone bool) error {
	to := newSegment(s.store.files, s.store.dir, run[0].id, rand.Uint64())
	var all []placed
	f, err := s.store.files.replace(to.path, func(f *file) (err error) {
		all, err = s.copyLeft(run, to, f, gone)
		return err
	})
	if errors.Is(err, errKept) {
		return nil
	}
	if err != nil {
		return err
	}
	to.file = f
	s.swap.Lock()
	s.mu.Lock()
	s.takePlace(run, to, all)
	s.mu.Unlock()
	s.swap.Unlock()
	return s.drop(run)
}

// copyLeft writes what is left in segments to a file, which becomes to.
func (s *Spool) copyLeft(run []*segment, to *segment, f *file, gone bool) (all []placed, err error) {
	w := bufio.NewWriterSize(f, flushFrom)
	for _, g := range run {
		s.mu.Lock()
		left, size := g.left(), g.size
		s.mu.Unlock()
		r := &reader{file: g, size: size, salt: g.salt, ahead: window}
		for _, is := range left {
			frame, _, ok := r.frame(int64(is.at))
			if !ok && gone && deviceFails(r.failed) && s.spared() {
				return nil, r.failed
			}
			if !ok && gone {
				continue
			}
			if !ok {
				g.keep = true
				return nil, errKept
			}
			b := r.bytes(int64(is.at), frame.length)
			seal(b, to.salt, to.size)
			all = append(all, placed{is.queue, frame.number, to, uint32(to.size), frame.length})
			if _, err := w.Write(b); err != nil {
				return nil, err
			}
			to.size += int64(frame.length)
		}
	}
	return all, w.Flush()
}

// takePlace enters what was written anew in place of what it is a copy of, but for what was
// removed meanwhile. Callers hold both mutexes.
func (s *Spool) takePlace(run []*segment, to *segment, all []placed) {
	st := s.store
	concerned := map[*Queue]bool{}
	for _, g := range run {
		for q := range g.index {
			concerned[q] = true
		}
		g.index, g.live, g.used = nil, 0, 0
	}
	for i := range all {
		if p := &all[i]; p.number >= st.queues[p.queue].head {
			to.add(p.queue, p.at, p.length)
		}
	}
	for q := range concerned {
		st.queues[q].replace(run, to, to.index[q].n > 0)
		st.queues[q].last = max(st.queues[q].last, to.id)
	}
	st.segments = slices.Insert(st.segments, slices.Index(st.segments, run[0]), to)
}

// replace has a segment be in place of others in a row, or none.
func (d *diskQueue) replace(run []*segment, by *segment, any bool) {
	var kept []*segment
	for _, g := range d.segments {
		switch {
		case !slices.Contains(run, g):
			kept = append(kept, g)
		case any:
			kept, any = append(kept, by), false
		}
	}
	d.segments = kept
}

// heal makes anew what is missing in the folder: somebody removed it. all: not only that
// which is written to.
func (s *Spool) heal(all bool) error {
	st := s.store
	if !st.files.sameFile(st.lock, st.lock.Name()) {
		lock, err := st.files.openLocked(lockPath(s.dir))
		if err != nil {
			return err
		}
		st.lock.Close()
		st.lock = lock
	}
	looked := st.segments
	if n := len(looked); n > 0 && !all {
		looked = looked[n-1:]
	}
	missing := slices.DeleteFunc(slices.Clone(looked), (*segment).inPlace)
	for _, g := range missing {
		s.mu.Lock()
		st.active = st.active && g != st.segments[len(st.segments)-1]
		s.mu.Unlock()
		if err := s.rewrite([]*segment{g}, true); err != nil {
			return err
		}
	}
	away := !st.states.inPlace()
	if away {
		st.states.close()
	}
	if len(missing) > 0 || away {
		s.log.Warn("files of the spool were removed, renamed or hidden: they are made anew with what they held, as far as that can be read",
			"dir", s.dir, "files", len(missing), "messages", s.Len())
	}
	return nil
}
