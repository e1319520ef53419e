package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// Answers to a broadcast come from hosts, and from the broadcast address none does.
func TestAnswersOfTheHostAskedAreNoneOfABroadcast(t *testing.T) {
	const warned = "send[0].answer: match: %s takes answers of the address that was asked, and 172.17.255.255 is the broadcast address of 172.17.0.0/16: those of its hosts are dropped (write match: any)"
	for _, tt := range []struct {
		to, match string
		warned    bool
	}{
		{"172.17.255.255:5000", "source", true},
		{"172.17.255.255:5000", "address", true},
		{"172.17.255.255:5000", "u16@0", true},
		{"172.17.255.255:5000", "any", false},
		{"172.17.3.7:5000", "source", false},
		{"255.255.255.255:5000", "source", true},
		{"255.255.255.255:5000", "any", false},
	} {
		host, err := mapping.ParseHost(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		match, err := mapping.ParseMatch(tt.match)
		if err != nil {
			t.Fatal(err)
		}
		b := testBinding(t, "172.17.0.1", "iso0")
		b.Host = true
		_, warnings := testHost().examine([]mapping.SendRule{{Host: host, Binding: b, Answer: &mapping.Answer{Match: match}}})
		got, want := "", ""
		for _, w := range warnings {
			got += w.path + ": " + w.err.Error() + " (" + w.hint + ")"
		}
		if tt.warned {
			want = fmt.Sprintf(warned, tt.match)
			if strings.HasPrefix(tt.to, "255.") {
				want = strings.Replace(want, "172.17.255.255 is the broadcast address of 172.17.0.0/16", "255.255.255.255 is the broadcast address of the link", 1)
			}
		}
		if got != want {
			t.Errorf("%s, match: %s: %q, want %q", tt.to, tt.match, got, want)
		}
	}
}

// Hosts that the interface does not lead to are warned of, and broadcast addresses of another mask.
func TestHostsThatAreNotWhereTheInterfaceLeads(t *testing.T) {
	h := testHost()
	h.nextHop = func(_ multicast.Source, host netip.Addr) netip.Addr {
		switch {
		case netip.MustParsePrefix("192.0.2.0/24").Contains(host):
			return netip.MustParseAddr("172.17.0.50")
		case host.Is6():
			return netip.Addr{}
		}
		return host
	}
	for _, tt := range []struct {
		to, source string
		ttl        uint8
		want       string // "path: text"; "" is none
	}{
		{"172.17.3.7:5000", "172.17.0.1", 64, ""},
		{"172.17.255.255:5000", "172.17.0.1", 64, ""},
		{"255.255.255.255:5000", "172.17.0.1", 64, ""},
		{"172.17.3.255:5000", "172.17.0.1", 64, "send[0].host: 172.17.3.255 is a host of 172.17.0.0/16, whose broadcast address is 172.17.255.255: is the mask another one?"},
		{"172.17.0.0:5000", "172.17.0.1", 64, "send[0].host: 172.17.0.0 is the address of the network 172.17.0.0/16, and of no host"},
		{"192.0.2.7:5000", "172.17.0.1", 64, ""},
		{"192.0.2.7:5000", "172.17.0.1", 1, "send[0].ttl: 192.0.2.7 is behind the gateway 172.17.0.50, which a ttl of 1 does not cross"},
		{"10.0.0.7:5000", "172.17.0.1", 64, "send[0].host: 10.0.0.7 is in no network of iso0 (172.17.0.0/16, 172.17.0.0/16), and no route leads there by it: it is asked for on the link all the same"},
		{"[fd17::7]:5000", "fd17::1", 64, ""},
		{"[fe80::7]:5000", "fd17::1", 64, ""},
		{"[2001:db8::7]:5000", "fd17::1", 64, "send[0].host: 2001:db8::7 is in no network of iso0 (fe80::/64, fd17::/64, fd17::/64), and no route leads there by it: it is unreachable"},
		{"172.17.{id}.255:5000", "172.17.0.1", 64, ""},
	} {
		host, err := mapping.ParseHost(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		b := testBinding(t, tt.source, "iso0")
		b.TTL, b.Host = tt.ttl, true
		_, warnings := h.examine([]mapping.SendRule{{Host: host, Binding: b}})
		var got []string
		for _, w := range warnings {
			got = append(got, w.path+": "+w.err.Error())
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s, ttl %d: %q, want %q", tt.to, tt.ttl, text, tt.want)
		}
	}
}

// A capture may make no broadcast address: explain says what the bridge will do.
func TestExplainKnowsThatACaptureMakesNoBroadcastAddress(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(`send: [{filter: "lamp/{id}", host: "172.17.255.{id}:5000", interface: iso0}, {filter: all, host: "172.17.255.255:5000", interface: iso0}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	var senders strings.Builder
	if !explainSenders(&senders, netip.MustParseAddrPort("172.17.255.255:5000"), cfg.Table, testHost()) || !strings.Contains(senders.String(), ": 1 of 2 send rules can send") {
		t.Errorf("%s", senders.String())
	}
	for topic, want := range map[string]string{
		"lamp/255": "  drop        bad_host: 172.17.255.255: " + multicast.BroadcastRefused + "\n",
		"lamp/7":   "  host        172.17.255.7:5000\n",
		"all":      "  host        172.17.255.255:5000\n",
	} {
		var out strings.Builder
		err := explainTopic(&out, topic, sample{}, cfg, testHost())
		if !strings.Contains(out.String(), want) || (err != nil) != strings.Contains(want, "drop") {
			t.Errorf("%s: %v\n%s", topic, err, out.String())
		}
	}
}
