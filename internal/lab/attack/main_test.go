//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	packets5 "github.com/eclipse/paho.golang/packets"
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

func TestEveryAttackHasANameOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range attacks {
		if seen[a.name] || strings.ContainsAny(a.name, "/,* ") {
			t.Errorf("%q (%s) is there twice, or cannot be named", a.name, a.about)
		}
		seen[a.name] = true
		if a.run == nil || a.about == "" {
			t.Errorf("%s does not happen", a.name)
		}
		if a.lossless && len(a.victims) == 0 {
			t.Errorf("%s loses nothing of nobody", a.name)
		}
	}
}

func TestWhatCannotBeDoneIsRefused(t *testing.T) {
	for args, want := range map[string]string{
		"--protocol 4":      "invalid value \"4\" for flag -protocol: it is not auto, 5 or 3.1.1",
		"--only nope":       "--only nope: nothing has that name",
		"--only [":          "syntax error in pattern",
		"--parallel 9":      "--parallel 9 is not 1 to 8",
		"--json --markdown": "--json and --markdown are one too many",
		"flood":             "unexpected argument \"flood\"",
	} {
		_, err := readFlags(strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
	o, err := readFlags("--only", "icmp-*,flood")
	var names []string
	for _, a := range o.attacks {
		names = append(names, a.name)
	}
	want := []string{"flood", "icmp-too-big", "icmp-too-big-6", "icmp-port", "icmp-port-6", "icmp-host"}
	if diff := cmp.Diff(want, names); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestTopicastIsToldTheVersionThatIsAskedFor(t *testing.T) {
	for asked, want := range map[string]string{"auto": "keep_alive: 5s }", "5": `, protocol: "5" }`, "3.1.1": `, protocol: "3.1.1" }`} {
		o, err := readFlags("--protocol", asked)
		r := &rig{protocol: o.Protocol, setup: defaultSetup()}
		if line, _, _ := strings.Cut(r.config(), "\n"); err != nil || !strings.HasSuffix(line, want) {
			t.Errorf("--protocol %s: %q, %v, want %q", asked, line, err, want)
		}
	}
}

// It is not counted as harmless, nor as harm.
func TestAnAttackOfMQTT5IsNotMadeIn311(t *testing.T) {
	o, err := readFlags("--protocol", "3.1.1")
	r := runAttack(t.Context(), t.TempDir(), o, attack{name: "x", five: true, run: func(*rig) { t.Error("it is made") }})
	if got := harness.Verdict(r); err != nil || got != notSpoken || len(harness.Faulty(r)) > 0 {
		t.Errorf("%v: %s, %v", err, got, harness.Faulty(r))
	}
}

// What stands in for a broker is read as the version that is spoken has it.
func TestAPublishOfTheBrokerIsOfTheVersionThatIsSpoken(t *testing.T) {
	old, err := packets.ReadPacket(bytes.NewReader((&rig{protocol: "3.1.1"}).publishFrame("a", 2, 7, []byte("x"))))
	if m, ok := old.(*packets.PublishPacket); err != nil || !ok || string(m.Payload) != "x" || m.MessageID != 7 {
		t.Errorf("3.1.1: %v, %v", old, err)
	}
	p, err := packets5.ReadPacket(bytes.NewReader((&rig{protocol: "5"}).publishFrame("a", 2, 7, []byte("x"))))
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := p.Content.(*packets5.Publish); !ok || string(m.Payload) != "x" || m.PacketID != 7 {
		t.Errorf("5: %v", p)
	}
}

func TestARowIsOkOnlyIfNothingIsWrong(t *testing.T) {
	good := row{Name: "x", About: "x", In: 100, Victims: 0.2, Neighbours: 1, OverIdle: 64, Lines: 30, Lasted: 10 * time.Second, Heal: 5 * time.Second}
	for _, tt := range []struct {
		name   string
		change func(*row)
		want   string
		why    []string
	}{
		{"as good as it need be", func(*row) {}, "ok", nil},
		{"lost, and counted", func(r *row) { r.Lost = 50 }, "ok", nil},
		{"lost without a count", func(r *row) { r.Uncounted = 1 }, "FAIL", []string{"1 lost without a count"}},
		{"lost where nothing may be", func(r *row) { r.Lost, r.lossless = 1, true }, "FAIL", []string{"1 lost of what nothing may be lost of"}},
		{"the victims stood", func(r *row) { r.leastVictims = leastCarried }, "FAIL", []string{"the victims carried 0.200, less than 0.95"}},
		{"the neighbours stood", func(r *row) { r.Neighbours = 0.949 }, "FAIL", []string{"the neighbours carried 0.949, less than 0.95"}},
		{"there are no neighbours", func(r *row) { r.Neighbours = -1 }, "ok", nil},
		{"memory", func(r *row) { r.OverIdle = 65 }, "FAIL", []string{"65 MB over idle, more than 64"}},
		{"the log", func(r *row) { r.Lines = 31 }, "FAIL", []string{"31 lines logged, more than 30"}},
		{"healed late", func(r *row) { r.Heal = 5100 * time.Millisecond }, "FAIL", []string{"healed after 5.1 s, more than 5"}},
		{"never healed", func(r *row) { r.Heal = -1 }, "FAIL", []string{"it did not heal"}},
		{"killed", func(r *row) { r.Died = "signal: killed" }, "FAIL", []string{"topicast ended: signal: killed"}},
		{"nothing went in", func(r *row) { r.In = 0 }, "FAIL", []string{"no message went in"}},
		{"the run failed", func(r *row) { r.Failures = []string{"why"} }, "FAIL", []string{"why"}},
		{"interrupted", func(r *row) { r.In, r.Absent = 0, harness.Interrupted }, harness.Interrupted, nil},
	} {
		r := good
		tt.change(&r)
		if got := harness.Verdict(r); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if diff := cmp.Diff(tt.why, harness.Faulty(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestWhatIsLostIsToldFromWhatIsCounted(t *testing.T) {
	s := &stream{name: "x", size: ordinarySize}
	now := time.Now()
	var payloads [][]byte
	for i := range 10 {
		payloads = append(payloads, s.next(now.Add(time.Duration(i)*time.Second)))
	}
	for i, p := range payloads[:7] {
		s.note(p, now.Add(time.Duration(i)*time.Second+prompt/2))
	}
	s.note(payloads[0], now)                    // comes twice
	s.note(payloads[7], now.Add(9*time.Second)) // late: 7 s was its time
	s.note([]byte("forged"), now)               // another's
	s.offer(5)                                  // of which one arrived
	if lost, of := s.lost(); lost != 2 || of != 10 {
		t.Errorf("%d of %d lost, want 2 of 10", lost, of)
	}
	for counted, want := range map[int]int{0: 6, 4: 2, 6: 0, 9: 0} {
		if got := s.unaccounted(counted); got != want {
			t.Errorf("%d counted: %d unaccounted for, want %d", counted, got, want)
		}
	}
	if got := s.carried(now, now.Add(10*time.Second)); got != 0.7 {
		t.Errorf("%v carried in time, want 0.7", got)
	}
	if s.runsSince(now.Add(7500*time.Millisecond)) || !s.runsSince(now.Add(6500*time.Millisecond)) {
		t.Error("it runs since the last that arrived was made")
	}
}

func TestAnswersToNothingAreOfTheirKind(t *testing.T) {
	for _, kind := range []byte{packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Suback, packets.Unsuback} {
		p, err := packets.ReadPacket(bytes.NewReader(answerTo(false, kind, 300)))
		if err != nil || p.Details().MessageID != 300 || !strings.HasPrefix(p.String(), packets.PacketNames[kind]) {
			t.Errorf("%s: %v, %v", packets.PacketNames[kind], p, err)
		}
		p5, err := packets5.ReadPacket(bytes.NewReader(answerTo(true, kind, 300)))
		if err != nil || p5.PacketID() != 300 || p5.PacketType() != packets.PacketNames[kind] {
			t.Errorf("MQTT 5: %s: %v, %v", packets.PacketNames[kind], p5, err)
		}
	}
}

// A certificate of the broker that is not the one that is trusted, or no longer valid, is
// refused for that.
func TestCertificatesFailAsTheyAreToFail(t *testing.T) {
	valid, err := certificate(1, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	other, err1 := certificate(1, time.Now().Add(time.Hour))
	expired, err2 := certificate(2, time.Now().Add(-time.Hour))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for want, c := range map[string]tls.Certificate{"": valid, "unknown authority": other, "expired": expired} {
		roots := x509.NewCertPool()
		trusted := valid
		if want == "expired" {
			trusted = expired
		}
		leaf, err := x509.ParseCertificate(trusted.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(leaf)
		shown, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		_, err = shown.Verify(x509.VerifyOptions{Roots: roots, DNSName: brokerHost})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// The table of docs/security.md has a row for each attack, in their order.
func TestTheDocumentedTableHasEveryAttack(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{heads[0], "---"}
	for _, a := range attacks {
		want = append(want, a.about)
	}
	var got []string
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(line, " | ")
		if len(cells) != len(heads) {
			continue
		}
		got = append(got, strings.TrimPrefix(cells[0], "| "))
		if verdict := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(cells[len(cells)-1]), "|")); strings.HasPrefix(verdict, "FAIL") {
			t.Logf("documented as a failure: %s", cells[0])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
