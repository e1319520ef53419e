package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"topicast/bridge/filelock"
)

// Versions before kept all in one file, which bbolt wrote: a tree of pages with a bucket
// for each queue. It is read once, at the first start of this version, and then removed. So
// that a kill at any moment neither loses anything nor brings it twice,
//
//  1. the file gets another name, which says how many segments there were before;
//  2. its records are copied to segments of their own, and the time is noted;
//  3. the file is removed. That is the moment in which it is taken over: while it is there,
//     segments beyond those of before are not finished, and are removed.
const (
	oldName      = "spool.db"
	takingPrefix = oldName + ".taking-"
)

// importOlds takes over the files of earlier versions: first the one of which that was
// interrupted.
func (s *store) importOlds(queue func(string) *Queue, time *timeline, taking string) error {
	if taking != "" {
		if err := s.importOld(filepath.Join(s.dir, taking), queue, time); err != nil {
			return err
		}
	}
	path := filepath.Join(s.dir, oldName)
	switch newer, err := s.newerOld(path); {
	case errors.Is(err, fs.ErrNotExist) || newer:
		return nil
	case s.leaves(err):
		s.leaveOut(path, err)
		return nil
	case err != nil:
		return err
	}
	last := s.after // no other one, also of those that cannot be opened now, is of the import
	taken := filepath.Join(s.dir, fmt.Sprintf("%s%016x", takingPrefix, last))
	err := s.files.rename(path, taken)
	if err == nil {
		err = s.files.syncDir(s.dir)
	}
	if err != nil {
		return err
	}
	return s.importOld(taken, queue, time)
}

// undoImport removes what came of an import that was interrupted, and returns the name of its
// file.
func (s *store) undoImport() (taking string, err error) {
	entries, err := s.files.list(s.dir)
	if err != nil {
		return "", err
	}
	last := uint64(0)
	for _, e := range entries {
		number, is := strings.CutPrefix(e.Name(), takingPrefix)
		if id, err := strconv.ParseUint(number, 16, 64); is && err == nil && len(number) == 16 {
			taking, last = e.Name(), id
		}
	}
	if taking == "" {
		return "", nil
	}
	// Nothing is removed for what is no such file.
	path := filepath.Join(s.dir, taking)
	if err := s.files.clear(path); err != nil {
		return "", err
	}
	f, err := s.files.open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // it was moved aside
	}
	if err != nil {
		return "", err
	}
	f.Close()
	return taking, s.removeAfter(last)
}

// removeAfter removes the segments that are later than one of that id.
func (s *store) removeAfter(last uint64) error {
	for n := len(s.segments); n > 0 && s.segments[n-1].id > last; n-- {
		if err := s.segments[n-1].remove(); err != nil {
			return err
		}
		s.segments, s.active = s.segments[:n-1], false
	}
	return nil
}

// lockOld opens a file of an earlier version, for nobody else.
func (s *store) lockOld(path string) (*file, error) {
	f, err := s.files.open(path, os.O_RDONLY)
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
	return f, nil
}

// newerOld reports whether a newer version wrote the file: then it stays as it is.
func (s *store) newerOld(path string) (bool, error) {
	f, err := s.lockOld(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err = openOld(f); errors.Is(err, errNewer) {
		s.found.newer = append(s.found.newer, filepath.Base(path))
		return true, nil
	}
	return false, nil
}

// importOld takes over a file of an earlier version.
func (s *store) importOld(path string, queue func(string) *Queue, clock *timeline) error {
	f, err := s.lockOld(path)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := openOld(f)
	m := &importer{store: s, old: old, queue: queue, w: s.writer(), more: map[*Queue]uint64{}, by: s.ahead(old, clock)}
	m.w.moving = true
	before := len(s.segments)
	s.active = false // what is copied goes to segments of its own
	if err == nil {
		err = m.all()
	}
	var failed *writeError
	if errors.As(err, &failed) { // there may be no room for it: it does not take what there is
		m.w.abort()
		for _, g := range s.segments[before:] {
			_ = g.remove()
		}
		return failed.error
	}
	damage := errors.Join(err, old.damage)
	if err := s.noteTime(old); err != nil {
		return err
	}
	s.found.imported, s.found.taken = true, s.found.taken+m.taken
	if damage == nil {
		err = s.files.remove(path)
	} else {
		s.found.failed = fmt.Errorf("%s: %w", oldName, damage)
		s.found.aside = filepath.Join(s.dir, oldName+".corrupt-"+time.Now().UTC().Format("20060102T150405.000Z"))
		err = s.files.rename(path, s.found.aside)
	}
	if err == nil {
		err = s.files.syncDir(s.dir)
	}
	if err == nil {
		err = s.states.begin(s.allQueues(*s.found.mark))
	}
	return err
}

// noteTime has the time of what is taken over be known, and safe.
func (s *store) noteTime(old *oldFile) error {
	if s.found.mark != nil {
		return nil
	}
	m := mark{at: s.found.latest}
	if old.mark != nil {
		m = *old.mark
	}
	s.found.mark = &m
	return s.states.begin(stateOf(m, s.states.first))
}

// writeError says that it was the new file that something is wrong with.
type writeError struct{ error }

// An importer puts the records of an old file into a store.
type importer struct {
	store *store
	old   *oldFile
	queue func(string) *Queue
	w     *writer
	more  map[*Queue]uint64 // what is added to the numbers of a queue's records
	by    time.Duration     // by how much the time of the store is ahead
	taken int
}

// ahead is by how much the time of the store is ahead of that of an old file.
func (s *store) ahead(old *oldFile, clock *timeline) time.Duration {
	if s.found.mark == nil || old.mark == nil {
		return 0
	}
	here, there := clock.copy(), clock.copy()
	here.resume(*s.found.mark)
	there.resume(*old.mark)
	return time.Duration(here.ahead.Load() - there.ahead.Load())
}

func (m *importer) all() error {
	const atOnce = 1 << 14
	err := m.old.each(func(name string, number uint64, value []byte) error {
		r, at, unread := decodeOld(value)
		at += m.by
		if unread != nil {
			m.old.spoilt(unread)
		}
		q := m.queue(name)
		_, known := m.more[q]
		if errors.Is(unread, errOldRecord) && !known {
			return nil // what it says of its queue may be damaged, too
		}
		if !known {
			m.begin(q, number)
		}
		d := m.store.queues[q]
		if number += m.more[q]; number < d.next || number-d.next > m.old.most() {
			m.old.spoilt(errors.New("its records are not in order"))
			return nil
		}
		m.store.found.lost += int(number - d.next)
		d.next = number + 1
		if unread != nil {
			m.store.found.lost++ // as its number will be missing
			return nil
		}
		d.bytes += r.size()
		m.store.found.latest = max(m.store.found.latest, at)
		m.taken++
		if err := m.w.put(q, number, appendFrame(nil, name, &r, at)); err != nil {
			return &writeError{err}
		}
		if len(m.w.placed) >= atOnce {
			return m.done()
		}
		return nil
	})
	return errors.Join(m.done(), err)
}

func (m *importer) done() error {
	if err := m.w.done(); err != nil {
		return &writeError{err}
	}
	return nil
}

// begin finds out which numbers the records of a queue get.
func (m *importer) begin(q *Queue, number uint64) {
	if d := m.store.queues[q]; d != nil {
		m.more[q] = d.next - number
		return
	}
	m.more[q] = max(number, m.store.first) - number
	m.store.queues[q] = newDiskQueue(number + m.more[q])
}

// A record of versions 1 and 2:
//
//	0   CRC-32C of all that follows
//	4   version
//	5   flags
//	6   when it came, in nanoseconds on the spool's timeline
//	14  length of the key
//	16  length of the topic
//	18  key, topic, payload
//
// Version 1 had the time of day at 6, which is no measure of an age: such a record counts
// from its import.
const (
	oldRecordVersion = 2
	oldRecordHeader  = 18
)

var (
	errOldRecord   = errors.New("a record is damaged")
	errNewerRecord = errors.New("a newer version of topicast wrote some of its records, which this one cannot read")
)

func decodeOld(b []byte) (r Record, at time.Duration, err error) {
	if len(b) <= 4 || b[4] == 0 || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return Record{}, 0, errOldRecord
	}
	if b[4] > oldRecordVersion {
		return Record{}, 0, errNewerRecord
	}
	if len(b) < oldRecordHeader {
		return Record{}, 0, errOldRecord
	}
	if b[4] > 1 {
		at = time.Duration(binary.BigEndian.Uint64(b[6:]))
	}
	k, t := int(binary.BigEndian.Uint16(b[14:])), int(binary.BigEndian.Uint16(b[16:]))
	rest := b[oldRecordHeader:]
	if k+t > len(rest) {
		return Record{}, 0, errOldRecord
	}
	return Record{Key: string(rest[:k]), Topic: rest[k : k+t], Payload: rest[k+t:], Flags: b[5]}, at, nil
}
