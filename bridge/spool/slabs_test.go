package spool

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// What waits for the disk, and what is on its way there, is as much in all as is said, lies in
// memory that is as large, and that is used again.
func TestWhatWaitsForTheDiskTakesAsMuchMemoryAsItCounts(t *testing.T) {
	var hangs atomic.Bool
	reached, goOn := make(chan struct{}, 1), make(chan struct{})
	opened := time.Now()
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 64 << 20, files: files{fault: func(op, _ string) error {
		if op == "sync" && hangs.CompareAndSwap(true, false) {
			reached <- struct{}{}
			<-goOn
		}
		return nil
	}}})
	q := s.Queue("rule")
	r := record(strings.Repeat("x", 87_000))
	const most, rounds = pendingMax, 3
	all := map[*byte]bool{} // slabs, by their beginning
	fill := func(round, n int, done func(error)) int {
		for ok := true; ok; {
			if _, ok = q.Append(r, done); ok {
				n++
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if got, size := s.pending.memory+s.writing, r.size()+entryCost; got > most || got <= most-size {
			t.Errorf("round %d: %d bytes wait, want %d, less at most one record", round, got, most)
		}
		for _, slab := range s.pending.slabs {
			all[&slab[0]] = true
		}
		return n
	}
	for round := range rounds {
		safe := make(chan error, 2*most/87_000+1)
		done := func(err error) { safe <- err }
		hangs.Store(true)
		q.Append(r, done)
		<-reached
		q.Append(r, func(err error) {
			done(err)
			reached <- struct{}{}
			<-goOn
		})
		n := fill(round, 2, done) // while the first is on its way to the disk
		goOn <- struct{}{}
		<-reached
		n = fill(round, n, done) // when all these are there, and nobody writes as long as that is told
		goOn <- struct{}{}
		for range n {
			if err := <-safe; err != nil {
				t.Fatal(err)
			}
		}
	}
	// The first record of a round may come before those of the last one are given back, and those
	// that are let go of meanwhile are made again.
	trimmed := int(time.Since(opened)/lookEvery) * (maxSlabs - keptSlabs)
	if want := maxSlabs + rounds + trimmed; len(all) > want {
		t.Errorf("%d slabs were made, want no more than %d", len(all), want)
	}
	s.mu.Lock()
	s.slabs.trim()
	kept := len(s.slabs.free)
	s.mu.Unlock()
	if kept > keptSlabs {
		t.Errorf("%d slabs are kept while nothing is to be written, want %d", kept, keptSlabs)
	}
}

// A record that is long has memory of its own, so that little of a slab is left unused.
func TestLongRecordsLeaveSlabsFull(t *testing.T) {
	var b batch
	var from slabs
	for _, n := range []int{100, slabSize/4 + 1, slabSize / 4, slabSize / 4, slabSize / 4, slabSize / 4, maxRecord} {
		room := b.room(n, &from)
		if len(room) != 0 || cap(room) != n {
			t.Fatalf("%d: %d of %d", n, len(room), cap(room))
		}
	}
	if len(b.slabs) != 2 || len(b.slabs[0]) != 100+3*slabSize/4 {
		t.Errorf("%d slabs, %d bytes of the first are in use", len(b.slabs), len(b.slabs[0]))
	}
}

// What waits for a disk that hangs takes as much memory as it may however short the records are,
// and where they are refused, too.
func TestShortRecordsThatWaitForTheDiskTakeBoundedMemory(t *testing.T) {
	short := Record{Topic: []byte("a/b"), Payload: []byte("1")}
	for _, c := range []struct {
		name   string
		size   int64 // of the spool
		append func(*Queue) bool
	}{
		{"taken", 64 << 20, func(q *Queue) bool { _, ok := q.Append(short, nil); return ok }},
		{"the spool is full", short.size(), func(q *Queue) bool { _, ok := q.Append(short, func(error) {}); return ok }},
		{"refused by the caller", 64 << 20, func(q *Queue) bool { return q.Refuse(ErrFull, func(error) {}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var hangs atomic.Bool
			reached, goOn := make(chan struct{}), make(chan struct{})
			s := open(t, Options{Dir: t.TempDir(), MaxSize: c.size, files: files{fault: func(op, _ string) error {
				if op == "sync" && hangs.CompareAndSwap(true, false) {
					close(reached)
					<-goOn
				}
				return nil
			}}})
			defer close(goOn)
			q := s.Queue("rule")
			hangs.Store(true)
			q.Append(short, nil)
			<-reached
			n := 0
			for n < pendingMax/8 && c.append(q) {
				n++
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			took := cap(s.pending.entries)*int(unsafe.Sizeof(entry{})) + len(s.pending.slabs)*slabSize
			if took > pendingMax {
				t.Errorf("%d entries wait in %d bytes, want %d at most", n, took, pendingMax)
			}
			if n < pendingMax/1000 {
				t.Errorf("%d wait, and there is room for more", n)
			}
		})
	}
}
