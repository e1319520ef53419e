package lastsent

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"topicast/bridge/filelock"
	"topicast/internal/plainfile"
)

// lockWait is how long to wait for a process that is just ending.
const lockWait = time.Second

// writer is what the goroutine that writes to the file has for itself.
type writer struct {
	lock   *os.File // held as long as the file is ours
	file   *os.File // nil: it cannot be used now
	size   int64
	live   int // how many records of it count
	buf    []byte
	told   bool      // that it cannot be used
	stale  bool      // told that it cannot be removed either
	again  time.Time // when to try the next time
	credit int64     // bytes that may be written
	filled time.Time // when credit was last added to
}

// start reads the file and makes it this process's own. What it cannot take over it
// does not believe: another start would find the same again, which may not be so
// any more by then.
func (s *Store) start() {
	w := &s.writer
	w.credit, w.filled = budget, time.Now()
	if err := s.own(); err != nil {
		s.fail(err)
		return
	}
	known, clean, err := read(s.path, s.options.boot)
	switch {
	case err == nil || os.IsNotExist(err):
	case err == errReboot:
		s.log.Info("the machine started anew before topicast could say what was last sent; retained messages are sent again", "file", s.path)
	default:
		s.log.Warn("cannot read what was last sent; retained messages are sent again", "file", s.path, "err", err)
	}
	if len(known) > s.options.max {
		known = nil
	}
	all := make([]Entry, len(known))
	for i, r := range known {
		e := &all[i]
		e.key = r.key
		e.last.Store(r.fingerprint)
		e.newest.Store(r.fingerprint)
		e.saved.Store(r.fingerprint)
		s.entries[r.key] = e
	}
	s.counts[nobody] = len(all)
	// A power cut must not bring back a file that was in good order once.
	if err := s.rewrite(false, clean); err != nil {
		clear(s.entries)
		clear(s.counts)
		s.fail(err)
		return
	}
	if len(all) > 0 {
		s.log.Info("known from before: what was last sent, for retained: once", "file", s.path, "topics", len(all))
	}
}

// own makes the folder and locks the file.
func (s *Store) own() (err error) {
	if s.writer.lock != nil {
		return nil
	}
	if err := s.mkdir(); err != nil {
		return err
	}
	f, err := plainfile.OpenOwn(s.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := filelock.Lock(f, lockWait); err != nil {
		_ = f.Close()
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	s.writer.lock = f
	return nil
}

func (s *Store) mkdir() error { return os.MkdirAll(s.options.Dir, 0o700) }

// run is the goroutine that writes.
func (s *Store) run() {
	defer close(s.stopped)
	timer := time.NewTimer(0)
	for armed := true; ; {
		due := false
		select {
		case <-s.wake:
		case <-timer.C:
			armed, due = false, true
		case <-s.closing:
			s.serve()
			s.finish()
			return
		}
		s.serve()
		if due {
			s.now.Add(1)
			s.save()
		}
		if next := s.next(); !armed && next > 0 {
			timer.Reset(next)
			armed = true
		}
	}
}

// next is when to look again unasked; 0: not at all.
func (s *Store) next() time.Duration {
	if s.writer.file == nil {
		return s.options.retry
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.changed) > 0 {
		return s.options.pause
	}
	return 0
}

// serve does what messages may wait for: it takes entries off the file.
func (s *Store) serve() {
	s.mu.Lock()
	forgets, reset, round := s.forgets, s.reset, s.round
	s.forgets, s.reset, s.round = nil, false, nil
	s.mu.Unlock()
	w := &s.writer
	var err error
	if reset && w.file != nil {
		err = s.rewrite(false, false)
	}
	w.buf = w.buf[:0]
	for _, e := range forgets {
		if e.saved.Load() != 0 {
			w.buf = record{e.key, 0}.append(w.buf)
			w.live--
		}
	}
	if err == nil {
		err = w.write()
	}
	for _, e := range forgets {
		e.saved.Store(0)
		e.flags.And(^uint32(forgetting))
	}
	if err != nil {
		s.fail(err)
	}
	if round != nil {
		close(round)
	}
	s.late.Store(false)
}

// save writes what has changed and rested since.
func (s *Store) save() {
	if !s.usable() || !s.ensureInPlace() {
		return
	}
	w := &s.writer
	w.earn(time.Now())
	s.mu.Lock()
	changed := s.changed
	s.changed = nil
	s.mu.Unlock()
	now, left := s.now.Load(), changed[:0]
	w.buf = w.buf[:0]
	for _, e := range changed {
		e.flags.And(^uint32(listed))
		switch last := e.last.Load(); {
		case e.flags.Load()&detached != 0:
			continue
		case now-e.touched.Load() < 2:
		case (last == e.saved.Load() || last == Untold) && e.settled():
			continue // as it was, or cleared
		case !e.settled() && !e.waits():
			continue // lost, or the broker is to repeat it; if it is sent yet, Sent enters it again
		case w.credit < 2*recordSize: // it is to be paid for when it comes off again, too
		case s.enter(e):
			w.buf = record{e.key, last}.append(w.buf)
			w.credit -= 2 * recordSize
			w.live++
			continue
		}
		if e.flags.Or(listed)&listed == 0 {
			left = append(left, e)
		}
	}
	clear(changed[len(left):])
	if len(left) > 0 {
		s.mu.Lock()
		s.changed = append(left, s.changed...)
		s.mu.Unlock()
	}
	err := w.write()
	if err == nil && w.size > int64(2*w.live*recordSize)+64<<10 {
		err = s.rewrite(false, false)
	}
	if err != nil {
		s.fail(err)
	}
}

// ensureInPlace sees to it that what is written is in the folder: where the file was removed
// or renamed, or something was mounted over it, one with all that is known takes its
// place, under a lock of its own. It is false where there can be none.
func (s *Store) ensureInPlace() bool {
	w := &s.writer
	is, err := os.Stat(s.path)
	if err == nil {
		var ours os.FileInfo
		if ours, err = w.file.Stat(); err == nil && os.SameFile(is, ours) {
			return true
		}
	}
	if w.lock != nil {
		_ = w.lock.Close() // it went the same way, or is taken again
		w.lock = nil
	}
	if err = s.own(); err == nil {
		err = s.rewrite(true, false)
	}
	if err != nil {
		s.fail(err)
		return false
	}
	s.log.Warn("the file of what was last sent had been taken away; it is there again", "file", s.path)
	return true
}

// enter has an entry count as being in the file, if nothing else of it is on its way.
// Lay first says what is on its way and then asks whether the entry is in the file;
// here it is the other way round. So one of the two sees the other.
func (s *Store) enter(e *Entry) bool {
	last := e.last.Load()
	e.saved.Store(last)
	if last > Untold && e.settled() && e.last.Load() == last {
		return true
	}
	e.saved.Store(0)
	return false
}

// earn adds to what may be written.
func (w *writer) earn(now time.Time) {
	if gained := int64(now.Sub(w.filled).Seconds() * rate); gained > 0 {
		w.credit = min(w.credit+gained, budget)
		w.filled = now
	}
}

// usable reports whether the file can be written to, and tries to make it so.
func (s *Store) usable() bool {
	w := &s.writer
	switch {
	case w.file != nil:
		return true
	case time.Now().Before(w.again):
		return false
	}
	if err := s.own(); err != nil {
		s.fail(err)
		return false
	}
	if err := s.rewrite(true, false); err != nil {
		s.fail(err)
		return false
	}
	w.told, w.stale = false, false
	s.log.Info("what was last sent is kept on disk again", "file", s.path)
	return true
}

// fail gives the file up for a while. Nothing stale may be left of it.
func (s *Store) fail(err error) {
	w := &s.writer
	w.again = time.Now().Add(s.options.retry)
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
	if !w.told {
		s.log.Warn("cannot keep on disk what was last sent; if topicast is restarted now, retained messages are sent again; it is tried again by itself", "file", s.path, "err", err)
		w.told = true
	}
	if w.lock == nil {
		return // it is another's
	}
	if err := s.remove(); err != nil && !w.stale {
		w.stale = true
		s.log.Error("this file says what is no longer so, and cannot be removed; remove it before topicast is started again, or retained messages may be held back wrongly", "file", s.path, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		e.saved.Store(0)
	}
}

// finish writes all that is known, for the next start, and lets go of the file.
func (s *Store) finish() {
	w := &s.writer
	err := s.own()
	if err == nil {
		err = s.mkdir() // somebody may have removed it
	}
	if err == nil {
		err = s.rewriteAs(true, true, true)
	}
	if err != nil {
		s.fail(err)
	}
	if w.file != nil {
		_ = w.file.Close()
	}
	if w.lock != nil {
		_ = w.lock.Close()
	}
}

// rewrite writes the file anew: what is in it, or all that is known.
func (s *Store) rewrite(all, sync bool) error { return s.rewriteAs(all, sync, false) }

// rewriteAs is rewrite; clean says that this was the last of this process, so that
// the file holds over a reboot too. A crash leaves the old file or the new one.
func (s *Store) rewriteAs(all, sync, clean bool) error {
	w := &s.writer
	w.buf = w.buf[:0]
	n := 0
	w.buf = header{}.append(w.buf) // to be filled in
	s.mu.Lock()
	for _, e := range s.entries {
		if all {
			s.enter(e)
		}
		if saved := e.saved.Load(); saved != 0 {
			w.buf = record{e.key, saved}.append(w.buf)
			n++
		}
	}
	s.mu.Unlock()
	h := header{boot: bootNumber(s.options.boot), records: unknown}
	if clean {
		h.records = uint64(n)
	}
	h.append(w.buf[:0])
	fresh := s.path + ".new"
	_ = os.Remove(fresh) // whatever it is: to open a pipe would wait for a reader
	f, err := plainfile.OpenOwn(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(w.buf); err == nil && sync {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if w.file != nil {
		_ = w.file.Close() // some systems rename no file that is open
		w.file = nil
	}
	if err == nil {
		err = os.Rename(fresh, s.path)
	}
	if err != nil {
		_ = os.Remove(fresh)
		return err
	}
	if sync {
		s.syncFolder()
	}
	w.size, w.live = int64(len(w.buf)), n
	if cap(w.buf) > 64<<10 {
		w.buf = nil
	}
	w.file, err = plainfile.OpenOwn(s.path, os.O_WRONLY|os.O_APPEND, 0)
	return err
}

// syncFolder has the folder say on disk which file is there. Not every system can.
func (s *Store) syncFolder() {
	if d, err := plainfile.OpenFolder(filepath.Dir(s.path)); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// write appends buf to the file.
func (w *writer) write() error {
	if len(w.buf) == 0 || w.file == nil {
		return nil
	}
	n, err := w.file.Write(w.buf)
	w.size += int64(n)
	if cap(w.buf) > 64<<10 {
		w.buf = nil
	}
	return err
}
