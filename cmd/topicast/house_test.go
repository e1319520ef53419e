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

// packages says, for each package, its one sentence and which packages of ours it
// may import. What is not here does not exist.
var packages = map[string]struct {
	sentence string
	imports  []string
}{
	"cmd/topicast":         {"Command topicast carries MQTT messages to IP multicast groups and back.", []string{"mapping", "configs", "bridge", "bridge/control", "bridge/doctor", "bridge/tap", "bridge/deadletter", "bridge/members", "bridge/multicast", "bridge/session", "bridge/spool", "bridge/lastsent", "bridge/web", "bridge/account", "bridge/loopguard", "bridge/receive", "bridge/send", "internal/capture", "internal/frame", "internal/recognise", "internal/demobroker"}},
	"internal/lab/bench":   {"Command bench measures topicast beside its peers.", []string{"internal/lab/harness", "internal/lab/netlab"}},
	"internal/lab/faults":  {"Command faults shows what topicast does when things fail.", []string{"internal/lab/harness", "internal/lab/netlab"}},
	"internal/lab/attack":  {"Command attack shows what topicast does under attack.", []string{"internal/lab/harness", "internal/lab/netlab"}},
	"mapping":              {"Package mapping decides which messages go to which targets and which datagrams become which topics; it does no I/O.", nil},
	"configs":              {"Package configs defines the configuration file, loads it, and holds its commented reference.", []string{"mapping", "configs/syntax", "internal/brokerurl", "internal/plainfile"}},
	"configs/syntax":       {"Package syntax reads YAML, TOML and JSON into one tree that knows lines and columns.", nil},
	"bridge":               {"Package bridge runs a compiled table between one broker and the network.", []string{"mapping", "bridge/account", "bridge/deadletter", "bridge/loopguard", "bridge/receive", "bridge/send", "bridge/session", "bridge/multicast", "bridge/spill", "bridge/spool", "bridge/lastsent", "bridge/tap", "bridge/members"}},
	"bridge/control":       {"Package control lets the users of this host ask a running bridge, and direct it, by a unix socket.", []string{"mapping", "bridge/account", "bridge/filelock", "bridge/tap", "internal/plainfile"}},
	"bridge/tap":           {"Package tap tells those who watch what becomes of each message and datagram, as it happens.", nil},
	"bridge/account":       {"Package account counts what was carried, filtered and dropped, and bounds what waits.", nil},
	"bridge/loopguard":     {"Package loopguard keeps the two directions from feeding each other.", nil},
	"bridge/receive":       {"Package receive carries datagrams to the broker.", []string{"mapping", "bridge/account", "bridge/loopguard", "bridge/session", "bridge/multicast", "bridge/spill", "bridge/spool", "bridge/tap"}},
	"bridge/send":          {"Package send carries messages to the network.", []string{"mapping", "bridge/account", "bridge/loopguard", "bridge/session", "bridge/multicast", "bridge/spill", "bridge/spool", "bridge/lastsent", "bridge/tap", "bridge/members"}},
	"bridge/session":       {"Package session keeps one MQTT session with a broker.", []string{"internal/brokerurl"}},
	"bridge/multicast":     {"Package multicast sends and receives datagrams in batches on sockets bound to a source, and watches the interfaces they use.", nil},
	"bridge/spill":         {"Package spill keeps what a rule cannot pass on now, in order, on disk, until it can.", []string{"bridge/account", "bridge/spool"}},
	"bridge/spool":         {"Package spool keeps messages on disk in order until they can go on.", []string{"bridge/filelock", "internal/plainfile"}},
	"bridge/lastsent":      {"Package lastsent remembers across restarts what was last sent for each topic of a rule.", []string{"bridge/filelock", "internal/plainfile"}},
	"bridge/members":       {"Package members knows which hosts of a network have joined a group, as far as this host can know.", []string{"bridge/multicast", "internal/frame"}},
	"bridge/doctor":        {"Package doctor finds out why nothing arrives, or leaves, from what a host and a running bridge show.", []string{"bridge", "bridge/account", "bridge/members", "bridge/multicast", "bridge/receive", "bridge/send", "mapping", "internal/frame"}},
	"bridge/web":           {"Package web serves the status page, metrics and health checks.", []string{"bridge", "bridge/account", "bridge/receive", "bridge/send", "bridge/tap"}},
	"internal/lab/fake":    {"Package fake is a network and a broker session that tests write the script of.", []string{"bridge/account", "bridge/tap", "bridge/multicast", "bridge/session", "bridge/spool", "mapping"}},
	"bridge/deadletter":    {"Package deadletter keeps in a file the messages that were given up.", []string{"internal/plainfile"}},
	"bridge/filelock":      {"Package filelock locks a file against other processes.", nil},
	"internal/demobroker":  {"Package demobroker is the MQTT broker of the demo command, in the process.", []string{"mapping"}},
	"internal/capture":     {"Package capture reads capture files, pcap and pcapng, and writes pcapng, one packet at a time.", []string{"internal/frame"}},
	"internal/frame":       {"Package frame reads the datagrams and the membership reports in packets of IP, and puts fragments together.", nil},
	"internal/recognise":   {"Package recognise tells which protocol a flow of datagrams speaks, by their bytes.", nil},
	"internal/brokerurl":   {"Package brokerurl reads the address of a broker, and shows it without what may be secret.", nil},
	"internal/plainfile":   {"Package plainfile opens regular files and folders, and neither waits for what else is at a path nor touches it.", nil},
	"internal/lab/harness": {"Package harness is what the programs of the lab share: their flags and exit status, the run in namespaces, and the programs they start.", []string{"internal/lab/netlab"}},
	"internal/lab/netlab":  {"Package netlab builds throw-away networks of namespaces for the tests.", nil},
}

// allowedModules says which packages may import what the standard library does not have.
// A module that one package imports can be replaced, and its traps are met once.
var allowedModules = map[string][]string{
	"github.com/spf13/cobra":                      {"cmd/topicast"},
	"github.com/spf13/pflag":                      {"configs", "cmd/topicast"}, // cobra's flags, which configs binds to keys
	"github.com/spf13/viper":                      {"configs"},
	"go.yaml.in/yaml/v3":                          {"configs/syntax"},
	"github.com/pelletier/go-toml/v2":             {"configs/syntax"},
	"github.com/fsnotify/fsnotify":                {"configs"},
	"github.com/coreos/go-systemd/v22":            {"cmd/topicast"},
	"github.com/KimMachineGun/automemlimit":       {"cmd/topicast"},       // it knows control groups of both versions, nested and namespaced
	"github.com/eclipse/paho.mqtt.golang":         {"internal/lab/bench"}, // its client is one of the peers
	"github.com/eclipse/paho.mqtt.golang/packets": {"bridge/session", "internal/demobroker", "internal/lab/harness", "internal/lab/bench", "internal/lab/faults", "internal/lab/attack"},
	"github.com/eclipse/paho.golang/packets":      {"bridge/session", "internal/demobroker", "internal/lab/bench"},
	"github.com/gorilla/websocket":                {"bridge/session"},                                                                                                        // it says what a server answers that opens none
	"github.com/cespare/xxhash/v2":                {"bridge/lastsent"},                                                                                                       // the standard library has no fast hash that is the same in the next process
	"golang.org/x/net":                            {"bridge/multicast", "bridge/session"},                                                                                    // SOCKS
	"golang.org/x/sys":                            {"bridge/multicast", "bridge/session", "bridge/web", "internal/lab/netlab", "internal/lab/harness", "internal/lab/bench"}, // the session for TCP_INFO, web for TCP_USER_TIMEOUT; those of the lab are independent witnesses
	"github.com/vishvananda/netlink":              {"bridge/multicast", "internal/lab/netlab"},
	"github.com/prometheus/client_golang":         {"bridge", "bridge/web"}, // the collector; its page
	"github.com/prometheus/common":                {"bridge/web"},           // the text format
	"golang.org/x/sync":                           {"bridge/send", "cmd/topicast"},
}

// restrictedStdlib says which packages of the standard library only some packages may
// import: the network and its web.
var restrictedStdlib = map[string][]string{
	"net/http": {"bridge/web", "bridge/control", "bridge/session", "internal/lab/harness"}, // the session only for the headers of a websocket
}

func TestEveryPackageIsDeclaredWithItsSentenceAndImportsOnlyWhatItMay(t *testing.T) {
	seen := map[string]bool{}
	for file, f := range sources(t) {
		pkg := path.Dir(file)
		seen[pkg] = true
		rules, ok := packages[pkg]
		if !ok {
			t.Errorf("%s: package %s is not declared", file, pkg)
			continue
		}
		for _, spec := range f.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			ours, isOurs := strings.CutPrefix(imported, "topicast/")
			switch {
			case isOurs && !slices.Contains(rules.imports, ours):
				t.Errorf("%s imports %s, which %s may not", file, imported, pkg)
			case !isOurs && strings.Contains(strings.Split(imported, "/")[0], "."):
				if module, ok := moduleOf(imported); !ok || !slices.Contains(allowedModules[module], pkg) {
					t.Errorf("%s imports %s, which only %v may", file, imported, allowedModules[module])
				}
			case restrictedStdlib[imported] != nil && !slices.Contains(restrictedStdlib[imported], pkg):
				t.Errorf("%s imports %s, which only %v may", file, imported, restrictedStdlib[imported])
			}
		}
	}
	for pkg := range packages {
		if !seen[pkg] {
			t.Errorf("package %s is declared and not there", pkg)
		}
	}
}

// The picture of the house in docs/architecture.md has them all.
func TestEveryPackageStandsInThePicture(t *testing.T) {
	_, picture, _ := strings.Cut(document(t, "docs/architecture.md"), "```\n")
	picture, _, _ = strings.Cut(picture, "\n```")
	words := strings.Fields(picture)
	for pkg := range packages {
		if strings.HasPrefix(pkg, "internal/lab/") {
			pkg = "internal/lab" // one for all
		}
		if !slices.Contains(words, pkg) {
			t.Errorf("%s is not there", pkg)
		}
	}
}

// What measures and tests the program is not in it.
func TestTheProgramCarriesNoEquipment(t *testing.T) {
	imports := map[string][]string{}
	for file, f := range sources(t) {
		for _, spec := range f.Imports {
			if ours, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "topicast/"); ok {
				imports[path.Dir(file)] = append(imports[path.Dir(file)], ours)
			}
		}
	}
	carried := map[string]bool{}
	for next := []string{"cmd/topicast"}; len(next) > 0; next = next[1:] {
		if pkg := next[0]; !carried[pkg] {
			carried[pkg] = true
			next = append(next, imports[pkg]...)
			if strings.HasPrefix(pkg, "internal/lab/") {
				t.Errorf("the program carries %s", pkg)
			}
		}
	}
	if !carried["bridge/multicast"] || !carried["internal/demobroker"] {
		t.Errorf("found only %v: imports are not followed", carried)
	}
}

// What stands below cmd is what go install ./cmd/... puts on a user's machine.
func TestTheProductIsTheOnlyCommandThatIsInstalled(t *testing.T) {
	for file := range sources(t) {
		if strings.HasPrefix(file, "cmd/") && path.Dir(file) != "cmd/topicast" {
			t.Errorf("%s would be installed; programs for developers belong in internal", file)
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
	for pkg, want := range packages {
		got, _, _ := strings.Cut(docs[pkg], "\n\n")
		if got = strings.Join(strings.Fields(got), " "); got != want.sentence {
			t.Errorf("%s says of itself %q, want %q", pkg, got, want.sentence)
		}
	}
}

func TestEveryAllowedModuleIsUsed(t *testing.T) {
	used := map[string]bool{}
	for _, f := range sources(t) {
		for _, spec := range f.Imports {
			if module, ok := moduleOf(strings.Trim(spec.Path.Value, `"`)); ok {
				used[module] = true
			}
		}
	}
	for module := range allowedModules {
		if !used[module] {
			t.Errorf("nothing imports %s any more", module)
		}
	}
}

// moduleOf finds the module, or the part of one that is declared by itself, that an
// import belongs to.
func moduleOf(imported string) (module string, ok bool) {
	for d := range allowedModules {
		if (imported == d || strings.HasPrefix(imported, d+"/")) && len(d) > len(module) {
			module, ok = d, true
		}
	}
	return module, ok
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

// Every datagram of the daemon leaves by one function, so that nothing is sent without
// the question for the carrier, and counted in one way.
func TestEveryDatagramLeavesByOneFunction(t *testing.T) {
	var calls []string
	for file := range sources(t) {
		if !strings.HasPrefix(file, "bridge/") || strings.HasPrefix(file, "bridge/multicast/") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Send" && len(call.Args) == 2 || sel.Sel.Name == "SendChecked") {
				calls = append(calls, file)
			}
			return true
		})
	}
	if !slices.Equal(calls, []string{"bridge/send/transmit.go"}) {
		t.Errorf("datagrams are sent in %q, not in bridge/send/transmit.go alone", calls)
	}
}
