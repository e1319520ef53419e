//go:build unix

package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A configuration may be a pipe, to open which waits for whoever writes it.
func TestACommandThatWaitsForAPipeCanBeStopped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Skip(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for name, command := range map[string]func() error{
		"check":   func() error { return runCheck(ctx, checkOptions{files: []string{file}}, io.Discard, io.Discard) },
		"explain": func() error { return runExplain(ctx, "a", "", file, sample{}, io.Discard) },
		"run":     func() error { _, _, err := loadAtStart(ctx, file, nil); return err },
	} {
		ended := make(chan error, 1)
		go func() { ended <- command() }()
		select {
		case err := <-ended:
			if !errors.Is(err, errEnded) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: it waits on", name)
		}
	}
	// The readers that were left behind end too.
	if w, err := syscall.Open(file, syscall.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		_ = syscall.Close(w)
	}
}
