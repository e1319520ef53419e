package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

// maxDatagram is the most that one UDP datagram holds over IPv4 (RFC 768, RFC
// 791: 65,535 less both headers).
const maxDatagram = 65_507

// repeats is more than the 20 unacknowledged messages that mosquitto allows a
// client by default: were dropped ones not acknowledged, it would fall silent.
const repeats = 25

func TestEverySizeArrivesWholeAndOneTooLargeIsDropped(t *testing.T) {
	s := newSystem(t, "  - { name: sizes, filter: sizes, group: 239.1.2.3:5000, source: 172.17.0.1, interface: iso0 }\n")
	wire := s.Dev.Capture("eth0")
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.2.3:5000"))
	s.startAll()
	publisher := s.client("backend")
	sizes := []int{0, 1, 1472, 1473, maxDatagram}
	for i, size := range sizes {
		payload := bytes.Repeat([]byte{byte(i + 1)}, size)
		s.publish(publisher, "sizes", payload)
		if got := wire.WaitFor(i+1, nil)[i]; !bytes.Equal(got.Payload, payload) || (got.Fragments > 1) != (size > 1472) {
			t.Errorf("%d bytes: %d on the wire in %d packets", size, len(got.Payload), got.Fragments)
		}
		if got := device.WaitFor(i + 1)[i]; !bytes.Equal(got.Payload, payload) {
			t.Errorf("%d bytes: the device received %d", size, len(got.Payload))
		}
	}
	// One byte too many, and more than anybody would keep in memory at once.
	for range repeats {
		s.publish(publisher, "sizes", make([]byte, maxDatagram+1))
	}
	for range repeats {
		s.publish(publisher, "sizes", make([]byte, 1<<20))
	}
	s.publish(publisher, "sizes", []byte("goes on"))
	if got := device.WaitFor(len(sizes) + 1)[len(sizes)]; string(got.Payload) != "goes on" {
		t.Errorf("after messages too large the device received %v, want the next message", got)
	}
	s.hasSent("sizes", len(sizes)+1)
	s.drops(t, "sizes", map[string]float64{"oversize": 2 * repeats})
	wire.Settle()
	if got := len(wire.Datagrams()); got != len(sizes)+1 {
		t.Errorf("%d datagrams on the wire, want %d", got, len(sizes)+1)
	}
	if got := s.rule("sizes"); got.Drops["oversize"] != 2*repeats {
		t.Errorf("/status: %v dropped, want %d", got.Drops, 2*repeats)
	}
}

func TestDroppedMessagesAreCountedByReasonAndStopNothing(t *testing.T) {
	s := newSystem(t, `
  - { name: hex, filter: hex, group: 239.1.1.1:5000, source: 172.17.0.1, payload: hex }
  - { name: lamps, filter: "lamps/{id}", group: "239.1.2.{id}:5000", source: 172.17.0.1 }
  - { name: small, filter: small, group: 239.1.1.3:5000, source: 172.17.0.1, oversize: drop }
  - { name: json, filter: json, group: 239.1.1.4:5000, source: 172.17.0.1, payload: "json:/a" }
`)
	groups := map[string]netip.AddrPort{}
	var all []netip.AddrPort
	for topic, group := range map[string]string{"hex": "239.1.1.1:5000", "lamps/7": "239.1.2.7:5000", "small": "239.1.1.3:5000", "json": "239.1.1.4:5000"} {
		groups[topic] = netip.MustParseAddrPort(group)
		all = append(all, groups[topic])
	}
	wire := s.Dev.Capture("eth0")
	device := s.Dev.Device("eth0", all...)
	s.startBroker()
	// What an earlier configuration was subscribed to, the broker keeps sending.
	earlier := s.client(gatewayID, func(o *mqtt.ClientOptions) { o.SetCleanSession(false) })
	s.done(earlier.Subscribe("earlier", 1, nil), "subscribe")
	earlier.Disconnect(0)
	s.startBridge()
	s.ready()

	publisher := s.client("backend")
	for i, c := range []struct {
		name        string
		topic       string // of the message that is dropped
		payload     string
		rule        string
		reason      string
		goodTopic   string // of one that is not
		goodPayload string
		want        string // the datagram of that
	}{
		{"invalid hex", "hex", "11 2x", "hex", "bad_payload", "hex", "11 22 aB", "\x11\x22\xab"},
		{"odd hex", "hex", "112", "hex", "bad_payload", "hex", "1122aB", "\x11\x22\xab"},
		{"octet 300", "lamps/300", "x", "lamps", "bad_group", "lamps/7", "x", "x"},
		{"no number", "lamps/kitchen", "x", "lamps", "bad_group", "lamps/7", "x", "x"},
		{"above the mtu", "small", strings.Repeat("x", 1473), "small", "oversize", "small", strings.Repeat("x", 1472), strings.Repeat("x", 1472)},
		{"no json", "json", "{", "json", "bad_payload", "json", `{"a":"x"}`, "x"},
		{"no such field", "json", `{"b":1}`, "json", "bad_payload", "json", `{"a":"x"}`, "x"},
		{"no rule", "earlier", "x", "", "no_rule", "lamps/7", "x", "x"},
	} {
		sample := fmt.Sprintf("topicast_drops_total{direction=\"send\",rule=%q,reason=%q}", c.rule, c.reason)
		before := s.metrics()[sample]
		for range repeats {
			s.publish(publisher, c.topic, []byte(c.payload))
		}
		s.publish(publisher, c.goodTopic, []byte(c.goodPayload))
		got := device.WaitFor(i + 1)[i]
		if got.Group != groups[c.goodTopic] || string(got.Payload) != c.want {
			t.Errorf("%s: then the device received %v, want %q at %v", c.name, got, c.want, groups[c.goodTopic])
		}
		if dropped := s.metrics()[sample] - before; dropped != repeats {
			t.Errorf("%s: %s rose by %v, want %d", c.name, sample, dropped, repeats)
		}
	}
	wire.Settle()
	if got := len(wire.Datagrams()); got != len(device.Received()) {
		t.Errorf("%d datagrams on the wire, %d of them meant", got, len(device.Received()))
	}
}

func TestOverlappingFiltersGiveEachRuleItsDatagramOnce(t *testing.T) {
	s := newSystem(t, `
  - { name: all, filter: "#", group: 239.1.1.1:5000, source: 172.17.0.1 }
  - { name: floor, filter: "site/3/#", group: 239.1.1.2:5000, source: 172.17.0.1 }
  - { name: lamp, filter: "site/{floor}/lamp", group: "239.1.1.{floor}:5001", source: 172.17.0.1 }
  - { name: exact, filter: "site/3/lamp", group: 239.1.1.4:5000, source: 172.17.0.1 }
  - { name: other, filter: "site/3/door", group: 239.1.1.5:5000, source: 172.17.0.1 }
`)
	wire := s.Dev.Capture("eth0")
	s.startAll()
	s.publish(s.client("backend"), "site/3/lamp", thirteen)
	want := map[string]int{"239.1.1.1:5000": 1, "239.1.1.2:5000": 1, "239.1.1.3:5001": 1, "239.1.1.4:5000": 1}
	// The rule for everything also hears the bridge say that it is online.
	meant := func(f netlab.Frame) bool { return bytes.Equal(f.Payload, thirteen) }
	wire.WaitFor(len(want), meant)
	for _, rule := range []string{"floor", "lamp", "exact"} {
		s.hasSent(rule, 1)
	}
	wire.Settle()
	got := map[string]int{}
	for _, f := range wire.Datagrams() {
		if meant(f) {
			got[f.Dst.String()]++
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("datagrams by group (-want +got):\n%s", diff)
	}
}

func TestPartlyOverlappingFiltersGiveEachRuleItsDatagramOnce(t *testing.T) {
	// Neither filter covers the other, so both are subscribed to.
	s := newSystem(t, `
  - { name: floor, filter: "site/3/+", group: 239.1.1.1:5000, source: 172.17.0.1 }
  - { name: lamps, filter: "site/+/lamp", group: 239.1.1.2:5000, source: 172.17.0.1 }
`)
	device := s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.1.1:5000"), netip.MustParseAddrPort("239.1.1.2:5000"))
	s.startAll()
	publisher := s.client("backend")
	s.publish(publisher, "site/3/lamp", thirteen)
	s.publish(publisher, "site/3/end", nil)
	s.publish(publisher, "site/4/lamp", nil)
	got := map[string]int{}
	ends := 0
	device.Watch(func(r netlab.Received) bool {
		if len(r.Payload) == 0 {
			ends++
		} else {
			got[r.Group.String()]++
		}
		return ends == 2
	})
	if diff := cmp.Diff(map[string]int{"239.1.1.1:5000": 1, "239.1.1.2:5000": 1}, got); diff != "" {
		t.Errorf("datagrams by group (-want +got):\n%s", diff)
	}
}

func TestTenThousandRules(t *testing.T) {
	const n = 10_000
	var rules strings.Builder
	for i := range n {
		fmt.Fprintf(&rules, "  - { name: r%d, filter: \"many/%d/+\", group: 239.20.%d.%d:5000, source: 172.17.0.1, interface: iso0 }\n", i, i, i>>8, i&255)
	}
	s := newSystem(t, rules.String())
	wire := s.Dev.Capture("eth0")
	s.startAll()
	publisher := s.client("backend")
	for k, i := range []int{0, 1, n / 2, n - 1} {
		s.publish(publisher, fmt.Sprintf("many/%d/set", i), thirteen)
		want := fmt.Sprintf("239.20.%d.%d:5000", i>>8, i&255)
		if got := wire.WaitFor(k+1, nil)[k]; got.Dst.String() != want || !bytes.Equal(got.Payload, thirteen) {
			t.Errorf("rule %d: got %v, want the message to %s", i, got, want)
		}
	}
	status := s.status()
	if status.Broker.Subscriptions != n {
		t.Errorf("%d filters subscribed, want %d", status.Broker.Subscriptions, n)
	}
}

// drops compares what /metrics says was dropped of a rule.
func (s *system) drops(t *testing.T, rule string, want map[string]float64) {
	t.Helper()
	got := map[string]float64{}
	for sample, value := range s.metrics() {
		reason, ofRule := strings.CutPrefix(sample, `topicast_drops_total{direction="send",rule="`+rule+`",reason="`)
		if ofRule && value > 0 {
			got[strings.TrimSuffix(reason, `"}`)] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("drops of rule %s (-want +got):\n%s", rule, diff)
	}
}
