package spool

// A batch is what is committed together: records in the order they were
// appended, and between them, in their place, the appends that were refused.
type batch struct {
	entries []entry
	memory  []byte // the encoded records, one after the other
	bytes   int64  // what the records count
}

type entry struct {
	queue      *Queue
	start, end int   // in memory
	bytes      int64 // what it counts
	err        error // refused, or not written
	done       func(error)
}

func (b *batch) add(q *Queue, r *Record, bytes int64, done func(error)) {
	start := len(b.memory)
	b.memory = appendRecord(b.memory, r)
	b.bytes += bytes
	b.entries = append(b.entries, entry{queue: q, start: start, end: len(b.memory), bytes: bytes, done: done})
}

func (b *batch) refuse(q *Queue, err error, done func(error)) {
	b.entries = append(b.entries, entry{queue: q, err: err, done: done})
}

// emptied is the batch without its entries, and with its memory if that is not
// too much to keep.
func (b *batch) emptied() batch {
	const keep = 1 << 20
	if cap(b.memory) > keep {
		return batch{}
	}
	clear(b.entries) // let go of what they point to
	return batch{entries: b.entries[:0], memory: b.memory[:0]}
}

// settle decides the entries that are not refused yet. An error counts even if
// the records are in the file: nobody knows then whether they stay there.
func (b *batch) settle(applied bool, err error) {
	for i := range b.entries {
		e := &b.entries[i]
		if e.err != nil {
			continue
		}
		if applied {
			e.queue.next++
		} else {
			e.queue.count(-1, -e.bytes)
		}
		e.err = err
	}
	b.bytes = 0
}
