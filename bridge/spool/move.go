package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// copyBytes is about how much one transaction copies.
const copyBytes = 1 << 20

// A move is the way of what a file holds, which is open and no longer at its path,
// to the one that is there now. Others read from it meanwhile, and let go of what
// they have read.
type move struct {
	spool *Spool
	to    *file
	holds contents      // what is there already, which is older
	time  *timeline     // there
	by    time.Duration // by how much it is ahead
	moved map[*Queue]span
}

// A span is what was copied of a queue: the records from a number on, whose numbers
// are larger now.
type span struct{ from, larger uint64 }

// moveTo opens the file at the path, or makes one, and takes over there what the one
// that is open holds. Should that not work, both are as before.
func (s *Spool) moveTo(b *batch) error {
	db, disk, holds, err := s.openWhole()
	if err != nil {
		return err
	}
	m := &move{spool: s, to: new(file), holds: holds, time: s.timeOf(&holds), moved: map[*Queue]span{}}
	m.by = s.time.copy().become(m.time)
	err = m.to.use(db, disk, s.sizeLimit()+removeSlack)
	if err == nil {
		err = m.copyAll()
	}
	if err == nil {
		err = m.finish(b)
	}
	if err != nil {
		m.undo()
		return errors.Join(err, m.to.close())
	}
	return nil
}

// copyAll copies all queues.
func (m *move) copyAll() error {
	s := m.spool
	next := map[string]uint64{}
	for _, c := range m.holds.queues {
		next[c.name] = c.next
	}
	for _, q := range s.all() {
		q.mu.Lock()
		at := span{from: q.head, larger: next[q.name]}
		q.mu.Unlock()
		m.moved[q] = at
		for from := at.from; ; {
			records, err := s.file.some(q, from)
			if err != nil {
				return err
			}
			if len(records) == 0 {
				break
			}
			if err := m.put(q, at.larger, records); err != nil {
				return err
			}
			from = records[len(records)-1].number + 1
		}
	}
	return nil
}

// A copied record has memory of its own.
type copied struct {
	number uint64
	value  []byte
}

// some reads records of a queue from a number on.
func (f *file) some(q *Queue, from uint64) (records []copied, err error) {
	err = f.transact(false, func(tx *bolt.Tx) error {
		bucket := tx.Bucket(q.bucket)
		if bucket == nil {
			return nil
		}
		size := 0
		c := bucket.Cursor()
		for k, v := c.Seek(binary.BigEndian.AppendUint64(nil, from)); k != nil && size < copyBytes && len(records) < removalsAtOnce; k, v = c.Next() {
			records = append(records, copied{number(k), bytes.Clone(v)})
			size += len(v) + Overhead
			f.touched.Add(int64(len(v)))
		}
		return nil
	})
	return records, err
}

// put adds records to the file that is moved to.
func (m *move) put(q *Queue, larger uint64, records []copied) error {
	m.to.db.MaxSize = math.MaxInt // what was within the limit there is so here
	err := m.to.transact(true, func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(q.bucket)
		if err != nil {
			return err
		}
		bucket.FillPercent = 1
		for _, r := range records {
			if m.by != 0 && whole(r.value) {
				r.value = stampedLater(r.value, m.by)
			}
			if err := bucket.Put(binary.BigEndian.AppendUint64(nil, r.number+larger), r.value); err != nil {
				return err
			}
			m.to.touched.Add(int64(len(r.value)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.to.measure()
}

// stampedLater is a record that came later, in the version of today.
func stampedLater(value []byte, by time.Duration) []byte {
	if len(value) < recordHeader {
		return value
	}
	at := recordAt(value)
	value[4] = recordVersion
	binary.BigEndian.PutUint64(value[6:], uint64(at))
	shift(value, by)
	return value
}

// finish puts the file that was moved to in place of the other. What was let go of
// meanwhile is let go of there too.
func (m *move) finish(b *batch) error {
	s := m.spool
	for q := range m.moved {
		q.mu.Lock()
		defer q.mu.Unlock()
	}
	err := m.to.transact(true, func(tx *bolt.Tx) error {
		for q, at := range m.moved {
			bucket := tx.Bucket(q.bucket)
			for n := at.from; bucket != nil && n < q.head; n++ {
				if err := bucket.Delete(binary.BigEndian.AppendUint64(nil, n+at.larger)); err != nil {
					return err
				}
			}
		}
		return putMark(tx, m.time.mark())
	})
	if err != nil {
		return err
	}
	s.adopt(b, &m.holds, m.time, true)
	for q, at := range m.moved {
		if at.larger > 0 {
			q.head, q.taken = 0, nil // what is there already comes first
		}
	}
	return s.file.become(m.to)
}

// undo takes out again what was copied, as far as that can be.
func (m *move) undo() {
	if len(m.holds.queues) == 0 {
		os.Remove(m.spool.path)
		return
	}
	_ = m.to.transact(true, func(tx *bolt.Tx) error {
		for q, at := range m.moved {
			bucket := tx.Bucket(q.bucket)
			if bucket == nil {
				continue
			}
			c := bucket.Cursor()
			for k, _ := c.Seek(binary.BigEndian.AppendUint64(nil, at.from+at.larger)); k != nil; k, _ = c.Next() {
				if err := c.Delete(); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// become has what other has, and closes what it had.
func (f *file) become(other *file) error {
	f.swap.Lock()
	db, disk, stuck := f.db, f.disk, f.stuck.Load()
	f.db, f.disk, f.is, f.mapped = other.db, other.disk, other.is, other.mapped
	f.size.Store(other.size.Load())
	f.touched.Store(0)
	f.stuck.Store(false)
	f.broken.Store(nil)
	f.swap.Unlock()
	if stuck {
		return disk.Close()
	}
	return guard(db.Close)
}
