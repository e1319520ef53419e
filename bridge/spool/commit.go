package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// removalsAtOnce bounds the records that one transaction removes, for bbolt
// keeps every page it touches in memory until the end of it.
const removalsAtOnce = 4096

// markEvery is how old the mark of the spool's time may become while there are
// records in the file: what passes between the last one and a power cut does not
// count. lookEvery is how often the time of day is looked at.
const (
	markEvery = time.Minute
	lookEvery = 10 * time.Second
)

// run is the committing goroutine: it takes all that waits, writes it in one
// transaction, and tells those who asked. It never waits for more to come:
// while one transaction is on its way to the disk, the next one gathers.
func (s *Spool) run() {
	defer close(s.stopped)
	for {
		b, removing, more := s.take()
		if !more {
			break
		}
		if s.trying {
			s.write(&b, removing)
		} else {
			s.putBack(&b, removing)
		}
		s.mu.Lock()
		s.spare = b.emptied()
		s.mu.Unlock()
	}
	if s.Len() > 0 && s.Err() == nil {
		_ = s.store(new(batch), nil) // the time from here on counts from this mark
	}
	s.closeErr = s.file.close()
}

// take waits until there is something to commit. There is no more when the
// spool is closing and nothing waits.
func (s *Spool) take() (b batch, removing []*Queue, more bool) {
	for retry := false; ; retry = s.rest() {
		s.mu.Lock()
		work := s.work(retry)
		s.ended = !work && s.closing
		ended := s.ended
		if work {
			b, s.pending, s.spare, s.gone = s.pending, s.spare, batch{}, false
			removing, s.removing = append(s.removing, s.later...), nil
			s.later = nil
			for _, q := range removing {
				q.removing = false
			}
		}
		s.mu.Unlock()
		if work || ended {
			return b, removing, work
		}
	}
}

// work reports whether there is something to do. While the spool cannot be used
// there is when it is time to try again, and when it is closing, once more. Callers
// hold mu.
func (s *Spool) work(retry bool) bool {
	s.trying = true
	switch {
	case s.Err() == nil:
		return len(s.pending.entries) > 0 || len(s.removing) > 0 || retry && len(s.later) > 0 ||
			s.file.broken.Load() != nil || s.markDue(retry)
	case s.last:
		return len(s.pending.entries) > 0 // refused, and not told yet
	}
	s.last = s.closing
	s.trying = retry || s.closing || s.removes && len(s.removing) > 0
	return s.trying || s.gone
}

// rest waits for something to do. True means that it is time for what failed, or to
// look at the time of day.
func (s *Spool) rest() bool {
	pause := lookEvery
	switch {
	case s.Err() != nil:
		pause = s.pause
	case s.Len() == 0 && len(s.later) == 0:
		<-s.wake
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-s.wake:
		return false
	case <-timer.C:
		return true
	}
}

// write commits a batch and calls what is to be called. What cannot be written now
// waits in front of what comes after it.
func (s *Spool) write(b *batch, removing []*Queue) {
	if s.last && s.Err() != nil && b.bytes == 0 {
		s.told(b)
		return
	}
	err := s.Err()
	if err != nil {
		s.letGo(b)
	}
	if err != nil || b.bytes > 0 || len(removing) > 0 || s.file.broken.Load() != nil || s.due {
		err = s.store(b, removing)
		s.tell(err)
	}
	if err != nil && !s.last {
		s.putBack(b, nil)
		return
	}
	if err != nil {
		b.refuseAll(fmt.Errorf("%w: %w", ErrClosed, err)) // that was the last try
	}
	s.told(b)
	if err := s.shrink(); err != nil {
		s.tell(err)
	}
}

// putBack has a batch wait in front of what comes after it, but for what is decided.
func (s *Spool) putBack(b *batch, removing []*Queue) {
	s.later = append(s.later, removing...)
	s.letGo(b)
	decided := b.split()
	if len(b.entries) > 0 {
		s.mu.Lock()
		b.before(&s.pending)
		s.pending, *b = *b, batch{}
		s.mu.Unlock()
	}
	s.told(&decided)
}

// letGo takes note of the records of b that were removed before they were written.
func (s *Spool) letGo(b *batch) {
	for _, q := range s.all() {
		q.mu.Lock()
		defer q.mu.Unlock()
	}
	b.letGo()
}

// told calls what is to be called.
func (s *Spool) told(b *batch) {
	s.undecided.Add(-int64(len(b.entries)))
	for _, e := range b.entries {
		if e.done != nil {
			e.done(e.err)
		}
	}
}

// markDue reports whether the file is to be told what time it is, or to be looked at.
func (s *Spool) markDue(look bool) bool {
	if s.Len() > 0 && (time.Since(s.marked) >= markEvery || s.time.see() || look && s.file.inPlace(s.path) != nil) {
		s.due = true
	}
	return s.due
}

// store commits a batch, or what of it can be.
func (s *Spool) store(b *batch, removing []*Queue) error {
	s.marked, s.due, s.removes = time.Now(), false, false
	err := s.commit(b, removing)
	if err == nil {
		return nil
	}
	if full := errors.Is(err, bolterrors.ErrMaxSizeReached); full || len(removing) > 0 && b.bytes > 0 {
		// To remove some makes room. If that works, the records were within the
		// limit, but so scattered that the file has no room for more; or the disk
		// has none.
		failed := s.tryCommit(new(batch), removing)
		if s.removes = failed == nil; s.removes {
			removing = nil
		}
		if full {
			b.refuseAll(ErrFull)
			err = failed
		}
	}
	s.later = append(s.later, removing...)
	return err
}

// commit writes the records of b and removes those before the heads of the
// queues, in one transaction. A file that turns out to be damaged, or is not
// there, is replaced first.
func (s *Spool) commit(b *batch, removing []*Queue) error {
	if err := s.ensureFile(b); err != nil {
		return err
	}
	err := s.tryCommit(b, removing)
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		if err := s.replace(b, broken); err != nil {
			return err
		}
		return s.tryCommit(b, removing)
	}
	return err
}

// ensureFile sees to it that a file is open, and that it is the one at the path.
func (s *Spool) ensureFile(b *batch) error {
	if s.file.db == nil {
		return s.openFile(b)
	}
	if err := s.file.inPlace(s.path); err != nil {
		if failed := s.moveTo(b); failed != nil {
			return fmt.Errorf("%w; what it holds is still read, and cannot be put there: %w", err, failed)
		}
		s.log.Warn("the spool's file was removed or renamed, or something was mounted over its folder: what it held is in a new one now",
			"file", s.path, "messages", s.Len())
	}
	return nil
}

func (s *Spool) tryCommit(b *batch, removing []*Queue) error {
	for _, q := range removing {
		q.mu.Lock()
		q.goal = q.head
		q.mu.Unlock()
	}
	limit := s.sizeLimit()
	if b.bytes == 0 {
		limit += removeSlack
	}
	return s.update(limit, func(tx *bolt.Tx) error {
		for _, q := range removing {
			if err := s.removeFrom(tx, q); err != nil {
				return err
			}
		}
		if err := s.putAll(tx, b); err != nil {
			return err
		}
		s.time.see()
		return putMark(tx, s.time.mark())
	})
}

// removeFrom removes the records of q before its goal.
func (s *Spool) removeFrom(tx *bolt.Tx, q *Queue) error {
	bucket := tx.Bucket(q.bucket)
	if bucket == nil {
		return nil
	}
	var keys [][8]byte
	c := bucket.Cursor()
	for k, v := c.First(); k != nil && number(k) < q.goal; k, v = c.Next() {
		if len(keys) == removalsAtOnce {
			s.removeMore(q)
			break
		}
		s.file.touched.Add(int64(len(v)))
		s.file.release()
		keys = append(keys, [8]byte(k))
	}
	for _, key := range keys {
		if err := bucket.Delete(key[:]); err != nil {
			return err
		}
	}
	if k, _ := bucket.Cursor().First(); k == nil {
		return tx.DeleteBucket(q.bucket)
	}
	return nil
}

// putAll adds the records of b to their queues.
func (s *Spool) putAll(tx *bolt.Tx, b *batch) error {
	key := make([]byte, 8) // bbolt copies it
	for i := range b.entries {
		e := &b.entries[i]
		if !e.waits() {
			continue
		}
		bucket, err := tx.CreateBucketIfNotExists(e.queue.bucket)
		if err != nil {
			return fmt.Errorf("queue %s: %w", e.queue.name, err)
		}
		// Records only come at the end, so pages can be filled to the brim.
		bucket.FillPercent = 1
		binary.BigEndian.PutUint64(key, e.number)
		if err := bucket.Put(key, b.memory[e.start:e.end]); err != nil {
			return fmt.Errorf("queue %s: %w", e.queue.name, err)
		}
		// The pages written are read at the next commit, with their neighbours.
		s.file.touched.Add(int64(e.end - e.start))
	}
	return nil
}

// The file has a bucket of its own for what concerns all queues.
var (
	aboutBucket = []byte("about") // the queues' begin with q
	versionKey  = []byte("version")
	markKey     = []byte("mark")
)

// fileVersion is that of the file as a whole: a byte, and all its bits turned over,
// to tell it from a damaged one. Files of version 1 have none. A file holds records
// of its version and of those before it.
const fileVersion = recordVersion

// putMark has the file know what time it is.
func putMark(tx *bolt.Tx, m mark) error {
	about, err := tx.CreateBucketIfNotExists(aboutBucket)
	if err != nil {
		return err
	}
	return errors.Join(about.Put(versionKey, []byte{fileVersion, ^byte(fileVersion)}), about.Put(markKey, m.encode()))
}

// Keys are the records' numbers, big-endian, so that bbolt's order is theirs.
func number(key []byte) uint64 {
	if len(key) != 8 {
		return math.MaxUint64
	}
	return binary.BigEndian.Uint64(key)
}

// The names of queues have a letter before them, for bbolt has no empty names.
func bucketName(queue string) []byte { return []byte("q" + queue) }

const maxName = bolt.MaxKeySize
