//go:build unix

package deadletter

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe in place of the file is neither waited for nor written to, and named.
func TestAPipeInPlaceOfTheFileIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f := Open(path, slog.New(slog.NewTextHandler(&log, nil)))
	kept := make(chan struct{})
	if !f.Add(Letter{Topic: "a/b"}, func() { close(kept) }) {
		t.Fatal("refused")
	}
	<-kept
	f.Close()
	if !strings.Contains(log.String(), "no regular file, but a pipe") {
		t.Errorf("log: %s", log.String())
	}
}
