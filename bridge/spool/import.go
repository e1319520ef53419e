package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"topicast/bridge/filelock"
)

// Versions before kept all in one file, which bbolt wrote: a tree of pages with a bucket
// for each queue. It is read once, at the first start of this version, and then removed.
const oldName = "spool.db"

// undoImport removes what came of an import that was interrupted: before its end there are
// no states.
func (s *store) undoImport() error {
	if _, err := s.files.stat(filepath.Join(s.dir, oldName)); err != nil || s.states.found {
		return nil
	}
	for _, g := range s.segments {
		if err := g.remove(); err != nil {
			return err
		}
	}
	s.segments = nil
	return nil
}

// importOld takes over the file of an earlier version, if there is one.
func (s *store) importOld(queue func(string) *Queue) error {
	path := filepath.Join(s.dir, oldName)
	f, err := s.files.open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, errors.New("it is no file"))
	}
	if err := filelock.Lock(f.File, lockWait); err != nil {
		if errors.Is(err, filelock.ErrInUse) {
			err = ErrInUse
		}
		return err
	}
	old, err := openOld(f)
	if errors.Is(err, errNewer) {
		s.found.newer = append(s.found.newer, oldName)
		return nil
	}
	m := &importer{store: s, old: old, queue: queue, w: s.writer(), more: map[*Queue]uint64{}}
	m.w.moving = true
	if err == nil {
		err = m.all()
	}
	var failed *writeError
	if errors.As(err, &failed) {
		return failed.error
	}
	damage := errors.Join(err, old.damage)
	if err := s.imported(old, m.taken); err != nil {
		return err
	}
	if damage == nil {
		if err := s.files.remove(path); err != nil {
			return err
		}
	} else {
		s.found.failed = fmt.Errorf("%s: %w", oldName, damage)
		s.found.aside = path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000Z")
		if err := s.files.rename(path, s.found.aside); err != nil {
			return err
		}
	}
	return s.files.syncDir(s.dir)
}

// imported has what was taken over be safe, and known.
func (s *store) imported(old *oldFile, taken int) error {
	m := mark{at: s.found.latest}
	if old.mark != nil {
		m = *old.mark
	}
	if s.found.mark == nil {
		s.found.mark = &m
	}
	s.found.imported, s.found.taken = true, taken
	return s.states.begin(s.allQueues(*s.found.mark))
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
	taken int
}

func (m *importer) all() error {
	const atOnce = 1 << 14
	err := m.old.each(func(name string, number uint64, value []byte) error {
		r, at, err := decodeOld(value)
		if err != nil {
			m.old.spoilt(err)
			return nil // its number is missing: it counts as lost
		}
		q := m.queue(name)
		if _, known := m.more[q]; !known {
			m.begin(q, number)
		}
		d := m.store.queues[q]
		if number += m.more[q]; number < d.next {
			m.old.spoilt(errors.New("its records are not in order"))
			return nil
		}
		m.store.found.lost += int(number - d.next)
		d.next = number + 1
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

var errOldRecord = errors.New("a record is damaged")

func decodeOld(b []byte) (r Record, at time.Duration, err error) {
	if len(b) < oldRecordHeader || b[4] == 0 || b[4] > oldRecordVersion || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
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
