package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Of the faults of configs/testdata/bad, what check prints is what configs
// found, each with its file, line and path: configs/testdata/bad.txt.
func TestCheckTellsTheLineAndPathOfEveryBadFile(t *testing.T) {
	bad := filepath.Join("..", "..", "configs", "testdata", "bad")
	expected, err := os.ReadFile(bad + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string) // by file
	file := ""
	for line := range strings.Lines(string(expected)) {
		if hint, ok := strings.CutPrefix(line, "    hint: "); ok {
			want[file] += "hint: " + hint
			continue
		}
		file, _, _ = strings.Cut(line, ":")
		want[file] += "topicast: error: " + line
	}
	t.Chdir(bad)
	files, err := filepath.Glob("*")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 || len(want) != len(files) {
		t.Fatalf("%d files, %d of them in bad.txt", len(files), len(want))
	}
	for _, file := range files {
		status, stdout, stderr := topicast(t, "check", file)
		if status != exitFailed {
			t.Errorf("%s: exit status %d", file, status)
		}
		if stdout != "" {
			t.Errorf("%s: stdout: %s", file, stdout)
		}
		if diff := cmp.Diff(want[file], stderr); diff != "" {
			t.Errorf("%s (-want +got)\n%s", file, diff)
		}
	}
}

func TestCheckAcceptsEveryConfigurationOfTheTree(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		status, stdout, stderr := topicast(t, "check", file)
		if status != exitDone || !strings.HasSuffix(stdout, ": ok\n") || strings.Contains(stderr, "error") {
			t.Errorf("%s: exit status %d\n%s%s", file, status, stdout, stderr)
		}
	}
}
