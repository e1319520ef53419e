package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms says, for each package, its one sentence and which packages of ours it
// may import. What is not here does not exist.
var rooms = map[string]struct {
	sentence string
	imports  []string
}{
	"cmd/topicast":        {"Command topicast carries MQTT messages to IP multicast groups and back.", []string{"mapping", "configs", "bridge", "bridge/multicast", "bridge/session", "bridge/spool", "bridge/web", "bridge/broker"}},
	"cmd/topicast-bench":  {"Command topicast-bench measures topicast beside its peers.", []string{"bridge/netlab"}},
	"cmd/topicast-faults": {"Command topicast-faults shows what topicast does when things fail.", []string{"bridge/netlab"}},
	"mapping":             {"Package mapping decides which messages go to which groups and which datagrams become which topics; it does no I/O.", nil},
	"configs":             {"Package configs defines the configuration file, loads it, and holds its commented reference.", []string{"mapping"}},
	"bridge":              {"Package bridge runs a compiled table between one broker and the network.", []string{"mapping", "bridge/session", "bridge/multicast", "bridge/spool"}},
	"bridge/session":      {"Package session keeps one MQTT session with a broker.", nil},
	"bridge/multicast":    {"Package multicast sends and receives datagrams in batches on sockets bound to a source, and watches the interfaces they use.", nil},
	"bridge/spool":        {"Package spool keeps messages on disk in order until they can go on.", nil},
	"bridge/web":          {"Package web serves the status page, metrics and health checks.", []string{"bridge"}},
	"bridge/broker":       {"Package broker is a small in-process MQTT broker for the demo and the tests.", nil},
	"bridge/netlab":       {"Package netlab builds throw-away networks of namespaces for the tests.", nil},
}

// doors says which packages may import what the standard library does not have.
// A dependency behind one door can be replaced, and its traps are met once.
var doors = map[string][]string{
	"github.com/spf13/cobra":              {"cmd/topicast"},
	"github.com/spf13/pflag":              {"configs", "cmd/topicast"}, // cobra's flags, which configs binds to keys
	"github.com/spf13/viper":              {"configs"},
	"go.yaml.in/yaml/v3":                  {"configs"},
	"github.com/pelletier/go-toml/v2":     {"configs"},
	"github.com/fsnotify/fsnotify":        {"configs"},
	"github.com/coreos/go-systemd/v22":    {"cmd/topicast"},
	"github.com/eclipse/paho.mqtt.golang": {"bridge/session", "cmd/topicast-bench"}, // there it is one of the peers
	"go.etcd.io/bbolt":                    {"bridge/spool"},
	"golang.org/x/net":                    {"bridge/multicast"},
	"golang.org/x/sys":                    {"bridge/multicast", "bridge/session", "bridge/netlab", "cmd/topicast-bench"}, // the session for TCP_INFO; the last two are independent witnesses
	"github.com/vishvananda/netlink":      {"bridge/multicast", "bridge/netlab", "cmd/topicast-bench"},
	"github.com/prometheus/client_golang": {"bridge", "bridge/web"}, // the collector; its page
	"github.com/prometheus/common":        {"bridge/web"},           // the text format
	"golang.org/x/sync":                   {"bridge", "cmd/topicast"},
	"github.com/nats-io/nats-server/v2":   {"bridge/broker"},
}

// windows says which packages of the standard library only some rooms may open:
// the network and its web.
var windows = map[string][]string{
	"net/http": {"bridge/web", "bridge/session", "cmd/topicast-faults"}, // the session only for the headers of a websocket
}

func TestEveryPackageIsDeclaredWithItsSentenceAndImportsOnlyWhatItMay(t *testing.T) {
	seen := map[string]bool{}
	for file, f := range sources(t) {
		room := path.Dir(file)
		seen[room] = true
		rules, ok := rooms[room]
		if !ok {
			t.Errorf("%s: package %s is not in the house", file, room)
			continue
		}
		for _, spec := range f.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			ours, isOurs := strings.CutPrefix(imported, "topicast/")
			switch {
			case isOurs && !slices.Contains(rules.imports, ours):
				t.Errorf("%s imports %s, which %s may not", file, imported, room)
			case !isOurs && strings.Contains(strings.Split(imported, "/")[0], "."):
				if door, ok := doorOf(imported); !ok || !slices.Contains(doors[door], room) {
					t.Errorf("%s imports %s, whose door is %v", file, imported, doors[door])
				}
			case windows[imported] != nil && !slices.Contains(windows[imported], room):
				t.Errorf("%s imports %s, which only %v may", file, imported, windows[imported])
			}
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("package %s is declared and not there", room)
		}
	}
}

func TestEveryPackageStatesItsPurposeInOneSentence(t *testing.T) {
	docs := map[string]string{}
	for file, f := range sources(t) {
		if f.Doc != nil {
			docs[path.Dir(file)] += f.Doc.Text()
		}
	}
	for room, want := range rooms {
		got, _, _ := strings.Cut(docs[room], "\n\n")
		if got = strings.Join(strings.Fields(got), " "); got != want.sentence {
			t.Errorf("%s says of itself %q, want %q", room, got, want.sentence)
		}
	}
}

func TestEveryDoorIsUsed(t *testing.T) {
	used := map[string]bool{}
	for _, f := range sources(t) {
		for _, spec := range f.Imports {
			if door, ok := doorOf(strings.Trim(spec.Path.Value, `"`)); ok {
				used[door] = true
			}
		}
	}
	for door := range doors {
		if !used[door] {
			t.Errorf("nothing imports %s any more", door)
		}
	}
}

// doorOf finds the module that an import belongs to.
func doorOf(imported string) (string, bool) {
	for door := range doors {
		if imported == door || strings.HasPrefix(imported, door+"/") {
			return door, true
		}
	}
	return "", false
}

// sources parses every file of ours that is not a test, by its path from the root.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	root := filepath.Join("..", "..")
	files := map[string]*ast.File{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "vendor" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ParseComments|parser.ImportsOnly)
		files[name] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d files: the walk starts in the wrong place", len(files))
	}
	return files
}
