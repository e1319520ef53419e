package spool

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// A disk may go away and come back: a cable, a USB stick, a server. What is open of it then
// fails for ever, and keeps its file system from being mounted anew: so all is closed, and
// opened again at the path when it is there. For patience what cannot be read is waited for;
// then it counts as lost, so that a disk that is gone for good holds nothing up.
const patience = 30 * time.Second

// vouched is for how long a disk that could be written to is known to be there: what cannot
// be read of it is damaged.
const vouched = 10 * time.Second

// errAway says that the disk is gone, and waited for.
var errAway = errors.New("the disk is gone, or what the spool has on it")

// errUnread says that what is to be moved cannot be read.
var errUnread = errors.New("what the folder held cannot be read")

// deviceFails reports whether an error is of a disk or a server that is gone, or will not be
// written to before it is mounted anew.
func deviceFails(err error) bool {
	for _, is := range [...]error{syscall.EIO, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE, syscall.ENOTCONN, syscall.EROFS} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// noMoreFiles reports whether an error says of this process or host that it has too many files
// open, and nothing of the file that was to be opened.
func noMoreFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// lookAgain has who reads look again soon.
func (s *Spool) lookAgain() {
	s.mu.Lock()
	s.ask, s.again = true, true
	s.mu.Unlock()
	s.signal()
}

// A doubt is whether a disk is there of which something could not be read.
type doubt struct {
	began time.Time
	since time.Duration // after began, when that was first; 0: it never was
	wrote time.Duration // when a write worked last
}

// read notes that something could not be read. It reports whether that is damage: the disk is
// there, or has been gone for too long.
func (d *doubt) read() (damage bool) {
	now := time.Since(d.began)
	switch {
	case d.wrote <= d.since && d.since > 0:
		return now-d.since >= patience
	case d.since > 0 && now-d.wrote <= vouched:
		return true
	}
	d.since = max(now, d.wrote+1)
	return false
}

// write notes that something could not be written.
func (d *doubt) write() {
	if d.wrote > d.since || d.since == 0 {
		d.since = max(time.Since(d.began), d.wrote+1)
	}
}

// end notes that a write worked, which began then. It reports whether that ends a doubt.
func (d *doubt) end(began time.Time) bool {
	if began.Sub(d.began) < d.since {
		return false // the disk may have gone after it
	}
	was := d.since > d.wrote
	d.wrote = max(time.Since(d.began), d.since+1)
	return was
}

// spared reports whether something that could not be read is left where it is for now, and
// has the committing goroutine find out whether the disk is there.
func (s *Spool) spared() bool {
	s.mu.Lock()
	spared := !s.doubt.read()
	s.ask = s.ask || spared
	s.mu.Unlock()
	if spared {
		s.signal()
	}
	return spared
}

// assured notes that the disk is there. Who could not read something looks again.
func (s *Spool) assured() {
	s.mu.Lock()
	was := s.doubt.end(s.began) || s.again
	s.again = false
	s.mu.Unlock()
	if was {
		s.uses.Add(1)
	}
}

// failing closes what is open of a disk that an error says is gone.
func (s *Spool) failing(err error) error {
	if s.store == nil || s.store.away != nil || !deviceFails(err) || errors.Is(err, errMoved) && !errors.Is(err, errUnread) {
		return err
	}
	s.mu.Lock()
	s.doubt.write()
	s.mu.Unlock()
	s.swap.Lock()
	s.store.close()
	s.store.away = fmt.Errorf("%w: %w", errAway, err)
	s.swap.Unlock()
	return s.store.away
}

// close closes all files. What is known of them stays.
func (s *store) close() {
	for _, g := range s.segments {
		g.close()
	}
	if s.states != nil {
		s.states.close()
	}
	for _, f := range []*file{s.lock, s.folder} {
		if f != nil {
			f.Close()
		}
	}
	s.lock, s.folder = nil, nil
}

// isBack reports whether one of the segments that are needed is at its path, or none is
// needed.
func (s *Spool) isBack() bool {
	var paths []string
	s.mu.Lock()
	for _, g := range s.store.segments {
		if g.live > 0 {
			paths = append(paths, g.path)
		}
	}
	s.mu.Unlock()
	return len(paths) == 0 || slices.ContainsFunc(paths, func(path string) bool {
		_, err := s.files.stat(path)
		return err == nil
	})
}

// sharesWith reports whether two stores are the same one: a segment's salt is its own, and where there
// was none yet, so are the states.
func (s *store) sharesWith(other *store) bool {
	salts := map[uint64]bool{}
	for _, g := range other.segments {
		salts[g.salt] = true
	}
	for _, g := range s.segments {
		if salts[g.salt] {
			return true
		}
	}
	return len(other.segments) == 0 && s.states.sharesWith(other.states)
}
