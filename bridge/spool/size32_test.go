package spool

import (
	"strconv"
	"strings"
	"testing"
)

// What 32 bits can address has room for the largest spool there may be.
func TestTheLargestSpoolCanBeOpened(t *testing.T) {
	dir := t.TempDir()
	if s, err := Open(Options{Dir: dir, MaxSize: Largest}); strconv.IntSize == 32 {
		if err != nil || s.Err() != nil {
			t.Fatal(err, s.Err())
		}
		defer s.Close()
		appendNow(t, s.Queue("rule"), record("x"))
		check(t, oldest(t, s.Queue("rule"), 1), "x")
	} else if err == nil {
		closeNow(t, s) // nobody has so much
	}
	if _, err := Open(Options{Dir: dir, MaxSize: Largest + 1}); err == nil || !strings.Contains(err.Error(), "set at most "+strconv.FormatInt(Largest, 10)) {
		t.Errorf("got %v", err)
	}
}
