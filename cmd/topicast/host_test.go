package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge"
	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// testHost has what a real one may have, and a loopback interface.
func testHost() *host {
	prefix := netip.MustParsePrefix
	return &host{
		interfaces: []multicast.Interface{
			{Name: "lo", Index: 1, MTU: 65536, Up: true, Carrier: true, Loopback: true, Addresses: []multicast.Address{{Prefix: prefix("127.0.0.1/8")}}},
			{Name: "priv0", Index: 2, MTU: 1500, Up: true, Carrier: true, Addresses: []multicast.Address{{Prefix: prefix("10.0.0.2/24")}}},
			{Name: "iso0", Index: 3, MTU: 1500, Up: true, Carrier: true, Addresses: []multicast.Address{
				{Prefix: prefix("172.17.0.1/16"), Broadcast: netip.MustParseAddr("172.17.255.255")},
				{Prefix: prefix("172.17.0.9/16"), Secondary: true},
				{Prefix: prefix("fe80::3/64")}, {Prefix: prefix("fd17::1/64")}, {Prefix: prefix("fd17::2/64"), Tentative: true},
			}},
			{Name: "off0", Index: 4, MTU: 1500, Addresses: []multicast.Address{{Prefix: prefix("192.0.2.4/24")}}},
			{Name: "cut0", Index: 5, MTU: 1500, Up: true, Addresses: []multicast.Address{{Prefix: prefix("192.0.2.5/24")}}},
			{Name: "tiny0", Index: 6, MTU: 1200, Up: true, Carrier: true, Addresses: []multicast.Address{
				{Prefix: prefix("203.0.113.6/24")}, {Prefix: prefix("fd66::1/64")}, {Prefix: prefix("fe80::3/64")},
			}},
			{Name: "bare0", Index: 7, MTU: 1500, Up: true, Carrier: true, Master: "br0", MasterKind: "bridge", HeardOn: "br0"},
		},
		places:  make(map[mapping.Binding]place),
		sharers: func(uint16, multicast.Interface) []string { return nil },
		nextHop: func(_ multicast.Source, host netip.Addr) netip.Addr { return host },
	}
}

// binding reads "source iface", either of which may be "-".
func testBinding(t *testing.T, source, on string) mapping.Binding {
	t.Helper()
	b := mapping.Binding{TTL: 1, Loopback: true, Fragment: true}
	if source != "-" {
		var err error
		if b.Source, err = parseSource(source); err != nil {
			t.Fatal(err)
		}
		b.IPv6 = b.Source.Addr().Is6()
	}
	if on != "-" {
		b.Interface = on
	}
	return b
}

func TestWhatOnlyTheHostCanTell(t *testing.T) {
	for _, c := range []struct {
		source, on string
		fault      string // part of its text; "" is none
		warning    string
	}{
		{"172.17.0.1", "iso0", "", ""},
		{"172.17.0.9", "-", "", ""},
		{"-", "iso0", "", ""},
		{"10.0.0.0/8", "-", "", ""},
		{"10.0.0.2", "iso0", "send[0].source: 10.0.0.2 is not on iso0", ""},
		{"172.17.0.7", "iso0", "send[0].source: 172.17.0.7 is not on iso0", ""},
		{"172.17.255.255", "-", "send[0].source: source 172.17.255.255 is the broadcast address", ""},
		{"172.17.0.0", "iso0", "send[0].source: source 172.17.0.0 is the network address", ""},
		{"192.0.2.0/24", "-", "send[0].source: source 192.0.2.0/24 is ambiguous", ""},
		{"fe80::3", "-", "send[0].source: source fe80::3 is ambiguous", ""},
		{"198.51.100.1", "-", "", "send[0].source: no interface has 198.51.100.1"},
		{"-", "wlan0", "", "send[0].interface: there is no interface wlan0"},
		{"172.17.0.1", "wlan0", "", "send[0].interface: there is no interface wlan0"},
		{"172.17.0.1", "iso", "", "send[0].interface: there is no interface iso (there are lo, priv0, iso0, off0, cut0, tiny0, bare0); pending until that changes (did you mean iso0?)"},
		{"172.17.0.1", "172.17.0.1", "", "send[0].interface: there is no interface 172.17.0.1"},
		{"192.0.2.4", "off0", "", "send[0].interface: interface off0 is down"},
		{"192.0.2.9", "cut0", "", "send[0].interface: interface cut0 has no carrier"},
		{"192.0.2.4", "-", "", "send[0].source: interface off0 is down"},
		{"fd17::2", "iso0", "", "send[0].source: fd17::2 on iso0 is not usable yet"},
		{"-", "off0", "", "send[0].interface: interface off0 is down; pending until that changes"},
		{"-", "cut0", "", "send[0].interface: interface cut0 has no carrier; pending"},
		{"-", "bare0", "", "send[0].interface: interface bare0 has no IPv4 address"},
		{"fd17::2", "-", "", "send[0].source: fd17::2 on iso0 is not usable yet"},
		{"203.0.113.6", "tiny0", "", ""},
		{"fd66::1", "-", "", "send[0].interface: the mtu of tiny0 is 1200 bytes, and IPv6 needs 1280"},
	} {
		t.Run(c.source+" "+c.on, func(t *testing.T) {
			faults, warnings := testHost().examine([]mapping.SendRule{{Binding: testBinding(t, c.source, c.on)}})
			expectOne(t, "faults", faults, c.fault)
			expectOne(t, "warnings", warnings, c.warning)
		})
	}
}

func expectOne(t *testing.T, what string, got []finding, want string) {
	t.Helper()
	var texts []string
	for _, f := range got {
		texts = append(texts, fmt.Sprintf("%s: %v", f.path, f.err))
	}
	if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(texts[0], want)) {
		t.Errorf("%s: %q, want %q", what, texts, want)
	}
}

// run does not start where it cannot listen.
func TestTheStatusPageHasAnAddressOfThisHost(t *testing.T) {
	for listen, want := range map[string]string{
		"": "", ":9479": "", "0.0.0.0:9479": "", "[::]:9479": "", "localhost:9479": "",
		"127.0.0.1:9479": "", "127.3.4.5:9479": "", "172.17.0.9:9479": "", "[fd17::1]:9479": "", "[fe80::3%iso0]:9479": "", "[fe80::3]:9479": "",
		"10.9.9.9:9479":        "web.listen: no interface has 10.9.9.9 (there is 127.0.0.1 on lo, ",
		"[fd17::9]:9479":       "web.listen: no interface has fd17::9 (there is ",
		"[fe80::3%wlan0]:9479": "web.listen: there is no interface wlan0",
	} {
		t.Run(listen, func(t *testing.T) {
			expectOne(t, "faults", testHost().examineWeb(configs.Web{Listen: listen}), want)
		})
	}
}

func TestATroubleThatRulesShareIsToldOnce(t *testing.T) {
	b := testBinding(t, "-", "wlan0")
	_, warnings := testHost().examine([]mapping.SendRule{{Binding: testBinding(t, "-", "iso0")}, {Binding: b}, {Binding: b}, {Binding: b}})
	expectOne(t, "warnings", warnings, "send[1].interface: there is no interface wlan0")
	expectOne(t, "warnings", warnings, "(and so for 2 rules more)")
}

func TestBindingsThatNeedOneSourcePortClash(t *testing.T) {
	at := func(source, on string, port uint16, ttl uint8) mapping.SendRule {
		b := testBinding(t, source, on)
		b.SourcePort, b.TTL = port, ttl
		return mapping.SendRule{Binding: b}
	}
	for _, c := range []struct {
		name string
		a, b mapping.SendRule
		want string
	}{
		{"equal bindings share a socket", at("172.17.0.1", "iso0", 5000, 1), at("172.17.0.1", "iso0", 5000, 1), ""},
		{"another ttl", at("172.17.0.1", "iso0", 5000, 1), at("172.17.0.1", "iso0", 5000, 2), "send[1].source_port: 172.17.0.1:5000 is the local end of send[0] too, and their ttl differs"},
		{"named in two ways", at("172.17.0.1", "iso0", 5000, 1), at("172.17.0.1", "-", 5000, 1), "their interface differs"},
		{"several keys", at("172.17.0.1", "iso0", 5000, 1), at("-", "iso0", 5000, 2), "their source and ttl differ"},
		{"another port", at("172.17.0.1", "iso0", 5000, 1), at("172.17.0.1", "iso0", 5001, 2), ""},
		{"any port", at("172.17.0.1", "iso0", 0, 1), at("172.17.0.1", "iso0", 0, 2), ""},
		{"another address", at("172.17.0.1", "iso0", 5000, 1), at("172.17.0.9", "iso0", 5000, 2), ""},
		{"link-local addresses of two interfaces", at("fe80::3", "iso0", 5000, 1), at("fe80::3", "tiny0", 5000, 2), ""},
		{"a place that is pending", at("-", "off0", 5000, 1), at("-", "off0", 5000, 2), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := testHost()
			expectOne(t, "clashes", h.clashes([]mapping.SendRule{c.a, c.b}), c.want)
		})
	}
}

func TestRoomIsWhatTheMTULeavesAfterTheHeaders(t *testing.T) {
	for _, c := range []struct {
		mtu  int
		ipv6 bool
		want int
	}{{1500, false, 1472}, {1500, true, 1452}, {65536, false, 65507}, {65536, true, 65488}} {
		s := multicast.Source{MTU: c.mtu, Binding: multicast.Binding{IPv6: c.ipv6}}
		if got := room(s); got != c.want {
			t.Errorf("mtu %d, IPv6 %t: %d, want %d", c.mtu, c.ipv6, got, c.want)
		}
	}
}

func TestInterfacesAreListedWithStateAndNotes(t *testing.T) {
	h := testHost()
	h.interfaces[2].Addresses = append(h.interfaces[2].Addresses,
		multicast.Address{Prefix: netip.MustParsePrefix("fd17::3/64"), Secondary: true, Deprecated: true},
		multicast.Address{Prefix: netip.MustParsePrefix("fd17::4/64"), Tentative: true, Duplicate: true})
	h.interfaces[2].AltNames, h.interfaces[2].Addresses[1].Label = []string{"enp3s0"}, "iso0:1"
	var b strings.Builder
	if err := printInterfaces(&b, h.interfaces); err != nil {
		t.Fatal(err)
	}
	want := `INTERFACE  INDEX  STATE       MTU    ADDRESS         NOTES
lo         1      up          65536  127.0.0.1/8     ends on this host
priv0      2      up          1500   10.0.0.2/24
iso0       3      up          1500   172.17.0.1/16   also enp3s0
                                     172.17.0.9/16   label iso0:1, secondary
                                     fe80::3/64      link-local
                                     fd17::1/64
                                     fd17::2/64      tentative
                                     fd17::3/64      temporary, deprecated
                                     fd17::4/64      duplicate
off0       4      down        1500   192.0.2.4/24
cut0       5      no carrier  1500   192.0.2.5/24
tiny0      6      up          1200   203.0.113.6/24
                                     fd66::1/64
                                     fe80::3/64      link-local
bare0      7      up          1500   -               port of br0
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestInterfacesAsJSONHaveEveryField(t *testing.T) {
	h := testHost()
	var b strings.Builder
	h.interfaces[2].Addresses[1].Label = "iso0:1"
	if err := printInterfacesJSON(&b, []multicast.Interface{
		{Name: "iso0", AltNames: []string{"enp3s0"}, Index: 3, MTU: 1500, Up: true, Addresses: h.interfaces[2].Addresses[1:2]},
		h.interfaces[6],
	}); err != nil {
		t.Fatal(err)
	}
	want := `[
  {
    "name": "iso0",
    "alternative_names": [
      "enp3s0"
    ],
    "index": 3,
    "state": "no carrier",
    "mtu": 1500,
    "loopback": false,
    "addresses": [
      {
        "address": "172.17.0.9",
        "label": "iso0:1",
        "prefix": "172.17.0.0/16",
        "notes": [
          "secondary"
        ]
      }
    ]
  },
  {
    "name": "bare0",
    "index": 7,
    "state": "up",
    "mtu": 1500,
    "loopback": false,
    "master": "br0",
    "addresses": []
  }
]
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A source that is one address has to be on each of the interfaces.
func TestASourceOfSeveralInterfacesIsOnEach(t *testing.T) {
	h := testHost()
	rule := mapping.SendRule{Name: "lamps", Binding: testBinding(t, "172.17.0.1", "iso0, priv0")}
	for _, set := range []func() error{
		func() (err error) { rule.Filter, err = mapping.ParseFilter("lamps"); return err },
		func() (err error) { rule.Group, err = mapping.ParseGroup("239.1.1.1:5000"); return err },
	} {
		if err := set(); err != nil {
			t.Fatal(err)
		}
	}
	rule.Binding.TTL = 1
	other := rule
	other.Name, other.Binding = "other", testBinding(t, "-", "iso0")
	other.Binding.TTL = 1
	table, err := mapping.Compile([]mapping.SendRule{other, rule}, nil)
	if err != nil {
		t.Fatal(err)
	}
	faults, _ := h.examineRules(table.On(bridge.HostInterfaces(h.interfaces)))
	expectOne(t, "faults", faults, "send[1].source: 172.17.0.1 is not on priv0")
	if len(faults) == 1 && !strings.Contains(faults[0].hint, "a prefix, which picks an address on each interface") {
		t.Errorf("hint: %s", faults[0].hint)
	}
}
