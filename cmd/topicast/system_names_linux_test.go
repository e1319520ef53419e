package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
)

// The system tests of what interfaces are called.

func TestRulesGoByAnyNameOfAnInterface(t *testing.T) {
	const long = "a-name-of-127-bytes-"
	name := long + strings.Repeat("x", 127-len(long))
	s := newSystem(t, fmt.Sprintf(`
  - { name: alt,   filter: s/alt,   group: '239.10.0.1:30000', interface: enp3s0 }
  - { name: long,  filter: s/long,  group: '239.10.0.2:30000', interface: %s, source: 172.17.0.1 }
  - { name: label, filter: s/label, group: '239.10.0.3:30000', interface: 'iso0:1' }
  - { name: both,  filter: s/both,  group: '239.10.0.4:30000', interface: 'iso0:1', source: 172.17.0.1 }
receive:
  - { name: r-alt,   group: '239.11.0.1:30001', interface: enp3s0,   topic: 'r/alt/{interface}' }
  - { name: r-label, group: '239.11.0.2:30001', interface: 'iso0:1', topic: 'r/label/{interface}' }
`, name))
	s.GW.AltName("iso0", "enp3s0")
	s.GW.AltName("iso0", name)
	s.GW.Label("iso0", "172.17.0.9/16", "iso0:1")
	if out := s.command("check", s.config); strings.Contains(out, "pending") || !strings.Contains(out, ": ok\n") {
		t.Errorf("check: %s", out)
	}
	if out := s.command("explain", "s/label", "--config", s.config); !strings.Contains(out, "172.17.0.9") {
		t.Errorf("explain: %s", out)
	}
	if out := s.command("explain", "239.11.0.1:30001", "--config", s.config, "--from", "172.17.0.50"); !strings.Contains(out, "r/alt/enp3s0") {
		t.Errorf("explain: %s", out)
	}
	if out := s.command("__complete", "listen", "239.1.1.1:1", "--interface", ""); !strings.Contains(out, "\nenp3s0\t") || !strings.Contains(out, "\niso0:1\t172.17.0.9/16\n") {
		t.Errorf("completion: %s", out)
	}
	device := s.Dev.Device("eth0", group("239.10.0.1:30000"), group("239.10.0.2:30000"), group("239.10.0.3:30000"), group("239.10.0.4:30000"))
	s.startAll()
	w := s.subscriber("r/#")
	backend := s.client("backend")
	for i, topic := range []string{"s/alt", "s/long", "s/label", "s/both"} {
		s.publish(backend, topic, []byte(topic))
		got := device.WaitFor(i + 1)[i]
		want := "172.17.0.1"
		if topic == "s/label" {
			want = "172.17.0.9"
		}
		if string(got.Payload) != topic || got.Source.Addr().String() != want {
			t.Errorf("%s left from %s, want %s", got.Payload, got.Source, want)
		}
	}
	talker := s.Dev.Talker("eth0", dev4)
	talker.Say(group("239.11.0.1:30001"), []byte("one"))
	talker.Say(group("239.11.0.2:30001"), []byte("two"))
	s.settled(w, 2)
	if d := cmp.Diff([]string{"r/alt/enp3s0 one", "r/label/iso0:1 two"}, w.lines()); d != "" {
		t.Error(d)
	}

	// A name that goes takes its rules with it, and one that comes brings them back.
	s.GW.DelAltName("iso0", "enp3s0")
	s.ruleBecomes("alt", account.StatePending)
	s.eventually("the receive rule is pending", func() error {
		if r := s.receiveRule("r-alt"); r.State != account.StatePending || !strings.HasPrefix(r.Reason, "there is no interface enp3s0 (there are ") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	s.GW.AltName("iso0", "enp3s0")
	s.ready()
	talker.Say(group("239.11.0.1:30001"), []byte("three"))
	s.settled(w, 3)

	for _, command := range []string{"send 239.10.0.1:30000 --interface enp3s0 x", "send 239.10.0.1:30000 --interface iso0:1 x"} {
		if out := s.command(strings.Fields(command)...); strings.Contains(out, "error") {
			t.Errorf("%s: %s", command, out)
		}
	}
	if got := device.WaitFor(6)[5].Source.Addr().String(); got != "172.17.0.9" {
		t.Errorf("send --interface iso0:1 left from %s", got)
	}
	if out := s.command("listen", "239.10.0.1:30000", "--interface", "enp3s0", "--for", "1ms"); !strings.Contains(out, "interface iso0 (index") {
		t.Errorf("listen: %s", out)
	}
	if out := s.command("interfaces"); !strings.Contains(out, "also "+name+", enp3s0") || !strings.Contains(out, "label iso0:1") {
		t.Errorf("interfaces: %s", out)
	}
}

func TestCheckNamesTheInterfaceThatWasProbablyMeant(t *testing.T) {
	s := newSystem(t, `
  - { name: s, filter: s/x, group: '239.10.0.1:30000', interface: enp3s1 }
receive:
  - { name: r, group: '239.11.0.1:30001', interface: iso1, topic: r }
`)
	s.GW.AltName("iso0", "enp3s0")
	out := s.command("check", s.config)
	for _, want := range []string{"there is no interface enp3s1 (there are lo, iso0, priv0); pending until that changes (did you mean enp3s0?)",
		"there is no interface iso1 (there are lo, iso0, priv0); pending until that changes (did you mean iso0?)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	// And run says so, once, and as long as it lasts.
	s.startBroker()
	p := s.startBridge()
	const reason = "there is no interface iso1 (there are lo, iso0, priv0)"
	s.eventually("readyz names rule and reason", func() error {
		code, body, err := s.get("/readyz")
		if code != 503 || !strings.Contains(body, "rule r: pending: "+reason) {
			return fmt.Errorf("%d %s %v", code, body, err)
		}
		return nil
	})
	s.eventually("the log names the key and what was meant", func() error {
		if text := p.Output(); !strings.Contains(text, s.config+`:8:67: send[0].interface: no interface has this name; did you mean enp3s0?`) ||
			!strings.Contains(text, "receive[0].interface: no interface has this name; did you mean iso0?") {
			return errors.New(text)
		}
		return nil
	})
	// A look that finds another interface and not this one.
	s.GW.Add("bridge", "br0")
	s.eventually("the reason is renewed", func() error {
		if r := s.receiveRule("r"); !strings.HasSuffix(r.Reason, "priv0, br0)") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	if n := strings.Count(p.Output(), "there is no interface iso1"); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
}

// A port of a bridge hears nothing, and everything that could tell says so; when it
// is released it hears, and when it is a port again it is said again.
func TestAReceiveRuleOnAPortOfABridgeSaysThatItHearsNothing(t *testing.T) {
	s := newSystem(t, `
  - { name: lamps, filter: 'lamps/#', group: '239.10.0.1:30000', interface: iso0 }
receive:
  - { name: meters, group: '239.11.0.1:30001', interface: iso0, topic: meters }
`)
	s.GW.Add("bridge", "br0")
	s.GW.Enslave("iso0", "br0")
	const reason = "interface iso0 is a port of the bridge br0, which takes all that arrives, so that nothing is heard on it: listen on br0 (interface: br0)"
	if out := s.command("check", s.config); !strings.Contains(out, "receive[0].interface: "+reason+"; pending until that changes") || strings.Count(out, "warning") > 2 {
		t.Errorf("check: %s", out)
	}
	if out := s.command("listen", "239.11.0.1:30001", "--interface", "iso0", "--for", "1ms"); !strings.Contains(out, "warning: "+reason) {
		t.Errorf("listen: %s", out)
	}
	device := s.Dev.Device("eth0", group("239.10.0.1:30000"))
	s.startBroker()
	p := s.startBridge()
	pending := func(times int) {
		t.Helper()
		s.eventually("the rule is pending, and nothing else", func() error {
			code, body, err := s.get("/readyz")
			if r := s.receiveRule("meters"); code != 503 || !strings.Contains(body, "meters") || !strings.Contains(body, reason) ||
				strings.Contains(body, "broker: ") || strings.Contains(body, "subscriptions: ") || r.State != account.StatePending || r.Reason != reason {
				return fmt.Errorf("/readyz: %d %s %v; %+v", code, body, err, r)
			}
			if n := strings.Count(p.Output(), reason); n < times {
				return fmt.Errorf("the log has the reason %d times, want %d", n, times)
			}
			return nil
		})
		if n := strings.Count(p.Output(), reason); n != times {
			t.Errorf("the log has the reason %d times, want %d", n, times)
		}
	}
	pending(1)
	s.eventually("it is subscribed", func() error {
		if b := s.status().Broker; b.Subscriptions != 1 {
			return fmt.Errorf("%+v", b)
		}
		return nil
	})
	backend, w := s.client("backend"), s.subscriber("meters")
	s.publish(backend, "lamps/1", []byte("on"))
	if got := device.WaitFor(1)[0].Source.Addr().String(); got != "172.17.0.1" {
		t.Errorf("sent from %s", got)
	}
	s.GW.Release("iso0")
	s.ready()
	s.Dev.Talker("eth0", dev4).Say(group("239.11.0.1:30001"), []byte("one"))
	s.settled(w, 1)
	s.GW.Enslave("iso0", "br0")
	pending(2)
}
