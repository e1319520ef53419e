//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

func TestFaultsAreChosenByName(t *testing.T) {
	for only, want := range map[string][]string{
		"carrier":                 {"carrier/send", "carrier/receive"},
		"carrier/send":            {"carrier/send"},
		"recreated*/receive":      {"recreated/receive", "recreated-same/receive"},
		"renamed,carrier/receive": {"carrier/receive", "renamed/send", "renamed/receive"},
	} {
		acts, err := choose(only)
		var got []string
		for _, a := range acts {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", only, err, diff)
		}
	}
}

func TestEveryFaultIsAStoryWithANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range faults {
		if seen[f.name] || seen[f.about] || strings.ContainsAny(f.name, "/,* ") {
			t.Errorf("%q (%s) is there twice, or cannot be named", f.name, f.about)
		}
		seen[f.name], seen[f.about] = true, true
		if f.run == nil || len(f.ways) == 0 {
			t.Errorf("%s does not happen", f.name)
		}
	}
	all, err := choose("")
	if err != nil || len(all) <= len(faults) {
		t.Errorf("%d acts of %d faults, %v", len(all), len(faults), err)
	}
}

func TestWhatCannotBeDoneIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--only nope":         "--only nope: no such fault",
		"--only carrier,nope": "--only nope: no such fault",
		"--only [":            "syntax error in pattern",
		"--rate 9":            "--rate 9 is not 10 to 20000",
		"--rate 20001":        "--rate 20001",
		"--down 500ms":        "--down 500ms is not 1s to 1h",
		"--parallel 17":       "--parallel 17 is not 1 to 16",
		"--parallel -1":       "--parallel -1",
		"--soak 9s":           "--soak 9s is not 10s to 24h",
		"carrier":             "unexpected argument \"carrier\"",
	} {
		_, err := readFlags(strings.Fields(args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestQuickIsShorterInEverything(t *testing.T) {
	long, err := readFlags(nil, io.Discard)
	if err != nil || long.times != thorough || long.parallel != 1 || long.rate != 1000 || len(long.acts) == 0 {
		t.Errorf("without flags: %+v, %v", long.times, err)
	}
	short, err := readFlags([]string{"--quick", "--down", "7s"}, io.Discard)
	want := quick
	want.down = 7 * time.Second
	if err != nil || short.times != want || short.parallel != 4 {
		t.Errorf("--quick: %+v %d, %v", short.times, short.parallel, err)
	}
	if q, l := quick, thorough; q.hold >= l.hold || q.down >= l.down || q.before >= l.before || q.stall >= l.stall || q.heal >= l.heal || q.kills >= l.kills {
		t.Error("quick is not quick")
	}
}

func TestTheClientSpeaksMQTT(t *testing.T) {
	wire := appendPublish(nil, "f/a", 258, true, []byte("hello"))
	want := []byte("\x3a\x0c\x00\x03f/a\x01\x02hello") // 3.3.1: PUBLISH, DUP, QoS 1
	if !bytes.Equal(wire, want) {
		t.Errorf("% x, want % x", wire, want)
	}
	long := appendPublish(nil, "f/a", 1, false, make([]byte, 200))
	if !bytes.Equal(long[:3], []byte{0x32, 0xcf, 0x01}) { // 2.2.3: 207 in two bytes
		t.Errorf("begins with % x", long[:3])
	}
	l := &link{in: bufio.NewReader(bytes.NewReader(append(wire, long...)))}
	for _, payload := range []string{"hello", string(make([]byte, 200))} {
		kind, body, err := l.read()
		if err != nil {
			t.Fatal(err)
		}
		topic, id, got, err := parsePublish(kind, body)
		if topic != "f/a" || id == 0 || string(got) != payload || err != nil {
			t.Errorf("%q %d %q %v", topic, id, got, err)
		}
	}
	if _, id, got, err := parsePublish(packetPublish, []byte("\x00\x01tpayload")); id != 0 || string(got) != "payload" || err != nil {
		t.Errorf("QoS 0: %d %q %v", id, got, err)
	}
	for _, short := range []string{"", "\x00", "\x00\x05abc", "\x00\x01t\x01"} {
		if _, _, _, err := parsePublish(packetPublish|publishQoS1, []byte(short)); err == nil {
			t.Errorf("%q is taken for a PUBLISH", short)
		}
	}
	if got := appendSubscribe(nil, 1, "f/#"); !bytes.Equal(got, []byte("\x82\x08\x00\x01\x00\x03f/#\x01")) {
		t.Errorf("SUBSCRIBE: % x", got)
	}
	if got := appendPuback(nil, 258); !bytes.Equal(got, []byte{0x40, 2, 1, 2}) {
		t.Errorf("PUBACK: % x", got)
	}
}

// What is not acknowledged is published again, oldest first, though the packet
// identifiers have begun anew meanwhile.
func TestTheBackendRepeatsInOrder(t *testing.T) {
	b := &backend{streams: []string{"a"}, made: map[string]int{}, unacked: map[uint16]outgoing{}, total: 65533}
	b.batch(4)
	var order []uint16
	l := &link{in: bufio.NewReader(bytes.NewReader(b.again()))}
	for {
		kind, body, err := l.read()
		if errors.Is(err, io.EOF) {
			break
		}
		_, id, _, err := parsePublish(kind, body)
		if err != nil || kind&publishDup == 0 {
			t.Fatalf("%#x %v", kind, err)
		}
		order = append(order, id)
	}
	if diff := cmp.Diff([]uint16{65534, 65535, 1, 2}, order); diff != "" {
		t.Error(diff)
	}
	b.batch(2 * backlog)
	if b.left() != backlog || b.next("a") != backlog {
		t.Errorf("%d wait, %d made; want no more than %d", b.left(), b.next("a"), backlog)
	}
	b.closing = true
	if got := b.batch(1); got != nil {
		t.Errorf("made %q after the end", got)
	}
}

func TestMetricsAreRead(t *testing.T) {
	got := parseMetrics("# HELP x y\ntopicast_drops_total{reason=\"own\",rule=\"a b\"} 12\ngo_goroutines 7\nnonsense\n")
	want := []sample{
		{"topicast_drops_total", map[string]string{"reason": "own", "rule": "a b"}, 12},
		{"go_goroutines", map[string]string{}, 7},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{})); diff != "" {
		t.Error(diff)
	}
	if mb := statusMB("VmPeak:\t 5 kB\nVmRSS:\t    1000 kB\n", "VmRSS"); mb != 1.024 {
		t.Errorf("%v MB", mb)
	}
}

func TestTearingChangesTheLastPageOfTheLargestFile(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"small": 4096, "large": 10000} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := tear(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "large"))
	if err != nil || len(b) != 10000 || !bytes.Equal(b[:10000-4096], make([]byte, 10000-4096)) || !bytes.HasPrefix(b[10000-4096:], []byte("torntorn")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := tear(t.TempDir()); err == nil {
		t.Error("nothing was torn, and no error")
	}
}

func TestATroubleOfTheNetworkEndsOnlyItsOwnStory(t *testing.T) {
	var order []string
	err := keep(func(k testing.TB) error {
		k.Cleanup(func() { order = append(order, "first") })
		k.Cleanup(func() { order = append(order, "second"); k.Fatal("again") })
		k.Fatalf("no %s", "cable")
		return nil
	})
	if err == nil || err.Error() != "the network: no cable" {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"second", "first"}, order); diff != "" {
		t.Error(diff)
	}
	if err := keep(func(k testing.TB) error { k.Errorf("the device lost %d", 3); return nil }); err == nil || err.Error() != "the network: the device lost 3" {
		t.Errorf("%v", err)
	}
	if err := keep(func(testing.TB) error { return nil }); err != nil {
		t.Error(err)
	}
}
