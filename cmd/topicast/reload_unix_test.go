//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"
)

// A pipe in the place of the file would be waited for, and with it every reload to come.
func TestAPipeInThePlaceOfTheFileIsRefused(t *testing.T) {
	r := newReloadTest(t, oneRule)
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(r.file, 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload(t.Context(), true)
	r.told("failed: .*topicast.yaml: no regular file, but a pipe")
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.write(twoRules)
	r.reload(t.Context(), true)
	r.told("reload 2$")
}
