package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"topicast/bridge/doctor"
	"topicast/internal/lab/netlab"
)

// The system tests of doctor: each cause is made for real on the gateway of a rig, and doctor has to name
// that one and no other. The rules are lamps, of send, and meters, of receive.

const (
	lampsRule  = "  - { name: lamps, filter: lamp/set, group: '239.10.3.7:30000', source: 172.17.0.1, interface: iso0 }\n"
	metersRule = "  - { name: meters, group: '239.11.3.7:30001', interface: iso0, topic: meters }\n"
)

var (
	lampsGroup  = group("239.10.3.7:30000")
	metersGroup = group("239.11.3.7:30001")
)

// ailing is a rig on which something is wrong.
type ailing struct {
	*system
	broker   []string        // settings of mosquitto
	bridge   *netlab.Process // nil: it does not run
	noStart  bool            // it is not to
	say      func()          // what is said again and again while doctor looks; nil: nothing
	args     []string        // of doctor
	noConfig bool            // without the configuration
	as       []string        // what runs doctor, as another user
}

// rules replaces those of the configuration.
func (a *ailing) rules(send, receive string, more ...string) {
	a.t.Helper()
	if send == "" {
		send = "  []\n"
	}
	text := fmt.Sprintf("broker:\n  url: mqtt://%s\n  client_id: %s\n  protocol: \"5\"\nweb:\n  listen: %s\nsend:\n%s", brokerAddress, gatewayID, webAddress, send)
	if receive != "" {
		text += "receive:\n" + receive
	}
	if err := os.WriteFile(a.config, []byte(text+strings.Join(more, "")), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// edit changes a word of the configuration.
func (a *ailing) edit(from, to string) {
	a.t.Helper()
	text, err := os.ReadFile(a.config)
	if err != nil || !strings.Contains(string(text), from) {
		a.t.Fatalf("%v: %q is not in the configuration", err, from)
	}
	if err := os.WriteFile(a.config, []byte(strings.ReplaceAll(string(text), from, to)), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// run runs a command on a host.
func (a *ailing) run(h *netlab.Host, line string) {
	a.t.Helper()
	if out, err := h.Command("sh", "-c", line).CombinedOutput(); err != nil {
		a.t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// nft makes a chain of a hook on a host, with some rules.
func (a *ailing) nft(h *netlab.Host, family, kind, hook, more string, rules ...string) {
	a.t.Helper()
	a.run(h, fmt.Sprintf("nft add table %[1]s t && nft 'add chain %[1]s t c { type %[2]s hook %[3]s priority 0; %[4]s }'", family, kind, hook, more))
	for _, r := range rules {
		a.run(h, fmt.Sprintf("nft 'add rule %s t c %s'", family, r))
	}
}

// devSays has the device say something again and again.
func (a *ailing) devSays(to string, from ...netip.Addr) {
	a.t.Helper()
	k := a.Dev.Talker("eth0", append(from, dev4)[0])
	a.say = func() { k.Say(group(to), []byte("12 kW")) }
}

// starts starts broker and bridge, as far as they are to run, and waits until the bridge answers.
func (a *ailing) starts() {
	a.t.Helper()
	a.startBroker(a.broker...)
	if !a.noStart {
		a.bridge = a.startBridge()
		a.connected()
	}
}

// startsFor is starts, where doctor is asked about one rule.
func (a *ailing) startsFor(rule string) {
	a.t.Helper()
	a.starts()
	a.args = []string{"--rule", rule}
}

func (a *ailing) connected() {
	a.t.Helper()
	a.eventually("it is connected", func() error {
		if b := a.status().Broker; !b.Connected {
			return fmt.Errorf("it is not: %s", b.Error)
		}
		return nil
	})
}

// diagnose runs doctor while things are said.
func (a *ailing) diagnose() (causes []doctor.Cause, report doctor.Report, status int) {
	a.t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		a.t.Fatal(err)
	}
	args := append([]string{"doctor", "--json", "--for", "700ms"}, a.args...)
	if !a.noConfig {
		args = append(args, "--config", a.config)
	}
	line := append(append(slices.Clone(a.as), binary), args...)
	c := a.GW.Command(line[0], line[1:]...)
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	if err := c.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { c.Wait(); close(ended) }()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
			if a.say != nil {
				a.say()
			}
			continue
		case <-ended:
			tick.Stop()
		}
		break
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		a.t.Fatalf("%v: %s%s", err, out.String(), errOut.String())
	}
	for _, f := range report.Findings {
		causes = append(causes, f.Cause)
		if f.Text == "" || f.Fix == "" {
			a.t.Errorf("%s says too little: %+v", f.Cause, f)
		}
	}
	return causes, report, c.ProcessState.ExitCode()
}

// newAiling is a rig with both rules, before anything is started.
func newAiling(t *testing.T) *ailing {
	t.Helper()
	a := &ailing{system: newSystem(t, lampsRule)}
	a.rules(lampsRule, metersRule)
	return a
}

func TestDoctorNamesEachCauseThatIsMadeAndNoOther(t *testing.T) { diagnoseEach(t, ailments) }

func TestDoctorNamesAllCausesOfSeveral(t *testing.T) { diagnoseEach(t, several) }

func TestDoctorFindsNothingWhereNothingIsWrong(t *testing.T) { diagnoseEach(t, healthy) }

// diagnoseEach makes each ailment on a rig of its own, and holds what doctor names against it.
func diagnoseEach(t *testing.T, rows []ailment) {
	for _, row := range rows {
		t.Run(strings.ReplaceAll(row.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			a := newAiling(t)
			row.make(a)
			got, report, status := a.diagnose()
			if want := min(len(row.causes), exitFailed); !slices.Equal(got, row.causes) || status != want {
				text, _ := json.MarshalIndent(report, "", " ")
				t.Errorf("doctor names %q (exit status %d), want %q\n%.6000s", got, status, row.causes, text)
			}
		})
	}
}

// A cause that nobody makes may never be named.
func TestEveryCauseIsMadeByATest(t *testing.T) {
	var made []doctor.Cause
	for _, row := range ailments {
		made = append(made, row.causes...)
	}
	for _, c := range doctor.Causes() {
		if !slices.Contains(made, c) {
			t.Errorf("nothing makes %s", c)
		}
	}
}

// Whoever is not root gets the same from what anybody may see, and is told what that leaves out.
func TestDoctorIsOfUseWithoutPrivileges(t *testing.T) {
	a := newAiling(t)
	a.nft(a.GW, "inet", "filter", "output", "", "udp dport 30000-65535 drop")
	a.starts()
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(a.config, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(a.config); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	os.Chmod(filepath.Dir(binary), 0o755)
	c := a.GW.Command("setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", binary, "doctor", "--config", a.config, "--rule", "lamps", "--for", "200ms")
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), "setresuid") {
		netlab.Skip(t, "this user namespace has no user 65534: %s", out)
	}
	for _, want := range []string{"cause: egress_firewall: ", "not seen: the rules of the firewall: nft list ruleset needs CAP_NET_ADMIN", "not seen: what is on the wire of iso0: it needs CAP_NET_RAW"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing (%v):\n%s", want, err, out)
		}
	}
}

// It only looks: what it could have changed is as before.
func TestDoctorChangesNothing(t *testing.T) {
	a := newAiling(t)
	a.nft(a.GW, "inet", "filter", "input", "", "udp dport 30001 drop")
	a.starts()
	state := func() string {
		out, err := a.GW.Command("sh", "-c", "nft list ruleset; ip addr; ip route; ip -6 route; ip -d link; cat /proc/net/igmp /proc/net/igmp6; sysctl -a -r '^net\\.ipv4\\.(conf|igmp)' 2>&1; tc qdisc").CombinedOutput()
		if err != nil || len(out) < 1000 {
			t.Fatalf("%v: %s", err, out)
		}
		// The timers of memberships run by themselves.
		return strings.Join(slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool {
			return strings.HasPrefix(l, "\t\t\t\t") || strings.Contains(l, "valid_lft")
		}), "\n")
	}
	a.eventually("the rules are up", func() error {
		if s := a.status(); len(s.Conditions) > 0 {
			return fmt.Errorf("%v", s.Conditions)
		}
		return nil
	})
	before := state()
	if got, _, _ := a.diagnose(); !slices.Equal(got, []doctor.Cause{doctor.IngressFirewall}) {
		t.Errorf("doctor names %q", got)
	}
	if after := state(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

// hold binds a port as a program does that shares it with nobody.
func (a *ailing) hold(address string) { a.t.Helper(); a.holdOn(a.GW, address) }

func (a *ailing) holdOn(h *netlab.Host, address string) {
	a.t.Helper()
	var held net.PacketConn
	err := h.Do(func() (err error) {
		held, err = net.ListenPacket("udp4", address)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { held.Close() })
}

// stop has the bridge stand still while something is done.
func (a *ailing) stop(meanwhile func()) {
	a.t.Helper()
	a.bridge.Process.Signal(syscall.SIGSTOP)
	meanwhile()
	a.bridge.Process.Signal(syscall.SIGCONT)
}
