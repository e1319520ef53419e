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

// retryAfter is how long a removal that failed waits for its next try, unless
// something else is committed before.
const retryAfter = time.Second

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
		s.write(&b, removing)
		s.mu.Lock()
		s.spare = b.emptied()
		s.mu.Unlock()
	}
	s.closeErr = s.file.close()
}

// take waits until there is something to commit. There is no more when the
// spool is closing and nothing waits.
func (s *Spool) take() (b batch, removing []*Queue, more bool) {
	for {
		s.mu.Lock()
		b, s.pending, s.spare = s.pending, s.spare, batch{}
		removing, s.removing = s.removing, nil
		for _, q := range removing {
			q.removing = false
		}
		idle := len(b.entries) == 0 && len(removing) == 0 && s.file.broken.Load() == nil
		if idle {
			s.pending = b
		}
		s.ended = idle && s.closing
		ended := s.ended
		s.mu.Unlock()
		if ended {
			return batch{}, nil, false
		}
		if !idle || s.rest() {
			removing, s.later = append(removing, s.later...), nil
			return b, removing, true
		}
	}
}

// rest waits for something to do. True means that it is time for what failed.
func (s *Spool) rest() bool {
	if len(s.later) == 0 {
		<-s.wake
		return false
	}
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-s.wake:
		return false
	case <-timer.C:
		return true
	}
}

// write commits a batch and calls what is to be called.
func (s *Spool) write(b *batch, removing []*Queue) {
	if b.bytes > 0 || len(removing) > 0 || s.file.broken.Load() != nil {
		s.tell(s.store(b, removing))
	}
	for _, e := range b.entries {
		if e.done != nil {
			e.done(e.err)
		}
	}
	if err := s.shrink(); err != nil {
		s.tell(err)
	}
}

// store commits a batch and settles its entries.
func (s *Spool) store(b *batch, removing []*Queue) error {
	applied, err := s.commit(b, removing)
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		// The records are within the limit, but so scattered that the file has
		// no room for more. To remove some makes it.
		b.settle(false, ErrFull)
		_, err = s.commit(b, removing)
	}
	if err != nil {
		s.later = removing
	}
	b.settle(applied, err)
	return err
}

// tell logs when commits begin to fail and when they work again.
func (s *Spool) tell(err error) {
	failing := err != nil
	switch {
	case failing && !s.failing:
		s.log.Error("cannot write to the spool; messages for it are lost until this works again: "+
			"make room on its disk, or look at the disk's health", "file", s.path, "err", err)
	case !failing && s.failing:
		s.log.Info("writing to the spool works again", "file", s.path)
	}
	s.failing = failing
	s.trouble.Store(nil)
	if failing {
		s.trouble.Store(&err)
	}
}

// commit writes the records of b and removes those before the heads of the
// queues, in one transaction. A file that turns out to be damaged, or is not
// there, is replaced first. It says whether the changes are in the file, which
// they can be in spite of an error.
func (s *Spool) commit(b *batch, removing []*Queue) (applied bool, err error) {
	if s.file.db == nil {
		if err := s.openFile(); err != nil {
			return false, err
		}
	}
	applied, err = s.tryCommit(b, removing)
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		if err := s.replace(b, broken); err != nil {
			return false, err
		}
		return s.tryCommit(b, removing)
	}
	return applied, err
}

func (s *Spool) tryCommit(b *batch, removing []*Queue) (applied bool, err error) {
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
		return s.putAll(tx, b)
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
	added := map[*Queue]uint64{}
	key := make([]byte, 8) // bbolt copies it
	for i := range b.entries {
		e := &b.entries[i]
		if e.err != nil {
			continue
		}
		bucket, err := tx.CreateBucketIfNotExists(e.queue.bucket)
		if err != nil {
			return fmt.Errorf("queue %s: %w", e.queue.name, err)
		}
		// Records only come at the end, so pages can be filled to the brim.
		bucket.FillPercent = 1
		binary.BigEndian.PutUint64(key, e.queue.next+added[e.queue])
		added[e.queue]++
		if err := bucket.Put(key, b.memory[e.start:e.end]); err != nil {
			return fmt.Errorf("queue %s: %w", e.queue.name, err)
		}
		// The pages written are read at the next commit, with their neighbours.
		s.file.touched.Add(int64(e.end - e.start))
	}
	return nil
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
