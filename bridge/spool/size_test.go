package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The file may have twice what it holds, and 16 MiB, whatever the size of the
// records, and however often it is filled and drained.
func TestTheFileStaysWithinItsBounds(t *testing.T) {
	const maxSize = 4 << 20
	for _, payload := range []int{0, 128, 2050, 4100, 65507} {
		t.Run(fmt.Sprint(payload), func(t *testing.T) {
			s := open(t, Options{Dir: t.TempDir(), MaxSize: maxSize})
			largest, after := int64(0), int64(0)
			for round := range 3 {
				fill(t, s, payload)
				if s.Bytes() < maxSize*9/10 {
					t.Fatalf("round %d: full at %d bytes", round, s.Bytes())
				}
				// One queue is drained, the other keeps the file from being empty.
				drain(t, s.Queue("a"), 1000)
				fill(t, s, payload)
				drain(t, s.Queue("b"), 1000)
				size := fileSize(t, s)
				largest = max(largest, size)
				if round == 0 {
					after = size
				}
				drain(t, s.Queue("a"), 1000)
			}
			if largest > 2*maxSize+16<<20 {
				t.Errorf("the file became %d bytes", largest)
			}
			if largest > after+2<<20 {
				t.Errorf("the file goes on growing: %d bytes after a round, then %d", after, largest)
			}
			t.Logf("%d bytes in records of %d: a file of %d", maxSize, payload, largest)
		})
	}
}

// fill appends to two queues in turn until the spool is full.
func fill(t *testing.T, s *Spool, payload int) {
	t.Helper()
	r := record(strings.Repeat("x", payload))
	atOnce := max(10, 200_000/(payload+Overhead))
	for {
		results := make(chan error, atOnce)
		for i := range atOnce {
			s.Queue([]string{"a", "b"}[i%2]).Append(r, func(err error) { results <- err })
		}
		var last error
		for range atOnce {
			if err := <-results; err != nil {
				last = err
			}
		}
		if errors.Is(last, ErrFull) {
			return
		}
		if last != nil {
			t.Fatal(last)
		}
	}
}

func TestAnEmptyFileBecomesSmallAgain(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), MaxSize: 32 << 20})
	fill(t, s, 1000)
	large := fileSize(t, s)
	for _, name := range s.Names() {
		drain(t, s.Queue(name), 256)
	}
	for range 1000 {
		if fileSize(t, s) < large/10 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if small := fileSize(t, s); small > large/10 {
		t.Errorf("%d bytes when full, %d when empty", large, small)
	}
	appendNow(t, s.Queue("a"), record("x"))
	closeNow(t, s)
}

func fileSize(t *testing.T, s *Spool) int64 {
	t.Helper()
	for range 100 { // it may be about to be replaced
		if info, err := os.Stat(s.path); err == nil {
			return info.Size()
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the file is gone")
	return 0
}
