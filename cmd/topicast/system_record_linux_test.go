package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"topicast/internal/capture"
	"topicast/internal/frame"
	"topicast/internal/lab/netlab"
)

// recordRun is topicast record, as it runs.
type recordRun struct {
	t    *testing.T
	file string
	c    *exec.Cmd
	out  *os.File
	err  bytes.Buffer
}

// record runs topicast record with a file, and returns once it records.
func (s *system) record(socket string, args ...string) *recordRun {
	s.t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	r := &recordRun{t: s.t, file: filepath.Join(s.t.TempDir(), "x.pcapng")}
	if r.out, err = os.Create(filepath.Join(s.t.TempDir(), "out")); err != nil {
		s.t.Fatal(err)
	}
	told, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	r.c = exec.Command(binary, append([]string{"record", r.file, "--control", socket}, args...)...)
	r.c.Stdout, r.c.Stderr = r.out, w
	if err := r.c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.c.Process.Kill() })
	w.Close()
	first := make([]byte, 1)
	if _, err := told.Read(first); err != nil { // it says so when it records
		s.t.Fatal(err)
	}
	go func() { r.err.Write(first); io.Copy(&r.err, told) }()
	return r
}

// has waits until its file has a text: what another watcher was told of it may have yet to read.
func (s *system) has(r *recordRun, text string) {
	s.t.Helper()
	s.eventually("the recording has it too", func() error {
		if is, err := os.ReadFile(r.file); err != nil || !strings.Contains(string(is), text) {
			return fmt.Errorf("%d bytes without %q, %v", len(is), text, err)
		}
		return nil
	})
}

// end interrupts it, and returns its file and what it said.
func (r *recordRun) end() (file []byte, said string) {
	r.t.Helper()
	_ = r.c.Process.Signal(os.Interrupt)
	err := r.c.Wait()
	out, _ := os.ReadFile(r.out.Name())
	if err != nil {
		r.t.Fatalf("topicast record: %v: %s", err, out)
	}
	if file, err = os.ReadFile(r.file); err != nil {
		r.t.Fatal(err)
	}
	return file, string(out)
}

// datagramsOf are those of a file, a line each.
func datagramsOf(t *testing.T, file []byte) (all []string) {
	t.Helper()
	from, err := capture.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var packets frame.Reader
	for {
		p, err := from.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		packet, _ := p.Link.Inner(p.Bytes)
		d := packets.Read(packet, p.At)
		if d.Kind != frame.Datagram {
			t.Fatalf("packet %d is no datagram: %v", len(all), d.Kind)
		}
		all = append(all, fmt.Sprintf("%s %d %x", d.To, len(d.Payload), sha256.Sum256(d.Payload)))
	}
}

// sum is a line as datagramsOf has it.
func digested(to string, payload []byte) string {
	return fmt.Sprintf("%s %d %x", to, len(payload), sha256.Sum256(payload))
}

func TestRecordHasWhatPassesWithWhatWasDecided(t *testing.T) {
	s, socket := controlledUp(t)
	all, meters, sent := s.record(socket), s.record(socket, "--rule", "meters"), s.record(socket, "lamp/#", "--unsent")
	done := following(t, socket, "--count", "7")
	c := s.client("backend")
	s.publish(c, "lamp/7/set", []byte("on"))
	s.hasSent("lamps", 1) // the broker passes it on later than it takes it
	s.publish(c, "lamp/700/set", []byte("on"))
	s.done(c.Publish("away/8", 0, false, "is lost"), "publish")
	s.Dev.Talker("eth0", dev4).Say(group("239.10.4.1:30000"), []byte("17 kWh"))
	s.Dev.Addr("eth0", "172.17.0.60/16")
	s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.60")).Say(group("239.10.4.1:30000"), []byte("forged"))
	s.eventually("both are heard", func() error {
		if r := s.status().Receive[0]; r.Received != 2 {
			return fmt.Errorf("%d are", r.Received)
		}
		return nil
	})
	s.publish(c, "lamp/8/set", nil)
	s.publish(c, "lamp/9/set", make([]byte, 65507))
	done()
	s.has(all, "lamp/9/set")
	s.has(meters, "filtered source")
	s.has(sent, "lamp/9/set")

	on, kWh, forged := digested("239.10.3.7:30000", []byte("on")), digested("239.10.4.1:30000", []byte("17 kWh")), digested("239.10.4.1:30000", []byte("forged"))
	empty, long := digested("239.10.3.8:30000", nil), digested("239.10.3.9:30000", make([]byte, 65507))
	file, said := all.end()
	if got, want := datagramsOf(t, file), []string{on, kWh, forged, empty, long}; !sameLines(got, want) {
		t.Errorf("all:\n%q, want\n%q", got, want)
	}
	if !strings.HasPrefix(said, "3 sent and 2 received in ") {
		t.Errorf("%q", said)
	}
	for _, want := range []string{"sent, rule lamps, topic lamp/7/set, after ", "published, rule meters, topic meters/172.17.0.50, after ", "filtered source, rule meters, after ", "1 dropped bad_group, 1 dropped pending"} {
		if !bytes.Contains(file, []byte(want)) {
			t.Errorf("%q is not in the file", want)
		}
	}
	if _, err := exec.LookPath("tcpdump"); err == nil {
		out, err := exec.Command("tcpdump", "-n", "-vvv", "-r", all.file).CombinedOutput()
		if err != nil || strings.Contains(string(out), "bad") || strings.Count(string(out), "[udp sum ok]") != 5 {
			t.Errorf("tcpdump: %v\n%.3000s", err, out)
		}
	}
	if _, err := exec.LookPath("tshark"); err == nil {
		out, err := exec.Command("tshark", "-r", all.file, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-T", "fields", "-E", "separator= ",
			"-e", "ip.checksum.status", "-e", "udp.checksum.status", "-e", "frame.packet_flags_direction", "-e", "frame.interface_name", "-e", "ip.ttl").Output()
		if want := strings.Replace("1 1 0x00000002 iso0 1\nIN\nIN\n1 1 0x00000002 iso0 1\n1 1 0x00000002 iso0 1\n", "IN", "1 1 0x00000001 iso0 0", 2); err != nil || string(out) != want {
			t.Errorf("tshark: %v\n%s, want\n%s", err, out, want)
		}
	}

	if file, said = meters.end(); !sameLines(datagramsOf(t, file), []string{kWh, forged}) || !strings.HasPrefix(said, "0 sent and 2 received in ") {
		t.Errorf("of a rule: %q, %q", datagramsOf(t, file), said)
	}
	file, said = sent.end()
	if got, want := datagramsOf(t, file), []string{on, empty, long}; !sameLines(got, want) || !bytes.Contains(file, []byte("1 dropped bad_group")) {
		t.Errorf("of topics: %q, want %q; %s", got, want, said)
	}

	if status, _, errOut := ask(t, "record", all.file, "--control", socket); status != exitFailed || !strings.Contains(errOut, "is there already") || !strings.Contains(errOut, "--force") {
		t.Errorf("a file that is there: %d, %s", status, errOut)
	}
	if status, out, errOut := ask(t, "record", all.file, "--control", socket, "--force", "--for", "1ms"); status != exitDone || !strings.HasPrefix(out, "0 sent and 0 received") {
		t.Errorf("with --force: %d, %s%s", status, out, errOut)
	}
	if status, out, errOut := ask(t, "record", "-", "--control", socket, "--for", "1ms"); status != exitDone || !strings.HasPrefix(out, "\x0a\x0d\x0d\x0a") || !strings.Contains(errOut, "0 sent and 0 received") {
		t.Errorf("to the standard output: %d, %q%s", status, out, errOut)
	}
}

func sameLines(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// What is not in the file for want of an address is there with --unsent where that is known.
func TestRecordHasWhatDidNotLeaveIfItIsAsked(t *testing.T) {
	s, socket := controlled(t)
	s.startBroker()
	s.startBridge()
	s.eventually("the broker is there", func() error {
		if st := s.status(); st.Broker.Subscriptions != 2 {
			return fmt.Errorf("%+v", st.Broker)
		}
		return nil
	})
	r := s.record(socket, "--unsent", "--rule", "away")
	done := following(t, socket, "--count", "1", "--rule", "away")
	s.done(s.client("backend").Publish("away/8", 0, false, "is lost"), "publish")
	done()
	s.has(r, "away/8")
	file, said := r.end()
	if got, want := datagramsOf(t, file), []string{digested("239.10.3.1:30001", []byte("is lost"))}; !sameLines(got, want) || !bytes.Contains(file, []byte("dropped pending, rule away, topic away/8")) ||
		!strings.HasPrefix(said, "0 sent and 0 received, and 1 message that did not leave") {
		t.Errorf("%q, want %q; %s", got, want, said)
	}
}

// The bridge stays, and so does what was recorded: the disk is full, the file has its size, or the
// bridge has ended.
func TestARecordingIsWholeHoweverItEnds(t *testing.T) {
	s, socket := controlled(t)
	s.startBroker()
	p := s.startBridge()
	s.eventually("it has joined", func() error {
		if got := s.receiveRule("meters"); got.Joined != 1 {
			return fmt.Errorf("%s", got.Reason)
		}
		return nil
	})
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=128k", "none", disk).CombinedOutput(); err != nil {
		netlab.Skip(t, fmt.Sprintf("mount: %v %s", err, out))
	}
	t.Cleanup(func() { _ = exec.Command("umount", disk).Run() })
	full := exec.Command(mustBinary(t), "record", filepath.Join(disk, "x.pcapng"), "--control", socket)
	var fullErr bytes.Buffer
	full.Stderr = &fullErr
	if err := full.Start(); err != nil {
		t.Fatal(err)
	}
	sized, ended := s.record(socket, "--max-size", "100KB"), s.record(socket)
	k := s.Dev.Talker("eth0", dev4)
	payload := make([]byte, 1000)
	stop := time.Now().Add(patience)
	over := make(chan error, 1)
	go func() { over <- full.Wait() }()
	var err error
	for i := 0; ; i++ {
		k.Say(group("239.10.4.1:30000"), payload)
		time.Sleep(time.Millisecond)
		if len(over) > 0 || time.Now().After(stop) {
			err = <-over
			break
		}
	}
	if err == nil || !strings.Contains(fullErr.String(), "no space left") {
		t.Errorf("a full disk: %v, %s", err, fullErr.String())
	}
	text, err := os.ReadFile(filepath.Join(disk, "x.pcapng"))
	if n := len(datagramsOf(t, text)); err != nil || n < 50 || len(text) > 128<<10 {
		t.Errorf("what a full disk has of it: %d datagrams, %d bytes, %v", n, len(text), err)
	}
	if err := sized.c.Wait(); err != nil {
		t.Errorf("--max-size: %v", err)
	}
	text, _ = os.ReadFile(sized.file)
	said, _ := os.ReadFile(sized.out.Name())
	if n := len(datagramsOf(t, text)); n < 50 || len(text) > 100_000 || !strings.Contains(string(said), "--max-size ended it") {
		t.Errorf("--max-size: %d datagrams, %d bytes, %s", n, len(text), said)
	}
	p.Kill()
	if err := ended.c.Wait(); err == nil {
		t.Error("the bridge has ended, and record says that all is well")
	}
	text, _ = os.ReadFile(ended.file)
	if n := len(datagramsOf(t, text)); n < 100 {
		t.Errorf("of one that has ended there are %d datagrams", n)
	}
}

func mustBinary(t *testing.T) string {
	t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// What was recorded leaves again as it was, and what is recorded of that is the same.
func TestWhatIsRecordedIsReplayedAndRecordedByteForByte(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "c")
	s := newSystem(t, strings.Replace(`
  - { name: lamps, filter: 'lamp/{id}/set', group: '239.10.3.{id}:30000', source: 172.17.0.1, interface: iso0 }
receive:
  - { name: lines, group: '239.10.4.1-239.10.4.3:30000', interface: iso0, topic: 'line/{group}/{u8@0}', split: line, when: 'size > 0', source: 172.17.0.50/32 }
  - { name: json, group: '239.10.4.2:30000', interface: iso0, topic: 'json', payload: json, every: 1s }
control:
  listen: unix:SOCKET
`, "SOCKET", socket, 1))
	s.startBroker()
	s.startBridge()
	s.eventually("it has joined", func() error {
		if st := s.status(); !st.Broker.Connected || s.receiveRule("lines").Joined != 3 || s.receiveRule("json").Joined != 1 {
			return fmt.Errorf("%+v", st.Receive)
		}
		return nil
	})
	random := rand.NewChaCha8([32]byte{9})
	sizes := []int{0, 1, 9, 100, 1472, 1473, 9000, 65507}
	k := s.Dev.Talker("eth0", dev4)
	first := s.record(socket, "--rule", "lines")
	var want []string
	for i := range 80 {
		payload := make([]byte, sizes[i%len(sizes)])
		random.Read(payload)
		to := fmt.Sprintf("239.10.4.%d:30000", 1+i%3)
		k.Say(group(to), payload)
		want = append(want, digested(to, payload))
		time.Sleep(25 * time.Millisecond) // a datagram is some hundred lines, each told of: who reads them too slowly misses some
	}
	recorded := func(r *recordRun) []string {
		s.eventually("all of it is in the file", func() error {
			text, err := os.ReadFile(r.file)
			if n := len(datagramsOf(t, text)); err != nil || n < len(want) {
				return fmt.Errorf("%d, %v", n, err)
			}
			return nil
		})
		file, _ := r.end()
		return datagramsOf(t, file)
	}
	// Three groups are three sockets: the order is that of each.
	byGroup := func(lines []string) map[string][]string {
		of := map[string][]string{}
		for _, l := range lines {
			to, _, _ := strings.Cut(l, " ")
			of[to] = append(of[to], l)
		}
		return of
	}
	same := func(what string, got []string) {
		a, b := byGroup(got), byGroup(want)
		for to := range b {
			if !sameLines(a[to], b[to]) {
				t.Errorf("%s, %s: %d datagrams, want %d", what, to, len(a[to]), len(b[to]))
			}
		}
	}
	got := recorded(first)
	same("recorded", got)
	arrived := s.GW.Capture("iso0")
	second := s.record(socket, "--rule", "lines")
	out, err := s.Dev.Command(mustBinary(t), "replay", first.file, "--source", dev4.String(), "--interface", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "80 datagrams sent to 3 groups") {
		t.Fatalf("%v: %s", err, out)
	}
	for i, f := range arrived.WaitFor(len(want), nil) {
		if line := digested(f.Dst.String(), f.Payload); line != got[i] {
			t.Errorf("on the wire %d is %s, recorded was %s", i, line, got[i])
		}
	}
	same("recorded of the replay", recorded(second))
}
