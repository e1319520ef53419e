//go:build unix

package lastsent

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Whatever stands where the new file is to be written is no reason to wait: a pipe would
// hold the one who opens it until somebody reads it.
func TestAPipeInThePlaceOfTheNewFileIsRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, fileName+".new"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := opened(t, Options{Dir: dir})
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
	if k := s.killed(t, Options{}); !k.of(1).Was(on) {
		t.Error("not known")
	}
}

// A link in the place of the lock is not followed: it could have any file be made, or locked.
func TestALinkInThePlaceOfTheLockIsRefused(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	lock := filepath.Join(dir, fileName+".lock")
	if err := os.Symlink(target, lock); err != nil {
		t.Fatal(err)
	}
	var l logged
	s := opened(t, Options{Dir: dir, Logger: l.logger(), retry: 1})
	if _, err := os.Stat(target); err == nil || !l.says(lock+": no regular file, but a symbolic link") {
		t.Errorf("%v; the log says %q", err, l.buf.String())
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	e := s.of(1)
	s.send(e, on)
	s.written(t, e, on)
}
