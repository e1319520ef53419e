package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// toHost is a send rule to a host, from iso0.
func toHost(t testing.TB, filter, to string) SendRule {
	t.Helper()
	f, err := ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHost(to)
	if err != nil {
		t.Fatal(err)
	}
	return SendRule{Filter: f, Host: h, Binding: Binding{Interface: "iso0", TTL: DefaultHostTTL, Loopback: true}}
}

func TestAHostIsOneOrABroadcastAddressAsItIs(t *testing.T) {
	for _, tt := range []struct{ host, topic, want string }{
		{"192.0.2.7:5000", "d/7", "192.0.2.7:5000"},
		{"192.0.2.255:5000", "d/7", "192.0.2.255:5000"}, // only the interface knows
		{"255.255.255.255:9", "d/7", "255.255.255.255:9"},
		{"255.255.255.255:{id}", "d/9", "255.255.255.255:9"},
		{"192.0.2.{id}:{30000+id}", "d/7", "192.0.2.7:30007"},
		{"[2001:db8::{id}]:5000", "d/10", "[2001:db8::a]:5000"},
		{"[fe80::{id}]:5000", "d/10", "[fe80::a]:5000"},
		{"192.0.2.{id}:5000", "d/256", "host 192.0.2.{id}:5000 for topic \"d/256\": {id} is 256, not 0 to 255"},
		{"{id}.0.2.7:5000", "d/239", "host {id}.0.2.7:5000 for topic \"d/239\": the address is 239.0.2.7, not a host: it is multicast, and multicast stands in group"},
		{"{id}.0.2.7:5000", "d/0", "host {id}.0.2.7:5000 for topic \"d/0\": the address is 0.0.2.7, not an address of a host"},
		{"255.255.255.{id}:9", "d/255", "host 255.255.255.{id}:9 for topic \"d/255\": the address is 255.255.255.255, not one host: the broadcast address is for a rule that names it as it is"},
		{"[{id}::1]:9", "d/65280", "host [{id}::1]:9 for topic \"d/65280\": the address is ff00::1, not a host: it is multicast, and multicast stands in group"},
	} {
		table, err := Compile([]SendRule{toHost(t, "d/{id}", tt.host)}, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.host, err)
			continue
		}
		target := table.Lookup(tt.topic, nil)[0]
		got := target.To.String()
		if target.Err != nil {
			got = target.Err.Error()
			if of, ok := errors.AsType[*GroupError](target.Err); !ok || !of.Host {
				t.Errorf("%s: %v is not said of a host", tt.host, target.Err)
			}
		}
		if got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.host, tt.topic, got, tt.want)
		}
	}
}

func TestWhatIsNoHostTemplate(t *testing.T) {
	for text, want := range map[string]string{
		"239.1.2.3:5000":     "239.1.2.3 is not a host: it is multicast, and multicast stands in group",
		"239.1.2.{id}:5000":  "239.1.2.{id} is not a host",
		"[ff15::1]:5000":     "is not a host",
		"0.0.0.0:5000":       "is not an address of a host",
		"192.0.2.7":          "has no port",
		"192.0.2.7:0":        "port \"0\" is not 1 to 65535",
		"192.0.2.0/24:5000":  "is a network",
		"udp://192.0.2.7:1":  "is a URL; write 192.0.2.7:1, without udp://",
		"lamp7.local:5000":   "is a name",
		"[fe80::1%eth0]:1":   "a host has no zone; name the interface with interface",
		"192.0.2.7:1,[::]:1": "holds more than one",
	} {
		if _, err := ParseHost(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := ParseGroup("192.0.2.7:5000"); err == nil {
		t.Error("a group may be a host")
	}
}

func TestRulesWithHostsAreHeldToWhatHoldsForHosts(t *testing.T) {
	rule := func(change func(*SendRule)) SendRule {
		r := toHost(t, "d", "[fe80::7]:5000")
		change(&r)
		return r
	}
	group, err := ParseGroup("[ff15::7]:5000")
	if err != nil {
		t.Fatal(err)
	}
	loopback, err := ParseHost("127.0.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	source := netip.MustParsePrefix("192.0.2.1/32")
	var got []string
	for _, r := range []SendRule{
		rule(func(r *SendRule) { r.Group = group }),
		rule(func(r *SendRule) { r.Binding.Loopback = false }),
		rule(func(r *SendRule) { r.Members = true }),
		rule(func(r *SendRule) {
			r.Binding.Interface, r.Binding.Source = "", netip.MustParsePrefix("fe80::1/128")
		}),
		rule(func(r *SendRule) { r.Binding.Source = source }),
		rule(func(r *SendRule) { r.Host, r.Binding.Source = loopback, source }),
		rule(func(r *SendRule) { r.Host = Host{} }),
		rule(func(r *SendRule) {}),
	} {
		table, err := Compile([]SendRule{r}, nil)
		if err == nil {
			b := table.Send()[0].Binding
			got = append(got, fmt.Sprint("fine: ", b.Host, " ", b.IPv6))
			continue
		}
		got = append(got, err.Error())
	}
	want := []string{
		"send[0].host: a rule sends to a group or to a host, and this one has both",
		"send[0].loopback: loopback is about groups, and the rule sends to a host",
		"send[0].members: hosts join groups, and the rule sends to a host",
		"send[0].interface: the host [fe80::7]:5000 is another one on each interface, so the rule must name the interface",
		"send[0].source: 192.0.2.1 is IPv4, but the host [fe80::7]:5000 is IPv6",
		"send[0].host: 127.0.0.1 is this host itself, and what leaves from 192.0.2.1 does not get there",
		"send[0].group: missing",
		"fine: true true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// One port is one socket, and one socket is for groups or for hosts.
func TestAFixedSourcePortIsForGroupsOrForHosts(t *testing.T) {
	a, b := toHost(t, "a", "192.0.2.7:5000"), toHost(t, "b", "192.0.2.255:5000")
	a.Binding.SourcePort, b.Binding.SourcePort = 6454, 6454
	if _, err := Compile([]SendRule{a, b}, nil); err != nil {
		t.Errorf("a host and a broadcast: %v", err)
	}
	group, err := ParseGroup("239.1.2.3:5000")
	if err != nil {
		t.Fatal(err)
	}
	b.Host, b.Group = Host{}, group
	if _, err := Compile([]SendRule{a, b}, nil); err == nil {
		t.Error("a host and a group share a port")
	}
}

func TestReaches(t *testing.T) {
	for _, tt := range []struct {
		host, to string
		want     bool
	}{
		{"192.0.2.7:5000", "192.0.2.7:5000", true},
		{"192.0.2.7:5000", "192.0.2.7:5001", false},
		{"192.0.2.7:5000", "192.0.2.8:5000", false},
		{"192.0.2.{id}:5000", "192.0.2.8:5000", true},
		{"192.0.2.{id}:5000", "192.0.3.8:5000", false},
		{"192.0.2.{id}:{5000+id}", "192.0.2.8:77", true},
		{"{id}:5000", "192.0.2.8:5000", true},
		{"192.0.2.{id}:5000", "[2001:db8::7]:5000", false},
		{"[2001:db8::{id}]:5000", "[2001:db8::7]:5000", true},
	} {
		r := toHost(t, "d/{id}", tt.host)
		if got := r.To().Reaches(netip.MustParseAddrPort(tt.to)); got != tt.want {
			t.Errorf("%s reaches %s: %t", tt.host, tt.to, got)
		}
	}
}
