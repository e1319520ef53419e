package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"topicast/bridge"
	"topicast/bridge/tap"
	"topicast/internal/lab/netlab"
)

// The system tests of the control socket: the real binary asks the real binary.

const controlledRules = `
  - { name: lamps, filter: 'lamp/{id}/set', group: '239.10.3.{id}:30000', source: 172.17.0.1, interface: iso0 }
  - { name: away, filter: 'away/#', group: '239.10.3.1:30001', interface: eth9 }
receive:
  - { name: meters, group: '239.10.4.1:30000', interface: iso0, topic: 'meters/{source}', source: 172.17.0.48/30 }
control:
  listen: unix:SOCKET
`

// controlled is a system with a control socket.
func controlled(t *testing.T) (s *system, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "c")
	return newSystem(t, strings.Replace(controlledRules, "SOCKET", socket, 1)), socket
}

// controlledUp is one that has been started, with its broker there.
func controlledUp(t *testing.T) (s *system, socket string) {
	t.Helper()
	s, socket = controlled(t)
	s.startBroker()
	s.startBridge()
	s.eventually("the broker is there, and the rules that can are up", func() error {
		if st := s.status(); !st.Broker.Connected || st.Broker.Subscriptions != 2 || st.Receive[0].State != "up" || st.Rules[0].State != "up" {
			return fmt.Errorf("%+v", st.Broker)
		}
		return nil
	})
	return s, socket
}

// ask runs a command of the binary.
func ask(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	c := exec.CommandContext(t.Context(), binary, args...)
	c.Stdout, c.Stderr = &out, &errOut
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errOut.String()
}

// following runs topicast tap, and returns what it has said once it has ended.
func following(t *testing.T, socket string, args ...string) (end func() []tap.Event) {
	t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "events")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	watching, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), binary, append([]string{"tap", "--control", socket, "--json", "--for", patience.String()}, args...)...)
	c.Stdout, c.Stderr = file, told
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	told.Close()
	if _, err := watching.Read(make([]byte, 1)); err != nil { // it says so when it watches
		t.Fatal(err)
	}
	return func() (all []tap.Event) {
		if err := c.Wait(); err != nil {
			text, _ := os.ReadFile(out)
			t.Fatalf("topicast tap: %v; it had\n%s", err, text)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var e tap.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			all = append(all, e)
		}
		return all
	}
}

func TestTapTellsOfEachMessageWhatBecomesOfIt(t *testing.T) {
	s, socket := controlledUp(t)
	all := following(t, socket, "--payload=100", "--count", "6")
	one := following(t, socket, "239.10.3.7:30000", "--count", "1")
	lost := following(t, socket, "--dropped", "--rule", "lamps", "--count", "1")
	c := s.client("backend")
	s.publish(c, "lamp/7/set", []byte("on"))
	s.publish(c, "lamp/700/set", []byte("on"))
	s.publish(c, "away/7", []byte("waits"))
	s.done(c.Publish("away/8", 0, false, "is lost"), "publish")
	s.Dev.Talker("eth0", dev4).Say(group("239.10.4.1:30000"), []byte("17 kWh"))
	s.Dev.Addr("eth0", "172.17.0.60/16")
	s.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.60")).Say(group("239.10.4.1:30000"), []byte("forged"))

	type short struct{ rule, decision, topic, to, on, reason, payload string }
	got := map[short]bool{}
	for _, e := range all() {
		got[short{e.Rule, string(e.Decision), e.Topic, e.To.String(), e.Interface, e.Reason, string(e.Payload)}] = true
		switch {
		case e.Bytes != len(e.Payload), e.Latency <= 0, e.Latency > patience, time.Since(e.Time) > patience:
			t.Errorf("%+v", e)
		case e.Decision == tap.Sent && e.Source.Addr().String() != "172.17.0.1", e.Decision == tap.Published && e.Source.Addr().String() != "172.17.0.50":
			t.Errorf("from %s: %+v", e.Source, e)
		}
	}
	for _, want := range []short{
		{"lamps", "sent", "lamp/7/set", "239.10.3.7:30000", "iso0", "", "on"},
		{"lamps", "dropped", "lamp/700/set", "invalid AddrPort", "iso0", "bad_group", "on"},
		{"away", "waiting", "away/7", "239.10.3.1:30001", "eth9", "", "waits"},
		{"away", "dropped", "away/8", "239.10.3.1:30001", "eth9", "pending", "is lost"},
		{"meters", "published", "meters/172.17.0.50", "239.10.4.1:30000", "iso0", "", "17 kWh"},
		{"meters", "filtered", "", "239.10.4.1:30000", "iso0", "source", "forged"},
	} {
		if !got[want] {
			t.Errorf("%+v is not among\n%+v", want, got)
		}
	}
	if events := one(); events[0].Topic != "lamp/7/set" || events[0].Payload != nil {
		t.Errorf("by its group: %+v", events)
	}
	if events := lost(); events[0].Topic != "lamp/700/set" {
		t.Errorf("of what is lost: %+v", events)
	}
}

// A switch that was restarted knows no group, and learns them by the reports that a join sends.
func TestRejoinHasTheNetworkHearOfTheGroupsOfARule(t *testing.T) {
	s, socket := controlled(t)
	s.startBroker()
	s.startBridge()
	s.eventually("it has joined", func() error {
		if got := s.receiveRule("meters"); got.Joined != 1 {
			return fmt.Errorf("%s", got.Reason)
		}
		return nil
	})
	if status, out, errOut := ask(t, "rejoin", "meters", "--control", socket); status != exitDone || out != "joins anew: meters\n" {
		t.Errorf("status %d, %q, %q", status, out, errOut)
	}
	if status, _, errOut := ask(t, "rejoin", "lamps", "--control", socket); status != exitFailed || !strings.Contains(errOut, `no receive rule "lamps"`) {
		t.Errorf("of a send rule: status %d, %q", status, errOut)
	}
	watching := following(t, socket, "--rule", "meters", "--count", "1")
	s.Dev.Talker("eth0", dev4).Say(group("239.10.4.1:30000"), []byte("17 kWh"))
	if got := watching(); got[0].Decision != tap.Published {
		t.Errorf("then %+v", got)
	}
}

func TestStatusIsThatOfTheRunningBridgeAndItsExitStatusWhetherItIsReady(t *testing.T) {
	s, socket := controlled(t)
	s.startBroker()
	p := s.startBridge()
	s.eventually("the rules that can are up", func() error {
		status, out, errOut := ask(t, "status", "--config", s.config)
		if status != exitFailed || !strings.Contains(out, "connected for") {
			return fmt.Errorf("status %d\n%s%s", status, out, errOut)
		}
		if i, j := strings.Index(out, "\naway "), strings.Index(out, "\nlamps "); i < 0 || j < i || !strings.Contains(out, "eth9") {
			return fmt.Errorf("what waits does not stand first\n%s", out)
		}
		return nil
	})
	// What waits is there now.
	s.Link(s.GW, "eth9", s.Dev, "eth9")
	s.GW.Addr("eth9", "172.19.0.1/16")
	s.eventually("it is ready", func() error {
		if status, out, errOut := ask(t, "status", "--control", socket); status != exitDone || !strings.Contains(out, ", ready, ") {
			return fmt.Errorf("status %d\n%s%s", status, out, errOut)
		}
		return nil
	})
	_, out, _ := ask(t, "status", "--control", socket, "--json")
	var got bridge.Status
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Rules) != 2 || len(got.Receive) != 1 || !got.Ready {
		t.Errorf("%v\n%s", err, out)
	}
	_, out, _ = ask(t, "status", "--control", socket, "--json", "--limit", "1")
	if got = (bridge.Status{}); json.Unmarshal([]byte(out), &got) != nil || len(got.Rules)+len(got.Receive) != 1 {
		t.Errorf("--limit 1:\n%s", out)
	}
	p.Kill()
	if status, _, errOut := ask(t, "status", "--control", socket); status != exitFailed || !strings.Contains(errOut, "refused") || !strings.Contains(errOut, "start it again") {
		t.Errorf("of one that was killed: %d, %s", status, errOut)
	}
	s.startBridge() // in spite of the socket that is left
	s.eventually("it answers again", func() error {
		if status, _, errOut := ask(t, "status", "--control", socket); status != exitDone {
			return fmt.Errorf("%s", errOut)
		}
		return nil
	})
}

// A rule that is switched off carries nothing, whatever else goes on, until it is switched on.
func TestADisabledRuleCarriesNothingUntilItIsEnabled(t *testing.T) {
	s, socket := controlledUp(t)
	arrived := s.Dev.Capture("eth0")
	c := s.client("backend")
	s.publish(c, "lamp/1/set", []byte("before"))
	s.publish(c, "away/1", []byte("waits"))
	s.hasSent("lamps", 1)
	s.eventually("a message waits", func() error {
		if r := s.rule("away"); r.WaitingMemory != 1 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	for _, rule := range []string{"lamps", "meters", "away"} {
		status, out, errOut := ask(t, "disable", rule, "--control", socket)
		if status != exitDone || out != "disabled: "+rule+"\n" {
			t.Errorf("disable: %d, %q, %q", status, out, errOut)
		}
		if rule == "away" && !strings.Contains(errOut, "1 messages of it wait in memory and 0 on disk") {
			t.Errorf("%q", errOut)
		}
	}
	groups, err := s.GW.Command("cat", "/proc/net/igmp").Output()
	if err != nil || strings.Contains(string(groups), "01040AEF") {
		t.Errorf("239.10.4.1 is joined: %v\n%s", err, groups)
	}
	s.publish(c, "lamp/2/set", []byte("while it is disabled"))
	s.Dev.Talker("eth0", dev4).Say(group("239.10.4.1:30000"), []byte("17 kWh"))
	s.eventually("what comes is counted", func() error {
		if r := s.rule("lamps"); r.Filtered["disabled"] != 1 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config, []byte(strings.Replace(string(text), "iso0, topic: 'meters", "iso0, qos: 0, topic: 'meters", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("the configuration was taken over", func() error {
		if st := s.status(); st.Reload == nil || st.Reload.Count != 1 {
			return fmt.Errorf("%+v", st.Reload)
		}
		return nil
	})
	st := s.status()
	if st.Summary.Disabled != 3 || !st.Ready || !strings.Contains(st.Rules[0].Reason, "disabled by ") || st.Receive[0].Received != 0 {
		t.Errorf("%+v, ready %t, %+v", st.Summary, st.Ready, st.Rules[0])
	}
	if status, out, errOut := ask(t, "status", "--control", socket); status != exitDone || !strings.Contains(out, "3 disabled") {
		t.Errorf("%d %s%s", status, out, errOut)
	}
	for _, rule := range []string{"lamps", "meters", "away"} {
		if status, out, errOut := ask(t, "enable", rule, "--control", socket); status != exitDone || out != "enabled: "+rule+"\n" {
			t.Errorf("enable: %d, %q, %q", status, out, errOut)
		}
	}
	s.eventually("it has joined", func() error {
		if got := s.receiveRule("meters"); got.Joined != 1 {
			return fmt.Errorf("%s", got.Reason)
		}
		return nil
	})
	watching := following(t, socket, "--rule", "meters", "--count", "1")
	s.Dev.Talker("eth0", dev4).Say(group("239.10.4.1:30000"), []byte("18 kWh"))
	if got := watching(); got[0].Decision != tap.Published {
		t.Errorf("then %+v", got)
	}
	s.publish(c, "lamp/3/set", []byte("after"))
	s.Link(s.GW, "eth9", s.Dev, "eth9")
	onEth9 := s.Dev.Capture("eth9")
	s.GW.Addr("eth9", "172.19.0.1/16")
	if f := onEth9.WaitFor(1, nil); string(f[0].Payload) != "waits" {
		t.Errorf("what waited is %q", f[0].Payload)
	}
	var got []string
	for _, f := range arrived.WaitFor(2, func(f netlab.Frame) bool {
		return f.UDP() && f.Dst.Addr().IsMulticast() && f.Src.Addr().String() == "172.17.0.1"
	}) {
		got = append(got, string(f.Payload))
	}
	if strings.Join(got, ", ") != "before, after" {
		t.Errorf("on the wire: %q", got)
	}
}

// What waits on disk is discarded when that is asked for twice, and nothing of it leaves then.
func TestWhatIsFlushedNeverLeaves(t *testing.T) {
	socket, dir := filepath.Join(t.TempDir(), "c"), t.TempDir()
	s := newSystem(t, strings.Replace(controlledRules, "SOCKET", socket, 1)+"spool: {dir: "+dir+"}\n")
	s.startBroker()
	s.startBridge()
	s.eventually("the broker is there", func() error {
		if st := s.status(); st.Broker.Subscriptions != 2 {
			return fmt.Errorf("%+v", st.Broker)
		}
		return nil
	})
	c := s.client("backend")
	for i := range 30 {
		s.publish(c, "away/1", fmt.Appendf(nil, "%d", i))
	}
	s.eventually("all of it is on disk", func() error {
		if r := s.rule("away"); r.WaitingDisk != 30 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if status, out, errOut := ask(t, "flush", "away", "--control", socket); status != exitFailed || out != "away: 0 in memory, 30 on disk\n" || !strings.Contains(errOut, "without --yes") || s.rule("away").WaitingDisk != 30 {
		t.Errorf("without --yes: %d, %q, %q", status, out, errOut)
	}
	if status, out, errOut := ask(t, "flush", "away", "--control", socket, "--yes"); status != exitDone || out != "discarded: away: 0 in memory, 30 on disk\n" {
		t.Errorf("%d, %q, %q", status, out, errOut)
	}
	if r := s.rule("away"); r.WaitingDisk != 0 || r.Drops["flushed"] != 30 {
		t.Errorf("%+v", r)
	}
	s.publish(c, "away/1", []byte("after"))
	s.Link(s.GW, "eth9", s.Dev, "eth9")
	arrived := s.Dev.Capture("eth9")
	s.GW.Addr("eth9", "172.19.0.1/16")
	if f := arrived.WaitFor(1, netlab.Frame.UDP); string(f[0].Payload) != "after" {
		t.Errorf("%q", f[0].Payload)
	}
}

// While the rule of a shared subscription is disabled the broker gives its messages to others.
func TestADisabledRuleLeavesItsSharedSubscription(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "c")
	s := newSystem(t, strings.Replace(`
  - { name: lamps, filter: 'lamp/{id}/set', group: '239.10.3.{id}:30000', source: 172.17.0.1, interface: iso0, share: gateways }
  - { name: blinds, filter: 'blind/{id}/set', group: '239.10.3.{id}:30001', source: 172.17.0.1, interface: iso0 }
control:
  listen: unix:SOCKET
`, "SOCKET", socket, 1))
	s.startBroker()
	s.startBridge()
	subscribed := func(n int) {
		t.Helper()
		s.eventually(fmt.Sprint(n, " subscriptions"), func() error {
			if st := s.status(); st.Broker.Subscriptions != n {
				return fmt.Errorf("%+v", st.Broker)
			}
			return nil
		})
	}
	subscribed(2)
	for _, rule := range []string{"lamps", "blinds"} {
		if status, _, errOut := ask(t, "disable", rule, "--control", socket); status != exitDone {
			t.Error(errOut)
		}
	}
	subscribed(1)
	c := s.client("backend")
	s.publish(c, "lamp/1/set", []byte("for others"))
	s.publish(c, "blind/1/set", []byte("counted"))
	s.eventually("what is not shared is counted", func() error {
		if r := s.rule("blinds"); r.Filtered["disabled"] != 1 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if r := s.rule("lamps"); r.Received != 0 {
		t.Errorf("%+v", r)
	}
	if status, _, errOut := ask(t, "enable", "lamps", "--control", socket); status != exitDone {
		t.Error(errOut)
	}
	subscribed(2)
}
