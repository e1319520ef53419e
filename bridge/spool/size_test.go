package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What is on disk may take twice max_size, a tenth and 16 MiB, whatever the size of the
// records, and however often it is filled and drained.
func TestTheFileStaysWithinItsBounds(t *testing.T) {
	const maxSize = 4 << 20
	for _, payload := range []int{0, 128, 2050, 4100, 65507} {
		t.Run(fmt.Sprint(payload), func(t *testing.T) {
			s := open(t, Options{Dir: t.TempDir(), MaxSize: maxSize})
			largest := int64(0)
			for round := range 3 {
				fill(t, s, payload)
				if s.Bytes() < maxSize*9/10 {
					t.Fatalf("round %d: full at %d bytes", round, s.Bytes())
				}
				// One queue is drained, the other keeps the file from being empty.
				drain(t, s.Queue("a"), 1000)
				fill(t, s, payload)
				drain(t, s.Queue("b"), 1000)
				largest = max(largest, fileSize(t, s))
				drain(t, s.Queue("a"), 1000)
			}
			if largest > 2*maxSize+maxSize/10+16<<20 {
				t.Errorf("the files became %d bytes", largest)
			}
			t.Logf("%d bytes in records of %d: files of %d", maxSize, payload, largest)
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

// fileSize is what is in the folder.
func fileSize(t *testing.T, s *Spool) (sum int64) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // it may be about to be replaced
			sum += info.Size()
		}
	}
	return sum
}
