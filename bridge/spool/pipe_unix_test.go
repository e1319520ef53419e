//go:build unix

package spool

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A pipe in place of a file is refused, and not waited for.
func TestAPipeInPlaceOfAFileIsNotWaitedFor(t *testing.T) {
	for _, name := range []string{"spool-state-a.v3", "spool-lock", segmentName(1, 1), oldName} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Skip(err)
		}
		s := open(t, Options{Dir: dir, MaxSize: 1 << 20, retry: time.Millisecond})
		if !errors.Is(s.Err(), errNoFile) {
			t.Fatalf("%s: %v", name, s.Err())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "its use", func() bool { return s.Err() == nil })
	}
}
