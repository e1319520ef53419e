//go:build unix

package configs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whoever opened a pipe would wait for its other end.
func TestAPipeIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "password"), 0o600); err != nil {
		t.Skip(err)
	}
	file := filepath.Join(dir, "x.yaml")
	writeFile(t, file, []byte("broker: {username: joe, password_file: password}\n"+oneRule))
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	var faults, warnings Errors
	done := make(chan struct{})
	go func() {
		defer close(done)
		faults, warnings = c.ExamineFiles(examined)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for the other end")
	}
	if len(faults) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0].Error(), "x.yaml:1:40: broker.password_file: ") ||
		!strings.Contains(warnings[0].Error(), "is not a file but a pipe or a device") {
		t.Errorf("%v, %v", faults, warnings)
	}
}

func TestALoopOfLinksHasAHintOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	for from, to := range map[string]string{"a": "b", "b": "a"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "x.yaml")
	writeFile(t, file, []byte("broker: {username: joe, password_file: a}\n"+oneRule))
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, warnings := c.ExamineFiles(examined); len(warnings) != 1 || !strings.Contains(warnings[0].Hint, "symbolic links lead back") {
		t.Errorf("%v", report(warnings))
	}
	if _, err := c.Broker.Password(); err == nil || !strings.Contains(err.Error(), "symbolic links lead back") {
		t.Error(err)
	}
}

func TestWritableMakesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := writable(dir); err != nil {
		t.Error(err)
	}
	if err := writable(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if os.Geteuid() == 0 {
		return // may write everywhere
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := writable(dir); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}
