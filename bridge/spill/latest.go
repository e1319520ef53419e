package spill

import (
	"hash/maphash"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/spool"
)

// latest is what is known of a queue of which only the latest message of each topic is
// wanted: when that came. Callers hold the Queues' mu.
type latest struct {
	came map[uint64]time.Duration // by the topic's hash
	all  bool                     // of all that is on disk; else Tidy has to look
	kept int                      // what Tidy could not drop the last time
}

// maxLatest bounds the topics whose latest is known, of all rules. Of what is beyond each
// message is passed on.
const maxLatest = 1 << 18

var topicSeed = maphash.MakeSeed()

// noteLatest notes that a message of a topic has come.
func (q *Queue) noteLatest(topic []byte, came time.Duration) {
	hash := maphash.Bytes(topicSeed, topic)
	last, known := q.latest.came[hash]
	if !known && q.of.known >= q.of.most {
		return
	}
	if !known {
		q.of.known++
	}
	if q.latest.came == nil {
		q.latest.came = make(map[uint64]time.Duration)
	}
	q.latest.came[hash] = max(last, came)
}

// forgetLatest forgets all topics: the queue is empty, or another one.
func (q *Queue) forgetLatest() {
	q.of.known -= len(q.latest.came)
	q.latest = latest{}
}

// passed forgets the topics whose latest is passed on.
func (q *Queue) passed(records []spool.Record) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	if q.latest.came == nil {
		return
	}
	for i := range records {
		hash := maphash.Bytes(topicSeed, records[i].Topic)
		if came, known := q.latest.came[hash]; known && came == records[i].Came {
			delete(q.latest.came, hash)
			q.of.known--
		}
	}
}

// Superseded reports whether a message is to be left out, for a later one of its topic is on
// disk and only that is wanted.
func (q *Queue) Superseded(r *spool.Record) bool {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	return q.superseded(r)
}

// superseded does the work of Superseded. Callers hold the Queues' mu.
func (q *Queue) superseded(r *spool.Record) bool {
	return q.rule.Latest && q.latest.came[maphash.Bytes(topicSeed, r.Topic)] > r.Came
}

// Untidy reports whether Tidy has to be called before what is in front is passed on: it is
// not known which messages are the latest.
func (q *Queue) Untidy() bool {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	return q.rule.Latest && !q.latest.all && q.of.o.Spool.Err() == nil
}

// Outgrown reports whether so much has been appended since Tidy that it is worth another one.
func (q *Queue) Outgrown() bool {
	n := q.Len()
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	return q.rule.Latest && n > 2*q.latest.kept+LowWater
}

// Tidy goes once through all that is on disk of a rule that wants the latest of each topic:
// what was superseded is dropped, and what was not goes to the end, by again, which appends
// it. Then it is known of each message whether it is the latest. It reports whether it
// came to the end: again may be false, as Append is.
func (q *Queue) Tidy(work []spool.Record, again func(spool.Record) bool) bool {
	kept := 0
	for left := q.Len(); left > 0; {
		b := q.Front(work[:min(left, len(work))])
		left -= len(b.Records) + b.Lost
		if len(b.Records)+b.Lost == 0 {
			break // what is left is on its way to the disk, and known
		}
		moved, ok := b.moveLatest(again)
		kept += moved
		if !ok {
			return false
		}
	}
	q.of.mu.Lock()
	q.latest.all, q.latest.kept = true, kept
	q.of.mu.Unlock()
	return true
}

// moveLatest moves those that are the latest to the end of the queue, and removes all, as
// far as again takes them. For the moment in which they are there twice they count once: a
// full spool has room for what it holds.
func (b *Batch) moveLatest(again func(spool.Record) bool) (moved int, ok bool) {
	if b.piece == nil {
		return 0, true
	}
	done, twice := 0, int64(0)
	for ok = true; done < len(b.Records); done++ {
		r := &b.Records[done]
		if b.queue.Superseded(r) {
			b.queue.countSuperseded()
			continue
		}
		twice += recordSize(r)
		b.queue.countOnce(recordSize(r))
		if ok = again(*r); !ok {
			break
		}
		moved++
	}
	queue := b.queue
	b.piece.RemoveCopied(done)
	b.give(0)
	queue.countOnce(-twice)
	return moved, ok
}

// countOnce has bytes that are there twice count once.
func (q *Queue) countOnce(bytes int64) {
	q.of.mu.Lock()
	defer q.of.mu.Unlock()
	q.twice += bytes
	q.of.o.Spool.Copies(bytes)
}

// countSuperseded counts a message on disk that a later one has taken the place of.
func (q *Queue) countSuperseded() {
	q.of.mu.Lock()
	rule := q.rule
	q.of.mu.Unlock()
	rule.Losses.CountFor(rule.Name, account.ReasonSuperseded, 1)
}
