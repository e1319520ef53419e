package configs

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/bad.txt anew; read the difference before you keep it")

// report is what a user sees: each fault, and its hint below it.
func report(err error) string {
	var b strings.Builder
	var all Errors
	errors.As(err, &all)
	for _, e := range all {
		b.WriteString(e.Error() + "\n")
		if e.Hint != "" {
			b.WriteString("    hint: " + e.Hint + "\n")
		}
	}
	return b.String()
}

// Each file in testdata/bad has one fault, six.yaml has six. testdata/bad.txt
// has what is said about them.
func TestBadFilesAreToldByLineAndPath(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata/bad")
	var got strings.Builder
	count := make(map[string]int)
	for _, file := range files {
		file = filepath.Base(file)
		_, err := Load(file, nil)
		if err == nil {
			t.Errorf("%s: no error", file)
			continue
		}
		var all Errors
		if !errors.As(err, &all) {
			t.Errorf("%s: %T is not Errors", file, err)
		}
		want := 1
		if file == "six.yaml" {
			want = 6
		}
		if len(all) != want {
			t.Errorf("%s: %d faults, want %d:\n%v", file, len(all), want, err)
		}
		count[filepath.Ext(file)]++
		got.WriteString(report(err))
	}
	for ext, least := range map[string]int{".yaml": 35, ".toml": 10, ".json": 8} {
		if count[ext] < least {
			t.Errorf("%d files end in %s, want %d", count[ext], ext, least)
		}
	}
	if *update {
		if err := os.WriteFile("../bad.txt", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("../bad.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("(-bad.txt +got)\n%s", diff)
	}
}
