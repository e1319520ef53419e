//go:build linux

package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"topicast/bridge/netlab"
)

// TestMain stands in for main where the tests start this program as a tool.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "tool" {
		os.Exit(runTool(os.Args[2:]))
	}
	netlab.Main(m)
}

func TestScenariosAreChosenByName(t *testing.T) {
	for only, want := range map[string][]string{
		"send-128":            {"send-128"},
		"receive-16,send-16":  {"send-16", "receive-16"},
		"latency-*,send-qos1": {"send-qos1", "latency-1000", "latency-10000", "latency-1000-default", "latency-10000-default"},
	} {
		o, err := readFlags([]string{"--only", only}, io.Discard)
		if diff := cmp.Diff(want, names(o.scenarios)); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", only, err, diff)
		}
	}
	if o, err := readFlags([]string{"--quick"}, io.Discard); err != nil || len(o.scenarios) != 8 || o.rounds != 1 || o.seconds != 0.2 {
		t.Errorf("--quick: %d scenarios, %d rounds of %v s, %v", len(o.scenarios), o.rounds, o.seconds, err)
	}
	if o, err := readFlags([]string{"--quick", "--only", "clean-rate"}, io.Discard); err != nil || len(o.scenarios) != 1 {
		t.Errorf("--quick --only clean-rate: %d scenarios, %v", len(o.scenarios), err)
	}
	o, err := readFlags([]string{"--only", "send-*", "--peers", "mmsg,python"}, io.Discard)
	if err != nil || len(o.scenarios) != 6 || !slices.Equal(o.scenarios[0].peers, []string{"mmsg", "python"}) || !slices.Equal(o.scenarios[4].peers, []string{"python"}) {
		t.Errorf("--peers mmsg,python: %+v, %v", o.scenarios, err)
	}
	o, err = readFlags(nil, io.Discard)
	if err != nil || len(o.scenarios) != len(scenarios) || o.rounds != 3 || o.seconds != 2 {
		t.Errorf("without flags: %d scenarios, %d rounds of %v s, %v", len(o.scenarios), o.rounds, o.seconds, err)
	}
}

func TestWhatCannotBeDoneIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--only send-12":        "no scenario \"send-12\"; there are send-16, send-128",
		"--only send-128,nope*": "no scenario \"nope*\"",
		"--only [":              "syntax error in pattern",
		"--peers topicast,go":   "no peer \"go\" there; there are c, ceiling, csub, mmsg, paho, python, topicast",
		"--rounds 0":            "--rounds 0 is not 1 to 100",
		"--rounds 101":          "--rounds 101",
		"--seconds 0":           "--seconds 0 is not 0.1 to 60",
		"--seconds 61":          "--seconds 61",
		"--seconds NaN":         "--seconds NaN",
		"--messages -1":         "--messages -1 is negative",
		"send-128":              "unexpected argument \"send-128\"",
		"--frobnicate":          "not defined",
	} {
		_, err := readFlags(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	if _, err := readFlags([]string{"--help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
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
	status := []byte("Name:\tx\nVmHWM:\t    4000 kB\nVmRSS:\t    2000 kB\n")
	if got := statusMB(status, "VmRSS"); got != 2.048 {
		t.Errorf("VmRSS: %v MB, want 2.048", got)
	}
	if got := statusMB(status, "VmSwap"); got != 0 {
		t.Errorf("VmSwap, which is not there: %v", got)
	}
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

func TestThePeakIsThatOfTheRun(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: &exec.Cmd{Process: self}}
	grow := func() { // by 64 MiB, and back
		b, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Munmap(b)
	}
	grow()
	if err := p.forgetPeak(); err != nil {
		t.Fatal(err)
	}
	if now, peak, err := p.memory(); err != nil || now <= 0 || peak > now+32 {
		t.Errorf("%v MB now, %v at most, %v: what was before counts", now, peak, err)
	}
	grow()
	if now, peak, err := p.memory(); err != nil || peak < now+32 {
		t.Errorf("%v MB now, %v at most, %v: what was since does not count", now, peak, err)
	}
}
