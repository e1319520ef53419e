//go:build linux

package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

// TestMain stands in for main where the tests start this program as a tool.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "tool" {
		os.Exit(runTool(os.Args[2:]))
	}
	netlab.Main(m)
}

func readFlags(args ...string) (o options, err error) {
	err = program.Parse(&o, args, io.Discard)
	return o, err
}

func TestScenariosAreChosenByName(t *testing.T) {
	for only, want := range map[string][]string{
		"send-128":            {"send-128"},
		"receive-16,send-16":  {"send-16", "receive-16"},
		"latency-*,send-qos1": {"send-qos1", "latency-1000", "latency-10000", "latency-1000-default", "latency-10000-default"},
	} {
		o, err := readFlags("--only", only)
		if diff := cmp.Diff(want, names(o.scenarios)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", only, err, diff)
		}
	}
	if o, err := readFlags("--quick"); err != nil || len(o.scenarios) != 9 || o.rounds != 1 || o.seconds != 0.2 {
		t.Errorf("--quick: %d scenarios, %d rounds of %v s, %v", len(o.scenarios), o.rounds, o.seconds, err)
	}
	if o, err := readFlags("--quick", "--only", "clean-rate"); err != nil || len(o.scenarios) != 1 {
		t.Errorf("--quick --only clean-rate: %d scenarios, %v", len(o.scenarios), err)
	}
	o, err := readFlags("--only", "send-*", "--peers", "mmsg,python")
	if err != nil || len(o.scenarios) != 7 || !slices.Equal(o.scenarios[0].peers, []string{"mmsg", "python"}) || !slices.Equal(o.scenarios[5].peers, []string{"python"}) {
		t.Errorf("--peers mmsg,python: %+v, %v", o.scenarios, err)
	}
	o, err = readFlags()
	if err != nil || len(o.scenarios) != len(scenarios) || o.rounds != 3 || o.seconds != 2 {
		t.Errorf("without flags: %d scenarios, %d rounds of %v s, %v", len(o.scenarios), o.rounds, o.seconds, err)
	}
}

func TestWhatCannotBeDoneIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--protocol 4":          "invalid value \"4\" for flag -protocol: it is not auto, 5 or 3.1.1",
		"--only send-12":        "--only send-12: nothing has that name",
		"--only send-128,nope*": "--only nope*: nothing has that name",
		"--only [":              "syntax error in pattern",
		"--peers topicast,go":   "no peer \"go\" there; there are c, ceiling, csub, loop, mmsg, paho, python, topicast",
		"--peers before":        "no peer \"before\" there",
		"--before /none":        "--before: ",
		"--rounds 0":            "--rounds 0 is not 1 to 100",
		"--rounds 101":          "--rounds 101",
		"--seconds 0":           "--seconds 0 is not 0.1 to 60",
		"--seconds 61":          "--seconds 61",
		"--seconds NaN":         "--seconds NaN",
		"--messages -1":         "--messages -1 is negative",
		"send-128":              "unexpected argument \"send-128\"",
		"--frobnicate":          "not defined",
	} {
		_, err := readFlags(strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if _, err := readFlags("--help"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// An older topicast has the configuration of this one, and stands beside it wherever one is to the other what a
// change costs.
func TestAnOlderTopicastRunsInTurn(t *testing.T) {
	older, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o, err := readFlags("--before", older, "--only", "send-128,send-rules", "--peers", "topicast,topicast-10000,before,before-10000")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range o.scenarios {
		all = append(all, s.peers...)
	}
	want := []string{"topicast", "before", "topicast", "before", "topicast-10000", "before-10000"}
	if !slices.Equal(all, want) {
		t.Errorf("%q, want %q", all, want)
	}
	tools := tooling{dir: t.TempDir(), before: o.before}
	for this, other := range map[string]string{"topicast": "before", "topicast-10000": "before-10000"} {
		a, err := tools.peer(this, o.scenarios[0])
		config, _ := os.ReadFile(a.args[len(a.args)-1])
		b, err2 := tools.peer(other, o.scenarios[0])
		same, _ := os.ReadFile(b.args[len(b.args)-1])
		if err != nil || err2 != nil || b.path != older || a.path == older || !slices.Equal(a.args, b.args) || string(config) != string(same) {
			t.Errorf("%+v and %+v, %v, %v", a, b, err, err2)
		}
	}
}

func TestScenariosHaveWhatTheyNeed(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range scenarios {
		if seen[s.name] || s.about == "" || len(s.peers) == 0 || s.peers[0] != "topicast" && s.peers[0] != "csub" {
			t.Errorf("%s: %q, %q", s.name, s.about, s.peers)
		}
		seen[s.name] = true
		for _, peer := range s.peers {
			if _, err := (tooling{dir: t.TempDir()}).peer(peer, s); err != nil && !errors.Is(err, errMissing) {
				t.Errorf("%s: %v", s.name, err)
			}
			if peer == "ceiling" && s.mode == "" {
				t.Errorf("%s: the ceiling has no mode", s.name)
			}
		}
	}
}

func TestNothingFromOutsideConfiguresTopicast(t *testing.T) {
	t.Setenv("TOPICAST_BROKER_URL", "mqtt://192.0.2.1")
	t.Setenv("BENCH_TEST", "kept")
	env := environ()
	if slices.Contains(env, "TOPICAST_BROKER_URL=mqtt://192.0.2.1") || !slices.Contains(env, "BENCH_TEST=kept") {
		t.Errorf("environment %q", env)
	}
}

func TestWhatTheKernelSaysIsRead(t *testing.T) {
	if got := modelName("processor\t: 0\nmodel names\t: 3\nmodel name\t: Fast: 3000\nmodel name\t: other\n", "arm64"); got != "Fast: 3000" {
		t.Errorf("model name %q", got)
	}
	if got := modelName("processor\t: 0\n", "arm64"); got != "arm64" {
		t.Errorf("where there is none: %q", got)
	}
	if e := thisMachine(); e.Cores < 1 || e.Kernel == "" || e.CPU == "" {
		t.Errorf("this machine: %+v", e)
	}
}

func names(list []scenario) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.name)
	}
	return out
}
