package spill

import (
	"time"

	"topicast/bridge/account"
	"topicast/bridge/spool"
)

const (
	// discardSize is how many messages are looked at at a time to be discarded.
	discardSize = 256
	// discardMost is how many one Discard removes: a disk may take minutes for all, and others wait.
	discardMost = 4096
)

// Discard removes what came before a moment, at most discardMost, and counts it. It reports how many
// that was, and whether some are left: there are more, the front is being passed on, or they are on their way to the
// disk.
func (q *Queue) Discard(before time.Time) (n int, left bool) {
	var records [discardSize]spool.Record
	for n < discardMost {
		b, ok := q.TryFront(records[:])
		if !ok {
			return n, true
		}
		older := olderThan(b.Records, before)
		b.Remove(older)
		if older > 0 {
			q.of.mu.Lock()
			rule := q.rule
			q.of.mu.Unlock()
			rule.Losses.CountMany(rule.Name, account.ReasonFlushed, older)
			n += older
		}
		switch {
		case older < len(b.Records):
			return n, false
		case len(b.Records) == 0 && b.Lost == 0:
			return n, q.Len() > 0
		}
	}
	return n, true
}

// olderThan is how many records in front came before a moment.
func olderThan(records []spool.Record, before time.Time) int {
	age := time.Since(before)
	for i, r := range records {
		if r.Age < age {
			return i
		}
	}
	return len(records)
}

// DiscardUnused removes what a rule has on disk that is not there, or does not use the spool now, and
// counts it.
func (s *Queues) DiscardUnused(rule string) (n int) {
	s.mu.Lock()
	lone, of := s.lone()
	s.mu.Unlock()
	var records [discardSize]spool.Record
	for i, p := range lone {
		if of[i].Name != rule || !p.reading.TryLock() {
			continue
		}
		for {
			found, lost := p.Front(records[:], 0)
			p.Remove(found)
			s.o.Losses(rule).CountMany(rule, account.ReasonFlushed, found)
			s.o.Losses(rule).CountSpoolLosses(rule, lost.Expired, lost.Damaged)
			if n += found; found == 0 && lost == (spool.Lost{}) {
				break
			}
		}
		p.reading.Unlock()
	}
	return n
}
