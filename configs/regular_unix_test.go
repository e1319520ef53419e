//go:build unix

package configs

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// To open a pipe that nobody writes to would wait for ever, and a device has no end.
func TestWhatIsNoRegularFileIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	zero := filepath.Join(dir, "zero")
	if err := os.Symlink("/dev/zero", zero); err != nil {
		t.Fatal(err)
	}
	for file, kind := range map[string]string{pipe: "a pipe", zero: "a device", dir: "a folder"} {
		want := "no regular file, but " + kind
		b := &Broker{Username: "u", PasswordFile: file}
		if _, err := b.Password(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "at each connect") {
			t.Errorf("password_file: %v, want %s", err, want)
		}
		b.TLS = TLS{CAFile: file}
		if _, err := b.TLSConfig("broker"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ca_file: %v, want %s", err, want)
		}
		if err := Regular(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Regular: %v, want %s", err, want)
		}
		if _, _, err := readLastGood(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("last good one: %v, want %s", err, want)
		}
	}
	if _, err := readConfig(zero); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a configuration without an end: %v", err)
	}
	if err := Regular(filepath.Join(dir, "none")); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
}
