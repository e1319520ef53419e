package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

func testGroups(t *testing.T, texts string) (groups []mapping.GroupRange) {
	t.Helper()
	for text := range strings.FieldsSeq(texts) {
		g, err := mapping.ParseGroupRange(text)
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	return groups
}

func testSources(t *testing.T, texts string) (sources []netip.Prefix) {
	t.Helper()
	for text := range strings.FieldsSeq(texts) {
		p, err := parseSource(text)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, p)
	}
	return sources
}

func TestWhatOnlyTheHostCanTellOfReceiving(t *testing.T) {
	for _, c := range []struct {
		on      string
		fault   string // part of its text; "" is none
		warning string
		name    string // of the interface, where it is known
	}{
		{"iso0", "", "", "iso0"},
		{"172.17.0.9", "", "", "iso0"},
		{"fd17::1", "", "", "iso0"},
		{"bare0", "", "receive[0].interface: interface bare0 is a port of the bridge br0, which takes all that arrives, so that nothing is heard on it: listen on br0 (interface: br0); pending until that changes", "bare0"}, // joining needs no address
		{"wlan0", "", "receive[0].interface: there is no interface wlan0", ""},
		{"192.0.2.77", "", "192.0.2.77", ""},
		{"off0", "", "receive[0].interface: interface off0 is down; pending until that changes", "off0"},
		{"192.0.2.5", "", "receive[0].interface: interface cut0 has no carrier; pending until that changes", "cut0"},
		{"fe80::3", "receive[0].interface: ", "", ""}, // of two interfaces
	} {
		t.Run(c.on, func(t *testing.T) {
			h, r := testHost(), mapping.ReceiveRule{Interface: c.on}
			faults, warnings := h.examineReceive([]mapping.ReceiveRule{r})
			expectOne(t, "faults", faults, c.fault)
			expectOne(t, "warnings", warnings, c.warning)
			if e := h.listener(r); e.on.Name != c.name || e.pending() != (c.warning != "") {
				t.Errorf("interface %q, pending: %t, %v", e.on.Name, e.pending(), e.err)
			}
		})
	}
}

func TestAnAbsentInterfaceThatReceiveRulesShareIsToldOnce(t *testing.T) {
	_, warnings := testHost().examineReceive([]mapping.ReceiveRule{{Interface: "iso0"}, {Interface: "wlan0"}, {Interface: "wlan0"}, {Interface: "wlan0"}})
	expectOne(t, "warnings", warnings, "receive[1].interface: there is no interface wlan0")
	expectOne(t, "warnings", warnings, "(and so for 2 rules more)")
}

func TestRulesForAHostPortNameTheInterfaceAlike(t *testing.T) {
	h := testHost()
	rules := []mapping.ReceiveRule{{Interface: "iso0", Port: 6454}, {Interface: "172.17.0.1", Port: 6454}}
	faults, _ := h.examineReceive(rules)
	if multicast.CanHearHost() != nil {
		expectOne(t, "faults", faults, "receive[0].port: what comes to a port of this host is received on Linux only")
		return
	}
	expectOne(t, "faults", faults, "receive[1].interface: 172.17.0.1 is the interface that receive[0] calls iso0, and of two sockets for one port of it the first is used alone")
	rules[0].Interface = "priv0"
	faults, _ = h.examineReceive(rules)
	expectOne(t, "faults", faults, "")
	h.sharers = func(port uint16, on multicast.Interface) []string {
		if port == 6454 && on.Name == "iso0" {
			return []string{"somebody has it", "topicast (pid 7) is bound to 0.0.0.0:6454 too"}
		}
		return nil
	}
	expectOne(t, "notes", h.examineSharers(append(rules, rules[1], mapping.ReceiveRule{Interface: "iso0"})), "receive[1].port: somebody has it")
}

func TestSocketsAreOneForEachJoin(t *testing.T) {
	rule := func(groups, on, sources string) mapping.ReceiveRule {
		return mapping.ReceiveRule{Groups: testGroups(t, groups), Interface: on, Sources: testSources(t, sources)}
	}
	for _, c := range []struct {
		name  string
		rules []mapping.ReceiveRule
		want  int
	}{
		{"none", nil, 0},
		{"a range and a group of it", []mapping.ReceiveRule{rule("239.1.1.1-239.1.1.9:5000 239.1.1.4:5000", "a", "")}, 9},
		{"another port", []mapping.ReceiveRule{rule("239.1.1.1:5000 239.1.1.1:5001", "a", "")}, 2},
		{"rules that ask for the same", []mapping.ReceiveRule{rule("239.1.1.1:5000", "a", ""), rule("239.1.1.1:5000", "a", "")}, 1},
		{"another interface", []mapping.ReceiveRule{rule("239.1.1.1:5000", "a", ""), rule("239.1.1.1:5000", "b", "")}, 2},
		{"the same senders in another order", []mapping.ReceiveRule{rule("239.1.1.1:5000", "a", "192.0.2.1 192.0.2.2"), rule("239.1.1.1:5000", "a", "192.0.2.2 192.0.2.1")}, 1},
		{"other senders", []mapping.ReceiveRule{rule("239.1.1.1:5000", "a", "192.0.2.1"), rule("239.1.1.1:5000", "a", "192.0.2.2")}, 2},
		{"prefixes, which are sorted out here", []mapping.ReceiveRule{rule("239.1.1.1:5000", "a", "192.0.2.0/24"), rule("239.1.1.1:5000", "a", "198.51.100.0/24 192.0.2.1")}, 1},
		{"many senders", []mapping.ReceiveRule{
			rule("239.1.1.1:5000", "a", "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4"), rule("239.1.1.1:5000", "a", "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.5"),
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sockets(c.rules); got != c.want {
				t.Errorf("%d sockets, want %d", got, c.want)
			}
		})
	}
}

func TestLimitsThatAreTooLowForTheGroupsAreWarnedOf(t *testing.T) {
	topic, err := mapping.ParseTopic("t/{group}")
	if err != nil {
		t.Fatal(err)
	}
	table, err := mapping.Compile(nil, []mapping.ReceiveRule{{Groups: testGroups(t, "239.1.0.1-239.1.1.0:5000"), Interface: "iso0", Topic: topic}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		limits limits
		want   string
	}{
		{"unknown", limits{}, ""},
		{"enough", limits{descriptors: 384, receiveBuffer: 8 << 20}, ""},
		{"descriptors", limits{descriptors: 383}, "receive: 384 file descriptors are needed for these rules, 256 of them for sockets, and the limit is 383: raise that (LimitNOFILE= of systemd, ulimit -n, docker --ulimit nofile=)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := testHost()
			h.limits = c.limits
			expectOne(t, "warnings", h.examineLimits(table), c.want)
		})
	}
	empty, err := mapping.Compile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := testHost()
	h.limits = limits{descriptors: 1, receiveBuffer: 1}
	expectOne(t, "warnings", h.examineLimits(empty), "")
	expectOne(t, "notes", h.examineBuffers(empty), "")
	h.limits = limits{receiveBuffer: 212992}
	expectOne(t, "warnings", h.examineLimits(table), "")
	expectOne(t, "notes", h.examineBuffers(table), "receive: a receive buffer gets 212992 bytes here, not 8388608, and what comes in faster bursts is lost (reason receive_buffer)")
	h.limits = limits{receiveBuffer: 8 << 20}
	expectOne(t, "notes", h.examineBuffers(table), "")
}

func TestTheLargestReceiveBufferIsThatOfTheKernel(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]int{"212992\n": 212992, "": 0, "x": 0} {
		file := filepath.Join(dir, "rmem_max")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := mostReceiveBuffer(file); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := mostReceiveBuffer(filepath.Join(dir, "absent")); got != 0 {
		t.Errorf("absent: %d", got)
	}
}
