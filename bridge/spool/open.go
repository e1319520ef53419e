package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"topicast/bridge/filelock"
	"topicast/internal/plainfile"
)

// lockWait is how long Open waits for a process that is just ending.
const lockWait = time.Second

// findings are what was found at the opening of a store.
type findings struct {
	latest time.Duration // when the last of the records came
	lost   int           // records that were there and are not
	mark   *mark         // nil: there is none
	bad    int64         // bytes that are no frames
	files  []string      // where
	failed error         // what the disk said when these were read
	newer  []string      // files of newer versions
	left   []string      // files that are left out, for they cannot be opened
	why    error         // why the first of these cannot

	imported bool   // there was a file of an earlier version
	taken    int    // records of it
	aside    string // where it is kept, for not all of it could be read
}

// openStore opens the store in a folder, or makes one; all in it is read once. queue finds
// the queue of a name; what is taken over from a file of before has its ages by time. Should
// it be one that was open before, what has been removed from that is removed.
func openStore(on *files, dir string, maxSize int64, queue func(string) *Queue, time *timeline, before *store) (_ *store, err error) {
	if err := on.makeDir(dir); err != nil {
		return nil, fmt.Errorf("make its folder: %w", err)
	}
	s := &store{dir: dir, files: on, most: segmentSize(maxSize), queues: map[*Queue]*diskQueue{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.folder, err = on.openFolder(dir); err != nil {
		return nil, err
	}
	if s.lock, err = on.openLocked(lockPath(dir)); err != nil {
		return nil, err
	}
	if s.states, err = readStates(on, dir); err != nil {
		return nil, err
	}
	if err := s.list(); err != nil {
		return nil, err
	}
	taking, err := s.undoImport()
	if err != nil {
		return nil, err
	}
	if s.same = before != nil && s.sharesWith(before); s.same {
		s.correctStates(before, queue)
	}
	for name, k := range s.states.known {
		if k.head < k.next {
			s.queues[queue(name)] = newDiskQueue(k.head)
		}
	}
	for i := 0; i < len(s.segments); {
		err := s.scan(s.segments[i], i == len(s.segments)-1, queue)
		switch {
		case err == nil:
			i++
		case s.leaves(err) || s.outOfPatience(s.segments[i].path, err):
			s.leaveOut(s.segments[i].path, err)
			s.segments = slices.Delete(s.segments, i, i+1)
		default:
			return nil, err
		}
		s.closeOld()
	}
	if s.stray {
		for name, k := range s.states.known { // what a file holds that is left out is not to come twice some day
			if q := queue(name); s.queues[q] == nil {
				s.queues[q] = newDiskQueue(k.head)
			}
		}
	}
	s.numberOnwards()
	if err := s.importOlds(queue, time, taking); err != nil {
		return nil, fmt.Errorf("take over the file of an earlier version, %s: %w", oldName, err)
	}
	return s, nil
}

// correctStates enters what is known of the same store as it was open before: what has been removed since its
// states were written, and what was not wholly written.
func (s *store) correctStates(before *store, queue func(string) *Queue) {
	s.before = before.queues
	s.states.first = max(s.states.first, before.first)
	for name, k := range s.states.known {
		if d := before.queues[queue(name)]; d == nil {
			delete(s.states.known, name) // the first of it were not wholly written: see enter
		} else if k.next > d.next {
			s.states.known[name] = span{k.head, d.next} // nor the last of it
		}
	}
	for q, d := range before.queues {
		k := s.states.known[q.name]
		k.head = max(k.head, d.head)
		s.states.known[q.name] = k
	}
}

// numberOnwards has all that comes numbered behind all that there ever was. What the states know of and no segment
// has is lost.
func (s *store) numberOnwards() {
	s.first, s.found.mark = s.states.first, s.states.mark
	for _, k := range s.states.known {
		s.first = max(s.first, k.head, k.next)
	}
	for q, d := range s.queues {
		if next := s.states.known[q.name].next; next > d.next {
			s.found.lost += int(next - d.next)
			d.next = next
		}
		s.first = max(s.first, d.next)
	}
}

func lockPath(dir string) string { return filepath.Join(dir, segmentPrefix+"lock") }

// openLocked opens a file and locks it. While it waited for the lock, the process that had
// it may have lost its folder.
func (s *files) openLocked(path string) (*file, error) {
	for {
		if err := s.clear(path); err != nil {
			return nil, err
		}
		f, err := s.open(path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return nil, err
		}
		if err := filelock.Lock(f.File, lockWait); err != nil {
			f.Close()
			if errors.Is(err, filelock.ErrInUse) {
				err = ErrInUse
			}
			return nil, err
		}
		if s.sameFile(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// list finds the segments in the folder, and removes what was not finished.
func (s *store) list() error {
	entries, err := s.files.list(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, segmentPrefix) && strings.HasSuffix(name, partSuffix) {
			_ = s.files.remove(filepath.Join(s.dir, name))
			continue
		}
		id, salt, version, ok := parseSegment(name)
		switch {
		case ok && version > fileVersion:
			s.found.newer = append(s.found.newer, name)
		case ok && version == fileVersion && name == segmentName(id, salt):
			s.after = max(s.after, id)
			s.segments = append(s.segments, newSegment(s.files, s.dir, id, salt))
		}
	}
	slices.SortFunc(s.segments, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.salt, b.salt))
	})
	return nil
}

// scan reads a segment. last: it is the last one, which may end in the middle of what was
// being written when the power went.
func (s *store) scan(g *segment, last bool, queue func(string) *Queue) error {
	f, err := s.files.open(g.path, os.O_RDWR)
	writable := err == nil
	if errors.Is(err, fs.ErrPermission) {
		f, err = s.files.open(g.path, os.O_RDONLY)
	}
	if err != nil {
		return err
	}
	g.file = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	g.size = min(info.Size(), maxSegment+maxFrame) // what is behind that, nobody has written
	r := &reader{file: g, size: g.size, salt: g.salt, ahead: window}
	var q *Queue
	end, bad := r.each(func(at int64, f *frame) {
		if f.kind != recordKind {
			return
		}
		if q == nil || q.name != string(f.name) {
			q = queue(string(f.name))
		}
		s.enter(q, g, at, f)
	})
	if !last {
		bad += info.Size() - end
	}
	s.active = last && writable && end < s.most
	if s.active && end < info.Size() { // else what comes next goes elsewhere, as where nothing says that the file is ours
		s.active = end > 0 && f.Truncate(end) == nil
	}
	g.size = end
	if s.found.bad += bad; bad > 0 || r.failed != nil {
		s.found.files = append(s.found.files, filepath.Base(g.path))
		if s.found.failed == nil {
			s.found.failed = r.failed
		}
	}
	return nil
}

// leaves reports whether a file that cannot be opened for that reason is left out, so that it
// does not hold up the others. A spool that is already in use is not opened without any of its
// files unless that is gone for good: they may be there the next time.
func (s *store) leaves(err error) bool {
	if plainfile.Is(err) {
		return true
	}
	return !s.same && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP))
}

// outOfPatience reports whether the disk has said for long enough that one file of a spool that
// is not in use yet cannot be opened: of one that is there, for the rest could be.
func (s *store) outOfPatience(path string, err error) bool {
	if s.same || !errors.Is(err, syscall.EIO) {
		return false
	}
	since, known := s.files.unread[path]
	if !known {
		if s.files.unread == nil {
			s.files.unread = map[string]time.Time{}
		}
		since = time.Now()
		s.files.unread[path] = since
	}
	return time.Since(since) >= patience
}

// leaveOut notes that a file is left out.
func (s *store) leaveOut(path string, why error) {
	s.stray = true
	s.found.left = append(s.found.left, filepath.Base(path))
	if s.found.why == nil {
		s.found.why = why
	}
}

// enter enters a record that was found. What is missing between two numbers is lost.
func (s *store) enter(q *Queue, g *segment, at int64, f *frame) {
	if was := s.before[q]; s.same && (was == nil || f.number >= was.next) {
		return // it was not wholly written, and waits in memory, or did
	}
	d := s.queues[q]
	if d == nil {
		head := f.number
		if k, known := s.states.known[q.name]; known {
			head = k.head
		}
		d = newDiskQueue(head)
		s.queues[q] = d
	}
	d.last = g.id
	if f.number < d.next {
		return // removed, or there twice: it was written anew when the program was killed
	}
	s.found.lost += int(f.number - d.next)
	d.next = f.number + 1
	d.bytes += f.size()
	g.add(q, uint32(at), f.length)
	d.in(g)
	s.found.latest = max(s.found.latest, f.at)
}
