package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// touchedMax is how much of the mapping may count as our memory.
const touchedMax = 1 << 20

// shrinkFrom is how large an empty file may stay. The list of its free pages is
// written with every commit.
const shrinkFrom = 8 << 20

// errGone says that there is no file at the moment.
var errGone = errors.New("the spool's file is not open")

// view runs f in a transaction that reads.
func (s *Spool) view(f func(*bolt.Tx)) {
	s.file.swap.RLock()
	defer s.file.swap.RUnlock()
	if s.file.db == nil || s.file.broken.Load() != nil {
		return
	}
	err := s.file.transact(false, func(tx *bolt.Tx) error { f(tx); return nil })
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		s.file.broken.Store(broken)
		s.signal()
	}
}

// transact runs f in a transaction, which it commits if f may write.
func (f *file) transact(write bool, do func(*bolt.Tx) error) error {
	if err := f.check(); err != nil {
		return err
	}
	open := true // the transaction, with its locks
	err := guard(func() error {
		tx, err := f.db.Begin(write)
		if err != nil {
			open = false
			return err
		}
		defer func() {
			_ = tx.Rollback() // says that it is committed if it is
			open = false
		}()
		err = do(tx)
		if err == nil && write {
			err = tx.Commit()
		}
		f.release()
		return err
	})
	if open {
		f.stuck.Store(true)
	}
	return err
}

// update runs do in a transaction and commits it. With an error, nobody knows
// whether the file holds the changes: that can be so if only the last step, to wait
// for the disk, went wrong. To do the same once more does no harm. Only the
// committing goroutine calls it.
func (s *Spool) update(limit int64, do func(*bolt.Tx) error) error {
	s.file.swap.RLock()
	defer s.file.swap.RUnlock()
	if s.file.db == nil {
		return errGone
	}
	if broken := s.file.broken.Load(); broken != nil {
		return broken
	}
	s.file.db.MaxSize = int(limit)
	if err := s.file.transact(true, do); err != nil {
		return err
	}
	return s.file.measure()
}

// release lets go of the mapping's pages now and then, for each that was read
// counts as our memory. It is for those in a transaction that reads, and for the
// committing goroutine: bbolt moves the mapping only when it commits, and never
// under a reader.
func (f *file) release() {
	if f.touched.Load() > touchedMax {
		f.touched.Store(0)
		release(f.db.Info().Data, min(f.mapped, f.size.Load()))
	}
}

// replace begins a new file in place of one that is damaged. What was in it is
// lost; what waits in memory, in b and behind it, is not.
func (s *Spool) replace(b *batch, why *brokenError) error {
	_ = s.file.close() // it has no more to say
	records, bytes := s.forget(b)
	if lost := (*fs.PathError)(nil); errors.As(why, &lost) {
		return s.openFile(b) // its device is gone, or was; what is there now is looked at
	}
	if err := s.setAside(why); err != nil {
		return err
	}
	s.log.Error("messages were lost with the spool's file", "messages", records, "bytes", bytes)
	return s.openFile(b)
}

// shrink begins a new file in place of one that is large and empty.
func (s *Spool) shrink() error {
	if s.Len() > 0 || s.file.size.Load() < shrinkFrom {
		return nil
	}
	empty := false
	s.view(func(tx *bolt.Tx) {
		first, _ := tx.Cursor().Seek([]byte{'q'})
		empty = first == nil
	})
	if !empty {
		return nil
	}
	if err := s.file.close(); err != nil {
		return err
	}
	return errors.Join(os.Remove(s.path), s.openFile(nil))
}

// forget counts only the records that are in memory, and returns what that
// leaves out.
func (s *Spool) forget(b *batch) (records int, bytes int64) {
	type sum struct {
		records int
		bytes   int64
	}
	waiting := map[*Queue]sum{}
	queues := s.all()
	for _, q := range queues {
		q.mu.Lock()
		defer q.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range []*batch{b, &s.pending} {
		b.letGo()
		for _, e := range b.entries {
			if e.waits() {
				w := waiting[e.queue]
				waiting[e.queue] = sum{w.records + 1, w.bytes + e.bytes}
			}
		}
	}
	for _, q := range queues {
		q.taken, q.head = nil, 0
		w := waiting[q]
		lost, lostBytes := q.Len()-w.records, q.Bytes()-w.bytes
		q.count(-lost, -lostBytes)
		records, bytes = records+lost, bytes+lostBytes
	}
	return records, bytes
}

// all are the queues.
func (s *Spool) all() (queues []*Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		queues = append(queues, q)
	}
	return queues
}

// asides are the files that setAside made.
func asides(path string) []string {
	var found []string
	entries, _ := os.ReadDir(filepath.Dir(path)) // none: nothing to remove
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".corrupt-") {
			found = append(found, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return found
}
