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
)

// lockWait is how long Open waits for a process that is just ending.
const lockWait = time.Second

// Segments become so large, for a spool of max bytes.
func segmentSize(max int64) int64 {
	return min(maxSegment, (max/32+minSegment-1)/minSegment*minSegment)
}

const (
	minSegment = 256 << 10
	maxSegment = 64 << 20
)

// A store is what lies in the folder: the segments, in which all queues' records are one
// after the other as they came; and the states. All is written by one goroutine.
type store struct {
	dir    string
	folder *os.File
	lock   *os.File
	states *states
	most   int64 // how large segments become

	segments []*segment // by age; the spool's mutex is held to change it
	active   bool       // the last one can be appended to
	queues   map[*Queue]*diskQueue
	first    uint64 // the least number for a record of a queue that is new

	found findings
}

// A diskQueue is what is in a store of one queue.
type diskQueue struct {
	segments []*segment // those with records that are not removed, by age
	next     uint64     // the number after the last record
	last     uint64     // the segment that this one is in: as long as that is there, removed ones are
	head     uint64     // the number of the first that is not removed
	noted    uint64     // head as the states have it
	bytes    int64      // what the records counted that were found at the opening
}

// findings are what was found at the opening of a store.
type findings struct {
	latest time.Duration // when the last of the records came
	lost   int           // records that were there and are not
	mark   *mark         // nil: there is none
	bad    int64         // bytes that are no frames
	files  []string      // where
	failed error         // what the disk said when these were read
	newer  []string      // files of newer versions

	imported bool   // there was a file of an earlier version
	taken    int    // records of it
	aside    string // where it is kept, for not all of it could be read
}

// openStore opens the store in a folder, or makes one; all in it is read once. queue finds
// the queue of a name.
func openStore(dir string, maxSize int64, queue func(string) *Queue) (_ *store, err error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make its folder: %w", err)
	}
	s := &store{dir: dir, most: segmentSize(maxSize), queues: map[*Queue]*diskQueue{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.folder, err = os.Open(dir); err != nil {
		return nil, err
	}
	if s.lock, err = openLocked(lockPath(dir)); err != nil {
		return nil, err
	}
	if s.states, err = readStates(dir); err != nil {
		return nil, err
	}
	if err := s.list(); err != nil {
		return nil, err
	}
	if err := s.undoImport(); err != nil {
		return nil, err
	}
	for name, k := range s.states.known {
		if k.head < k.next {
			s.queues[queue(name)] = newDiskQueue(k.head)
		}
	}
	for i, g := range s.segments {
		if err := s.scan(g, i == len(s.segments)-1, queue); err != nil {
			return nil, err
		}
		s.closeOld()
	}
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
	if err := s.importOld(queue); err != nil {
		return nil, fmt.Errorf("take over the file of an earlier version, %s: %w", oldName, err)
	}
	return s, nil
}

func lockPath(dir string) string { return filepath.Join(dir, segmentPrefix+"lock") }

// makeDir makes a folder, for this user only, if it is not there.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// openLocked opens a file and locks it. While it waited for the lock, the process that had
// it may have lost its folder.
func openLocked(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := filelock.Lock(f, lockWait); err != nil {
			f.Close()
			if errors.Is(err, filelock.ErrInUse) {
				err = ErrInUse
			}
			return nil, err
		}
		if samePath(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// list finds the segments in the folder, and removes what was not finished.
func (s *store) list() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, segmentPrefix) && strings.HasSuffix(name, partSuffix) {
			os.Remove(filepath.Join(s.dir, name))
			continue
		}
		id, salt, version, ok := parseSegment(name)
		switch {
		case ok && version > fileVersion:
			s.found.newer = append(s.found.newer, name)
		case ok && version == fileVersion:
			s.segments = append(s.segments, newSegment(s.dir, id, salt))
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
	f, err := os.OpenFile(g.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	g.file = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	g.size = info.Size()
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
		bad += g.size - end
	}
	if s.active = last && end < s.most; s.active && end < g.size {
		s.active = f.Truncate(end) == nil // else what comes next goes elsewhere
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

// enter enters a record that was found. What is missing between two numbers is lost.
func (s *store) enter(q *Queue, g *segment, at int64, f *frame) {
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

// in notes that there are records in a segment.
func (d *diskQueue) in(g *segment) {
	if n := len(d.segments); n == 0 || d.segments[n-1] != g {
		d.segments = append(d.segments, g)
	}
}

func newDiskQueue(head uint64) *diskQueue { return &diskQueue{head: head, next: head, noted: head} }

// A cursor is a place in the index of a queue.
type cursor struct{ segment, at int }

// some are places in one segment of the next records of a queue, at most so many, and goes
// on to the next ones. At the end there is no segment, but the number that comes next.
// Callers hold the spool's mutex.
func (s *store) some(q *Queue, c *cursor, most int) (g *segment, places []uint32, next uint64) {
	d := s.queues[q]
	if d == nil {
		return nil, nil, 0
	}
	for ; c.segment < len(d.segments); c.segment, c.at = c.segment+1, 0 {
		g := d.segments[c.segment]
		if left := g.index[q][c.at:]; len(left) > 0 {
			places = slices.Clone(left[:min(len(left), most)])
			c.at += len(places)
			return g, places, 0
		}
	}
	return nil, nil, d.next
}

// remove removes the first record of a queue, unless it is on its way to the disk yet.
// Callers hold the spool's mutex.
func (s *store) remove(q *Queue, p place) {
	d := s.queues[q]
	if d == nil || p.number >= d.next || len(d.segments) == 0 {
		return
	}
	g := d.segments[0]
	g.index[q] = g.index[q][1:]
	g.used -= int64(p.length)
	if g.live--; g.live == 0 {
		g.used = 0 // nobody knows how long those were that cannot be read
	}
	if len(g.index[q]) == 0 {
		delete(g.index, q)
		d.segments = d.segments[1:]
	}
}

// allQueues is a state that says all. Queues of which nothing is there any more, not even
// what was removed, are forgotten. Callers hold the spool's mutex.
func (s *store) allQueues(m mark) []byte {
	b := stateOf(m, s.first)
	for q, d := range s.queues {
		if len(d.segments) == 0 && (len(s.segments) == 0 || d.last < s.segments[0].id) {
			delete(s.queues, q)
			continue
		}
		b = appendQueue(b, q.name, span{d.head, d.next})
	}
	return b
}

// closeOld closes segments for which there are too many.
func (s *store) closeOld() {
	for _, g := range s.segments[:max(0, len(s.segments)-maxOpen)] {
		g.close()
	}
}

// errMoved says what keeps the store from being used any more.
var errMoved = errors.New("the folder that is open is not the one at its path any more: it was removed or renamed, or something is mounted over it")

// gone reports whether an error says that there is nothing at a path.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// inPlace finds out whether the folder is still the one at its path. What is written to
// it if not is gone when the program ends.
func (s *store) inPlace() error {
	if !samePath(s.folder, s.dir) {
		return errMoved
	}
	return nil
}

// complete finds out whether all is there that is needed.
func (s *store) complete() error {
	for _, g := range s.segments {
		if !g.inPlace() {
			return errMoved
		}
	}
	if !s.states.inPlace() || !samePath(s.lock, s.lock.Name()) {
		return errMoved
	}
	return nil
}

// disk is what the segments take, and how much of that are records not removed. Callers
// hold the spool's mutex.
func (s *store) disk() (size, used int64) {
	for _, g := range s.segments {
		size, used = size+g.size, used+g.used
	}
	return size, used
}

func (s *store) close() {
	for _, g := range s.segments {
		g.close()
	}
	if s.states != nil {
		s.states.close()
	}
	for _, f := range []*os.File{s.lock, s.folder} {
		if f != nil {
			f.Close()
		}
	}
}
