package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"topicast/bridge"
	"topicast/configs"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks are the fenced blocks of a language.
func blocks(text, language string) (found []string) {
	parts := strings.Split("\n"+text, "\n```")
	for i := 1; i < len(parts); i += 2 {
		if head, body, _ := strings.Cut(parts[i], "\n"); head == language {
			found = append(found, body)
		}
	}
	return found
}

func TestEveryConfigurationInTheReadmeLoads(t *testing.T) {
	all := blocks(readme(t), "yaml")
	if len(all) == 0 {
		t.Fatal("no configuration found")
	}
	for _, text := range all {
		file := filepath.Join(t.TempDir(), "readme.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := configs.Load(file, nil); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestEveryCommandInTheReadmeExistsWithItsFlags(t *testing.T) {
	text := readme(t)
	lines := regexp.MustCompile("`topicast ([^`]+)`").FindAllStringSubmatch(text, -1)
	for _, block := range blocks(text, "") {
		lines = append(lines, regexp.MustCompile(`(?m)^topicast +([^#\n]+)`).FindAllStringSubmatch(block, -1)...)
	}
	named := map[string]bool{}
	for _, line := range lines {
		args := strings.Fields(line[1])
		c, rest, err := newRootCommand().Find(args)
		if err != nil || !c.HasParent() {
			t.Errorf("topicast %s: no such command (%v)", line[1], err)
			continue
		}
		named[c.Name()] = true
		if err := c.ParseFlags(rest); err != nil {
			t.Errorf("topicast %s: %v", line[1], err)
		}
	}
	for _, c := range newRootCommand().Commands() {
		if !named[c.Name()] && c.Name() != "help" {
			t.Errorf("the readme does not name the command %s", c.Name())
		}
	}
}

func TestTheReadmeNamesEveryMetricAndReasonAndNoOther(t *testing.T) {
	text := readme(t)
	var metrics, reasons []string
	described := make(chan *prometheus.Desc, 100)
	new(bridge.Bridge).Describe(described)
	close(described)
	for d := range described {
		metrics = append(metrics, regexp.MustCompile(`topicast_\w+`).FindString(d.String()))
	}
	for _, r := range bridge.Reasons() {
		reasons = append(reasons, r.String())
	}
	table := func(head, cell string) (found []string) {
		_, rest, _ := strings.Cut(text, head)
		rest, _, _ = strings.Cut(rest, "\n\n")
		for line := range strings.Lines(rest) {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
			for _, m := range regexp.MustCompile(cell).FindAllStringSubmatch(first, -1) {
				found = append(found, m[1])
			}
		}
		return found
	}
	for _, c := range []struct {
		what      string
		want, got []string
	}{
		{"metrics", metrics, table("| metric |", "`(topicast_[a-z_]+)")},
		{"reasons", reasons, table("| reason |", "`([a-z_]+)`")},
	} {
		slices.Sort(c.want)
		slices.Sort(c.got)
		if !slices.Equal(c.want, c.got) {
			t.Errorf("%s are %q, the readme has %q", c.what, c.want, c.got)
		}
	}
}

// The headings under "When nothing arrives" are messages of the program, so that
// a search finds them. What varies in them stands for a verb of a format.
func TestTheReadmesTroublesAreMessagesOfTheProgram(t *testing.T) {
	_, text, _ := strings.Cut(readme(t), "## When nothing arrives")
	text, _, _ = strings.Cut(text, "\n## ")
	var source strings.Builder
	err := fs.WalkDir(os.DirFS("../.."), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		body, err := os.ReadFile(filepath.Join("../..", name))
		source.Write(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	varying := strings.NewReplacer("172.17.0.1", "%s", "iso0", "%s")
	headings := regexp.MustCompile(`(?m)^### (.+)$|\*\*(.+?)\*\*`).FindAllStringSubmatch(text, -1)
	if len(headings) < 8 {
		t.Fatalf("found only %d headings", len(headings))
	}
	for _, h := range headings {
		heading := h[1] + h[2]
		if !strings.HasPrefix(heading, "Nothing is wrong, and still ") && !strings.Contains(source.String(), varying.Replace(heading)) {
			t.Errorf("no message of the program reads %q", fmt.Sprint(varying.Replace(heading)))
		}
	}
}
