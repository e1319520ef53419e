package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/configs"
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
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "examples", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range append(files, filepath.Join("..", "..", "configs", "reference.yaml")) {
		status, stdout, stderr := topicast(t, "check", file)
		if status != exitDone || !strings.HasSuffix(stdout, ": ok\n") || strings.Contains(stderr, "error") {
			t.Errorf("%s: exit status %d\n%s%s", file, status, stdout, stderr)
		}
	}
}

// The document in the help is one that --json prints: with these fields and no other.
func TestTheHelpOfCheckShowsTheDocumentThatItPrints(t *testing.T) {
	long := newCheckCommand().Long
	shown := long[strings.Index(long, "  {\"ok\""):]
	shown, _, _ = strings.Cut(shown, "\n\n")
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	text := "# a rule\n\nsend:\n  - filter: a\n    group: 239.1.2.3:5000\n    interface: eth0\n    ttl:   300\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	status, printed, stderr := topicast(t, "check", "--json", file)
	if status != exitFailed || stderr != "" {
		t.Errorf("exit status %d, %s", status, stderr)
	}
	var want, got any
	if err := json.Unmarshal([]byte(shown), &want); err != nil {
		t.Fatalf("%v in\n%s", err, shown)
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(printed, file, "gateway.yaml")), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-help +printed)\n%s", diff)
	}
}

// How a host is as it comes fails nothing, and a note is no warning to whoever counts.
func TestANoteIsNoFaultWithStrictEither(t *testing.T) {
	r := checkReport{strict: true}
	r.begin("gateway.yaml")
	if said := r.add(scopeHost, severityNote, configs.Errors{{Path: "receive", Err: errors.New("small")}}); len(said) != 1 {
		t.Errorf("%v is said", said)
	}
	var out bytes.Buffer
	if err := r.printJSON(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ok": true`, `"faults": 0`, `"warnings": 0`, `"severity": "note"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in\n%s", want, &out)
		}
	}
	if r.failed() || r.verdict() != "ok" {
		t.Error(r.verdict())
	}
}
