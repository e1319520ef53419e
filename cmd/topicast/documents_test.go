package main

import (
	"encoding"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/configs"
)

// document is the text of a document, by its path from the root.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readme(t *testing.T) string {
	t.Helper()
	return document(t, "README.md")
}

func monitoring(t *testing.T) string {
	t.Helper()
	return document(t, "docs/monitoring.md")
}

// documents are the paths of all documents from the root.
func documents(t *testing.T) []string {
	t.Helper()
	names := []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
	found, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(found) == 0 {
		t.Fatal(err, found)
	}
	for _, name := range found {
		names = append(names, "docs/"+filepath.Base(name))
	}
	return names
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

func TestEveryCommandInTheDocumentsExistsWithItsFlags(t *testing.T) {
	var lines [][]string
	for _, name := range documents(t) {
		lines = append(lines, commandLines(document(t, name))...)
	}
	named := map[string]bool{}
	for _, line := range commandLines(readme(t)) {
		named[strings.Fields(line[1])[0]] = true
	}
	for _, line := range lines {
		args := strings.Fields(line[1])
		c, rest, err := newRootCommand().Find(args)
		if err != nil || !c.HasParent() {
			t.Errorf("topicast %s: no such command (%v)", line[1], err)
			continue
		}
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

// commandLines are the command lines of topicast in a document, in a sentence or in a block.
func commandLines(text string) [][]string {
	lines := regexp.MustCompile("`topicast ([^`]+)`").FindAllStringSubmatch(text, -1)
	for _, block := range blocks(text, "") {
		lines = append(lines, regexp.MustCompile(`(?m)^topicast +([^#\n]+)`).FindAllStringSubmatch(block, -1)...)
	}
	return lines
}

// cells are those of the table whose header begins so, row by row.
func cells(text, head string) (rows [][]string) {
	_, rest, _ := strings.Cut(text, "\n| "+head+" |")
	rest, _, _ = strings.Cut(rest, "\n\n")
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | "))
		}
	}
	return rows
}

// described are the names of all metrics.
func described() (names []string) {
	all := make(chan *prometheus.Desc, 100)
	new(bridge.Bridge).Describe(all)
	close(all)
	for d := range all {
		names = append(names, regexp.MustCompile(`topicast_\w+`).FindString(d.String()))
	}
	return names
}

func TestEveryMetricIsDocumentedAndNoOther(t *testing.T) {
	var got []string
	for _, row := range cells(monitoring(t), "metric") {
		for _, m := range regexp.MustCompile("`(topicast_[a-z_]+)").FindAllStringSubmatch(row[0], -1) {
			got = append(got, m[1])
		}
		if len(row) != 2 || row[1] == "" {
			t.Errorf("the row %q says nothing", row)
		}
	}
	want := described()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("metrics are %q, docs/monitoring.md has %q", want, got)
	}
}

// Each reason says how it counts, what happened and what to do.
func TestEveryReasonIsDocumentedAndNoOther(t *testing.T) {
	rows := make(map[string][]string)
	for _, row := range cells(monitoring(t), "reason") {
		rows[strings.Trim(row[0], "`")] = row
	}
	for _, r := range account.Reasons() {
		row, kind := rows[r.String()], "drop"
		if r.Filtered() {
			kind = "filtered"
		}
		delete(rows, r.String())
		if len(row) != 4 || row[1] != kind || len(row[2]) < 10 || len(row[3]) < 7 {
			t.Errorf("docs/monitoring.md: the row of %s is %q; it has to say %s, what happened, and what to do", r, row, kind)
		}
	}
	for name := range rows {
		t.Errorf("docs/monitoring.md: there is no reason %s", name)
	}
}

func TestTheAlarmsAreOfMetricsThatThereAre(t *testing.T) {
	alarms := document(t, "configs/monitoring/alerts.yaml")
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Annotations      map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(alarms))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil || len(file.Groups) != 1 {
		t.Fatalf("%v: %+v", err, file)
	}
	for _, r := range file.Groups[0].Rules {
		if r.Alert == "" || r.Expr == "" {
			t.Errorf("not an alarm: %+v", r)
		}
	}
	known := described()
	found := regexp.MustCompile(`topicast_[a-z_]+`).FindAllString(alarms, -1)
	if len(found) < 5 {
		t.Errorf("the alarms name only %q", found)
	}
	for _, name := range found {
		if !slices.Contains(known, name) {
			t.Errorf("there is no metric %s", name)
		}
	}
}

func TestWhatNarrowsTheStatusIsDocumented(t *testing.T) {
	rows := cells(monitoring(t), "parameter")
	var names []string
	for _, row := range rows {
		names = append(names, strings.Trim(row[0], "`"))
	}
	if !slices.Equal(names, []string{"match", "state", "sort", "limit"}) {
		t.Fatalf("parameters %q", names)
	}
	for i, words := range [][]string{1: bridge.Views(), 2: bridge.Sorts()} {
		for _, word := range words {
			if !strings.Contains(rows[i][1], "`"+word+"`") {
				t.Errorf("%s: %s is missing", names[i], word)
			}
		}
	}
}

// The headings of docs/troubleshooting.md are messages of the program, so that a
// search finds them. What varies in them stands for a verb of a format.
func TestEveryTroubleIsAMessageOfTheProgram(t *testing.T) {
	text := document(t, "docs/troubleshooting.md")
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
	varying := strings.NewReplacer("172.17.0.1", "%s", "iso0", "%s", "5353", "%d", "vlan*", "%s")
	headings := regexp.MustCompile(`(?m)^## (.+)$|\*\*(.+?)\*\*`).FindAllStringSubmatch(text, -1)
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

// A link leads to a file that is there, and to a heading that it has.
func TestEveryLinkInTheDocumentsLeadsSomewhere(t *testing.T) {
	for _, name := range documents(t) {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(document(t, name), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", name, link[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(document(t, target)), anchor) {
				t.Errorf("%s: the link %s leads to no heading", name, link[1])
			}
		}
	}
}

// anchors are what GitHub makes of the headings of a document.
func anchors(text string) (found []string) {
	for _, h := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		h := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(h[1]), "")
		found = append(found, strings.ReplaceAll(h, " ", "-"))
	}
	return found
}

// What the README says of the speed stands in the table that the benchmark printed.
func TestTheSpeedInTheReadmeIsThatOfTheTable(t *testing.T) {
	_, text, _ := strings.Cut(readme(t), "## Speed")
	text, _, _ = strings.Cut(text, "\n## ")
	table := document(t, "docs/performance.md")
	figures := regexp.MustCompile(`\d+\.\d+|\d+,\d{3}|\d+ to \d+|\d+ µs`).FindAllString(text, -1)
	if len(figures) < 4 {
		t.Fatalf("only the figures %q", figures)
	}
	for _, f := range figures {
		if !strings.Contains(table, strings.TrimSuffix(f, " µs")) {
			t.Errorf("%s is not in docs/performance.md", f)
		}
	}
}

// CONTRIBUTING.md has a row for each target of the Makefile, and the documents name no other.
func TestEveryTargetOfTheMakefileIsDocumentedAndNoOther(t *testing.T) {
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):.*## .+$`).FindAllStringSubmatch(document(t, "Makefile"), -1) {
		if m[1] != "help" {
			targets = append(targets, m[1])
		}
	}
	if len(targets) == 0 {
		t.Fatal("no targets found")
	}
	rows := regexp.MustCompile("(?m)^\\| `make ([a-z-]+)` \\| .+ \\|$").FindAllStringSubmatch(document(t, "CONTRIBUTING.md"), -1)
	var documented []string
	for _, row := range rows {
		documented = append(documented, row[1])
	}
	slices.Sort(targets)
	slices.Sort(documented)
	if !slices.Equal(targets, documented) {
		t.Errorf("the targets are %q, CONTRIBUTING.md has %q", targets, documented)
	}
	for _, name := range documents(t) {
		for _, m := range regexp.MustCompile("`[A-Z=0-9a-z ]*\\bmake ([a-z-]+)`").FindAllStringSubmatch(document(t, name), -1) {
			if !slices.Contains(targets, m[1]) {
				t.Errorf("%s: make %s: no such target", name, m[1])
			}
		}
	}
}

// A program that reads /status finds each of its fields in a table, with what it means.
func TestEveryFieldOfTheStatusIsDocumentedAndNoOther(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "### Fields of /status")
	table, _, _ = strings.Cut(table, "\n## ")
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .").FindAllStringSubmatch(table, -1) {
		documented = append(documented, m[1])
	}
	fields := jsonFields(reflect.TypeFor[bridge.Status](), "")
	slices.Sort(documented)
	slices.Sort(fields)
	if diff := cmp.Diff(fields, documented); diff != "" {
		t.Errorf("docs/monitoring.md (-in /status +documented)\n%s", diff)
	}
}

// jsonFields are the paths of the fields that a type has in JSON, with [] for the
// entries of a list. What encodes itself is one field, and so is a map.
func jsonFields(t reflect.Type, prefix string) (paths []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		path, of := prefix+name, f.Type
		if f.Anonymous {
			paths = append(paths, jsonFields(of, prefix)...)
			continue
		}
		if name == "-" || !f.IsExported() {
			continue
		}
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct {
			path, of = path+"[]", of.Elem()
		}
		if of.Kind() != reflect.Struct || of.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			paths = append(paths, path)
			continue
		}
		paths = append(paths, jsonFields(of, path+".")...)
	}
	return paths
}

// The files that docs/architecture.md and CONTRIBUTING.md name are there, from the root or
// from bridge.
func TestEveryFileThatTheArchitectureNamesExists(t *testing.T) {
	for _, name := range []string{"docs/architecture.md", "CONTRIBUTING.md"} {
		n := 0
		for _, m := range regexp.MustCompile("`([a-z/]+/[a-z_]+\\.go)`").FindAllStringSubmatch(document(t, name), -1) {
			n++
			_, err := os.Stat(filepath.Join("../..", m[1]))
			if _, below := os.Stat(filepath.Join("../../bridge", m[1])); err != nil && below != nil {
				t.Errorf("%s: there is no %s", name, m[1])
			}
		}
		if n < 3 {
			t.Errorf("%s names only %d files", name, n)
		}
	}
}
