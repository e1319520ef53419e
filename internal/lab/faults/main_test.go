//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/harness"
	"topicast/internal/lab/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

func readFlags(args ...string) (o options, err error) {
	err = program.Parse(&o, args, io.Discard)
	return o, err
}

func TestFaultsAreChosenByName(t *testing.T) {
	for only, want := range map[string][]string{
		"carrier":                 {"carrier/send", "carrier/receive"},
		"carrier/send":            {"carrier/send"},
		"recreated*/receive":      {"recreated/receive", "recreated-same/receive"},
		"renamed,carrier/receive": {"carrier/receive", "renamed/send", "renamed/receive"},
	} {
		scenarios, err := choose(only)
		var got []string
		for _, a := range scenarios {
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
		t.Errorf("%d scenarios of %d faults, %v", len(all), len(faults), err)
	}
}

func TestWhatCannotBeDoneIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--protocol 4":        "invalid value \"4\" for flag -protocol: it is not auto, 5 or 3.1.1",
		"--only nope":         "--only nope: nothing has that name",
		"--only carrier,nope": "--only nope: nothing has that name",
		"--only [":            "syntax error in pattern",
		"--rate 9":            "--rate 9 is not 10 to 20000",
		"--rate 20001":        "--rate 20001",
		"--down 500ms":        "--down 500ms is not 1s to 1h0m0s",
		"--parallel 17":       "--parallel 17 is not 1 to 16",
		"--parallel -1":       "--parallel -1",
		"--soak 9s":           "--soak 9s is not 10s to 24h0m0s",
		"carrier":             "unexpected argument \"carrier\"",
	} {
		_, err := readFlags(strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestTopicastIsToldTheVersionThatIsAskedFor(t *testing.T) {
	for asked, want := range map[string]string{"auto": "keep_alive: 5s }", "5": `, protocol: "5" }`, "3.1.1": `, protocol: "3.1.1" }`} {
		o, err := readFlags("--protocol", asked)
		r := &rig{protocol: o.Protocol, way: sending}
		if line, _, _ := strings.Cut(r.config(), "\n"); err != nil || !strings.HasSuffix(line, want) {
			t.Errorf("--protocol %s: %q, %v, want %q", asked, line, err, want)
		}
	}
}

func TestQuickIsShorterInEverything(t *testing.T) {
	long, err := readFlags()
	if err != nil || long.times != fullTimes || long.Parallel != 1 || long.rate != 1000 || len(long.scenarios) == 0 {
		t.Errorf("without flags: %+v, %v", long.times, err)
	}
	short, err := readFlags("--quick", "--down", "7s")
	want := quickTimes
	want.down = 7 * time.Second
	if err != nil || short.times != want || short.Parallel != 4 {
		t.Errorf("--quick: %+v %d, %v", short.times, short.Parallel, err)
	}
	if q, l := quickTimes, fullTimes; q.hold >= l.hold || q.down >= l.down || q.before >= l.before || q.stall >= l.stall || q.heal >= l.heal || q.kills >= l.kills {
		t.Error("quick is not quick")
	}
}

// What is not acknowledged is published again, oldest first, though the packet
// identifiers have begun anew meanwhile.
func TestTheBackendRepeatsInOrder(t *testing.T) {
	b := &publisher{qos: 1, streams: []string{"a"}, made: map[string]int{}, unacked: map[uint16]outgoing{}, total: 65533}
	b.batch(4)
	var order []uint16
	for again := bytes.NewReader(b.again()); again.Len() > 0; {
		p, err := packets.ReadPacket(again)
		m, ok := p.(*packets.PublishPacket)
		if !ok || !m.Dup || m.Qos != 1 {
			t.Fatalf("%v, %v", p, err)
		}
		order = append(order, m.MessageID)
	}
	if diff := cmp.Diff([]uint16{65534, 65535, 1, 2}, order); diff != "" {
		t.Error(diff)
	}
	b.batch(2 * maxUnacked)
	if b.left() != maxUnacked || b.next("a") != maxUnacked {
		t.Errorf("%d wait, %d made; want no more than %d", b.left(), b.next("a"), maxUnacked)
	}
	b.closing = true
	if got := b.batch(1); got != nil {
		t.Errorf("made %q after the end", got)
	}
}

// Of QoS 2 few are given at a time, and what the broker has is not published again.
func TestTheBackendGivesQoS2Once(t *testing.T) {
	b := &publisher{qos: 2, streams: []string{"a"}, made: map[string]int{}, unacked: map[uint16]outgoing{}, flow: flow{suspended: true}}
	if got := b.batch(10); got != nil {
		t.Errorf("made %q while it rests", got)
	}
	b.burst(20)
	b.batch(10)
	if b.left() != maxUnacked2 || b.burstLeft != 1 {
		t.Errorf("%d wait, and %d are owed of the burst", b.left(), b.burstLeft)
	}
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := harness.Connect(here, "publisher", false)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		b.acknowledged(c)
	}()
	answers := func(p packets.ControlPacket, want string) {
		t.Helper()
		got, err := packets.ReadPacket(there)
		if err == nil {
			err = p.Write(there)
		}
		if err != nil || !strings.HasPrefix(got.String(), want) {
			t.Fatalf("%v, %v; want %s", got, err, want)
		}
	}
	answers(packets.NewControlPacket(packets.Connack), "CONNECT")
	if err := ack(packets.Pubrec, 1).Write(there); err != nil {
		t.Fatal(err)
	}
	answers(ack(packets.Pubcomp, 2), "PUBREL")
	if again := b.again(); string(again[:4]) != "\x62\x02\x00\x01" || again[4] != packets.Publish<<4|1<<3|2<<1 {
		t.Errorf("again % x", again[:8])
	}
	there.Close()
	if <-done; b.left() != maxUnacked2-1 {
		t.Errorf("%d wait", b.left())
	}
}

func TestTheManagerHearsBeats(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	m, err := startManager(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	for _, line := range []string{"READY=1\nSTATUS=1 send rule", "WATCHDOG=1", "WATCHDOG=1"} {
		if _, err := conn.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(harness.Patience); ; time.Sleep(time.Millisecond) {
		beats, last := m.watchdogBeats()
		if beats == 2 && !last.Before(began) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d beats, the last at %v", beats, last)
		}
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
