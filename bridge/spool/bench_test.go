package spool

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

var payload = make([]byte, 128)

// Each append is on disk and said to be before the benchmark ends.
func BenchmarkAppend(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir(), MaxSize: 1 << 40})
	q := s.Queue("rule")
	appendMany(b, q, b.N)
}

// appendMany appends n records, with 10,000 under way at most.
func appendMany(b *testing.B, q *Queue, n int) {
	window := make(chan struct{}, 10_000)
	var all sync.WaitGroup
	all.Add(n)
	r := record(string(payload))
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		window <- struct{}{}
		q.Append(r, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-window
			all.Done()
		})
	}
	all.Wait()
}

func BenchmarkFrontAndRemove(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir(), MaxSize: 1 << 40})
	q := s.Queue("rule")
	appendMany(b, q, b.N)
	dst := make([]Record, 256)
	b.ResetTimer()
	for q.Len() > 0 {
		n, _ := q.Front(dst, time.Hour)
		q.Remove(n)
	}
	if err := s.Close(); err != nil { // with what is to be removed from disk
		b.Fatal(err)
	}
}

// One message at a time, as a slow sender has it: the time until it is safe.
func BenchmarkAppendOne(b *testing.B) {
	q := open(b, Options{Dir: b.TempDir(), MaxSize: 1 << 30}).Queue("rule")
	for b.Loop() {
		appendNow(b, q, record(string(payload)))
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, records := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(records), func(b *testing.B) {
			dir := b.TempDir()
			s := open(b, Options{Dir: dir, MaxSize: 1 << 40})
			appendMany(b, s.Queue("rule"), records)
			closeNow(b, s)
			b.ResetTimer()
			for b.Loop() {
				closeNow(b, open(b, Options{Dir: dir, MaxSize: 1 << 40}))
			}
		})
	}
}
