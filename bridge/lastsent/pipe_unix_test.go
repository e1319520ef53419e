//go:build unix

package lastsent

import (
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
