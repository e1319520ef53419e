package mapping_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

func group(t testing.TB, s string) mapping.Group {
	t.Helper()
	g, err := mapping.ParseGroup(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// rule returns a rule without faults.
func rule(t testing.TB, filterText, groupText string) mapping.SendRule {
	t.Helper()
	r := mapping.SendRule{
		Filter:  filter(t, filterText),
		Group:   group(t, groupText),
		Binding: mapping.Binding{Interface: "iso0", TTL: 1},
	}
	if _, known := r.Group.Family(); !known {
		r.Binding.Source = netip.MustParsePrefix("172.17.0.1/32")
	}
	return r
}

func compile(t testing.TB, rules ...mapping.SendRule) *mapping.Table {
	t.Helper()
	table, err := mapping.Compile(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// expand looks a topic up in a table of one rule.
func expand(t testing.TB, filterText, groupText, topic string) (netip.AddrPort, error) {
	t.Helper()
	targets := compile(t, rule(t, filterText, groupText)).Lookup(topic, nil)
	if len(targets) != 1 {
		t.Fatalf("%s has %d targets by %s", topic, len(targets), filterText)
	}
	return targets[0].To, targets[0].Err
}

func TestGroupFromTopic(t *testing.T) {
	tests := []struct{ filter, group, topic, want string }{
		{"#", "239.1.2.3:5000", "x", "239.1.2.3:5000"},
		{"#", "[ff15::1:2]:5000", "x", "[ff15::1:2]:5000"},
		{"#", "239.1.{1+2}.{0x10}:{1<<12}", "x", "239.1.3.16:4096"},
		{"site/{floor}/lamp/{id}/set", "239.10.{floor}.{id}:30000", "site/3/lamp/17/set", "239.10.3.17:30000"},
		{"{floor}/{id}", "239.10.{id}.{floor}:30000", "3/17", "239.10.17.3:30000"},
		{"{id}", "239.{id}.{id}.{id}:{id}", "7", "239.7.7.7:7"},
		{"{id}", "239.10.0.{id}:30000", "007", "239.10.0.7:30000"},
		{"{id}", "239.10.0.{id}:30000", "0", "239.10.0.0:30000"},
		{"{id}", "239.10.0.{id}:30000", "255", "239.10.0.255:30000"},
		{"dmx/{u}", "239.255.{u>>8}.{u&255}:5568", "dmx/63999", "239.255.249.255:5568"},
		{"{a}", "{a}.1.2.3:4", "239", "239.1.2.3:4"},
		{"{id}", "239.1.2.3:{30000+id}", "1", "239.1.2.3:30001"},
		{"{id}", "239.1.2.3:{id}", "65535", "239.1.2.3:65535"},
		// IPv6: a group of 16 bits, by value.
		{"{id}", "[ff15::{id}]:{30000+id}", "10", "[ff15::a]:30010"},
		{"{id}", "[ff15::{id}]:1", "65535", "[ff15::ffff]:1"},
		{"{a}/{b}", "[ff15:{a}::{b}:0]:1", "1/2", "[ff15:1::2:0]:1"},
		{"{a}", "[ff15:1:2:3:4:5:{a}:7]:1", "256", "[ff15:1:2:3:4:5:100:7]:1"},
		{"{a}", "[{a}::1]:1", "65301", "[ff15::1]:1"},
		{"{a}/{b}", "[ff15::{a}.9.{b}.1]:1", "1/255", "[ff15::109:ff01]:1"},
		// The whole address.
		{"{address}/x", "{address}:5000", "239.9.8.7/x", "239.9.8.7:5000"},
		{"{address}/{port}", "{ address }:{port}", "239.9.8.7/6000", "239.9.8.7:6000"},
		{"{address}", "[{address}]:5000", "ff15::9", "[ff15::9]:5000"},
		// {name#}, if it took one level.
		{"a/{rest#}", "239.1.1.{rest}:1", "a/9", "239.1.1.9:1"},
		// Only the named levels count.
		{"+/{id}/#", "239.1.1.{id}:1", "a/9/b/c", "239.1.1.9:1"},
	}
	for _, tt := range tests {
		got, err := expand(t, tt.filter, tt.group, tt.topic)
		if err != nil {
			t.Errorf("%s: %v", tt.group, err)
		} else if got.String() != tt.want {
			t.Errorf("%s for %s: got %s, want %s", tt.group, tt.topic, got, tt.want)
		}
	}
}

func TestTopicOutOfBoundsGivesNoGroup(t *testing.T) {
	const octet, word, port = "0 to 255", "0 to 65535", "1 to 65535"
	const ipv4, ipv6 = "an IPv4 multicast address, 224.0.0.0 to 239.255.255.255", "an IPv6 multicast address, ff00::/8"
	tests := []struct{ filter, group, topic, part, value, want string }{
		{"{id}", "239.1.1.{id}:1", "300", "{id}", "300", octet},
		{"{id}", "239.1.1.{id-1}:1", "0", "{id-1}", "-1", octet},
		{"{id}", "[ff15::{id}]:1", "65536", "{id}", "65536", word},
		{"{id}", "239.1.1.1:{id}", "0", "{id}", "0", port},
		{"{id}", "239.1.1.1:{60000 + id}", "5536", "{60000 + id}", "65536", port},
		{"x/{id}", "239.1.1.{id}:1", "x/", "{id}", `""`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", "abc", "{id}", `"abc"`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", "-1", "{id}", `"-1"`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", "+1", "{id}", `"+1"`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", " 1", "{id}", `" 1"`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", "0x1", "{id}", `"0x1"`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", "1.5", "{id}", `"1.5"`, "a decimal number"},
		{"{id}", "239.1.1.{id}:1", "１", "{id}", `"１"`, "a decimal number"},
		{"{id}", "239.1.1.{id%256}:1", "9223372036854775808", "{id}", `"9223372036854775808"`, "a decimal number"},
		{"x/{rest#}", "239.1.1.{rest}:1", "x", "{rest}", `""`, "a decimal number"},
		{"x/{rest#}", "239.1.1.{rest}:1", "x/1/2", "{rest}", `"1/2"`, "a decimal number"},
		{"{a}/{b}", "239.1.1.{a/b}:1", "1/0", "{a/b}", "a division by zero", octet},
		{"{a}/{b}", "239.1.1.{a%b}:1", "1/0", "{a%b}", "a division by zero", octet},
		{"{a}/{b}", "239.1.1.{a<<b}:1", "1/64", "{a<<b}", "a shift by less than 0 or more than 63", octet},
		{"{a}/{b}", "239.1.1.{a<<b}:1", "1/63", "{a<<b}", "a number beyond 64 bits", octet},
		{"{a}", "239.1.1.{a*a}:1", "4294967296", "{a*a}", "a number beyond 64 bits", octet},
		{"{a}", "239.1.1.{a+1&1}:1", "9223372036854775807", "{a+1&1}", "a number beyond 64 bits", octet},
		{"{a}", "{a}.1.1.1:1", "10", "the address", "10.1.1.1", ipv4},
		{"{a}", "{a}.1.1.1:1", "223", "the address", "223.1.1.1", ipv4},
		{"{a}", "{a}.1.1.1:1", "240", "the address", "240.1.1.1", ipv4},
		{"{a}", "[{a}::1]:1", "65024", "the address", "fe00::1", ipv6},
		{"{a}", "[{a}::1]:1", "65280", "the address", "ff00::1", "an IPv6 multicast address of a scope other than 0, which is reserved and dropped by receivers"},
		{"{a}", "{a}:1", "172.17.0.9", "the address", "172.17.0.9", ipv4},
		{"{a}", "{a}:1", "255.255.255.255", "the address", "255.255.255.255", ipv4},
		{"{a}", "{a}:1", "0.0.0.0", "the address", "0.0.0.0", ipv4},
		{"{a}", "{a}:1", "lamp", "{a}", `"lamp"`, "an IPv4 address"},
		{"{a}", "{a}:1", "239.1.1", "{a}", `"239.1.1"`, "an IPv4 address"},
		{"{a}", "{a}:1", "239.01.1.1", "{a}", `"239.01.1.1"`, "an IPv4 address"},
		{"{a}", "{a}:1", "ff15::1", "{a}", `"ff15::1"`, "an IPv4 address"}, // the source is IPv4
		{"{a}", "[{a}]:1", "239.1.1.1", "{a}", `"239.1.1.1"`, "an IPv6 address without a zone"},
		{"{a}", "[{a}]:1", "ff02::1%eth0", "{a}", `"ff02::1%eth0"`, "an IPv6 address without a zone"},
		{"{a}", "[{a}]:1", "::ffff:239.1.1.1", "the address", "::ffff:239.1.1.1", ipv6},
		{"{a}", "[{a}]:1", "fe80::1", "the address", "fe80::1", ipv6},
	}
	for _, tt := range tests {
		got, err := expand(t, tt.filter, tt.group, tt.topic)
		var bad *mapping.GroupError
		if !errors.As(err, &bad) {
			t.Errorf("%s for %s: got %s, error %v", tt.group, tt.topic, got, err)
			continue
		}
		want := mapping.GroupError{Group: tt.group, Topic: tt.topic, Part: tt.part, Value: tt.value, Want: tt.want}
		if diff := cmp.Diff(want, *bad); diff != "" {
			t.Errorf("%s for %s (-want +got):\n%s", tt.group, tt.topic, diff)
		}
		if got.IsValid() {
			t.Errorf("%s for %s: group %s beside the error", tt.group, tt.topic, got)
		}
	}
}

func TestGroupErrorSaysAllInOneLine(t *testing.T) {
	_, err := expand(t, "site/{floor}/+", "239.10.{floor}.1:30000", "site/300/a\nb")
	const want = `group 239.10.{floor}.1:30000 for topic "site/300/a\nb": {floor} is 300, not 0 to 255`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = expand(t, "{a}/#", "239.10.1.{a}:30000", strings.Repeat("x", 30000)+"/"+strings.Repeat("y", 30000))
	if n := len(err.Error()); n > 500 {
		t.Errorf("a long topic makes an error of %d bytes", n)
	}
}

// The caller may hand over a topic that lies in a buffer it uses again.
func TestGroupErrorKeepsItsOwnTopic(t *testing.T) {
	buffer := []byte("site/300")
	_, err := expand(t, "site/{id}", "239.1.1.{id}:1", unsafeString(buffer))
	copy(buffer, "________")
	if !strings.Contains(err.Error(), `"site/300"`) {
		t.Errorf("the error changed with the buffer: %v", err)
	}
}

func TestParseGroupRefuses(t *testing.T) {
	const ipv4 = "not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255"
	tests := map[string]struct{ text, says string }{
		"empty":                      {"", "has no port; write address:port"},
		"no port":                    {"239.1.2.3", "has no port; write address:port"},
		"IPv6 without port":          {"[ff15::1]", "has no port; write address:port"},
		"IPv6 without brackets":      {"ff15::1", "an IPv6 address stands in brackets"},
		"IPv6 and port, no brackets": {"ff15::1:5000", "an IPv6 address stands in brackets"},
		"half a bracket":             {"[ff15::1:5000", "an IPv6 address stands in brackets"},
		"the other half":             {"239.1.1.1]:5000", "an IPv6 address stands in brackets"},
		"IPv4 in brackets":           {"[239.1.1.1]:5000", `"239.1.1.1" is no IPv6 address`},
		"port empty":                 {"239.1.1.1:", `port "" is not 1 to 65535`},
		"port 0":                     {"239.1.1.1:0", `port "0" is not 1 to 65535`},
		"port too large":             {"239.1.1.1:65536", `port "65536" is not 1 to 65535`},
		"port a name":                {"239.1.1.1:http", `port "http" is not 1 to 65535`},
		"port half an expression":    {"239.1.1.1:30{id}", `port "30{id}" is not 1 to 65535`},
		"unicast":                    {"172.17.0.1:5000", "172.17.0.1 is " + ipv4},
		"below":                      {"223.255.255.255:5000", ipv4},
		"above":                      {"240.0.0.0:5000", ipv4},
		"broadcast":                  {"255.255.255.255:5000", ipv4},
		"unspecified":                {"0.0.0.0:5000", ipv4},
		"unicast template":           {"10.1.{a}.{b}:5000", "10.1.{a}.{b} is " + ipv4},
		"IPv6 unicast":               {"[fd17::1]:5000", "not an IPv6 multicast address, ff00::/8"},
		"IPv6 unicast template":      {"[fe80::{a}]:5000", "not an IPv6 multicast address, ff00::/8"},
		"IPv4 as IPv6":               {"[::ffff:239.1.1.1]:5000", "not an IPv6 multicast address, ff00::/8"},
		"IPv6 scope 0":               {"[ff10::1]:5000", "scope other than 0"},
		"zone":                       {"[ff02::1%eth0]:5000", "a group has no zone; name the interface with interface"},
		"zone on a template":         {"[ff02::{a}%eth0]:5000", "a group has no zone"},
		"a name":                     {"lamps.local:5000", `"lamps.local" is no IPv4 address`},
		"a range":                    {"239.255.0.1-239.255.0.63:5568", "is a range; a message goes to one group"},
		"octet too large":            {"239.1.1.300:5000", "each of its four octets is 0 to 255"},
		"leading zero":               {"239.01.1.1:5000", "no leading zeros"},
		"three octets":               {"239.1.{a}:5000", "is no IPv4 address"},
		"five octets":                {"239.1.1.1.{a}:5000", "is no IPv4 address"},
		"part of an octet":           {"239.1.1.1{a}:5000", "is no IPv4 address"},
		"part of a group":            {"[ff15::1{a}]:5000", "between its colons stand"},
		"two in one octet":           {"239.1.1.{a}{b}:5000", "is no IPv4 address"},
		"nine groups":                {"[ff15:1:2:3:4:5:6:7:{a}]:5000", "is no IPv6 address"},
		"two ::":                     {"[ff15::{a}::1]:5000", "is no IPv6 address"},
		"{ open":                     {"239.1.1.{a:5000", "{ without }"},
		"} alone":                    {"239.1.1.a}:5000", "} without {"},
		"whole address a number":     {"{a+1}:5000", "{a+1} is a number, not an address"},
		"whole address a constant":   {"{239}:5000", "{239} is a number, not an address"},
		"constant out of bounds":     {"239.1.1.{300}:{p}", "{300} is 300, not 0 to 255"},
		"constant port":              {"239.1.{a}.1:{1<<16}", "{1<<16} is 65536, not 1 to 65535"},
		"constant division":          {"239.1.{a}.{1/0}:1", "{1/0} is a division by zero, not 0 to 255"},
		"bad expression":             {"239.1.1.{a b}:1", `{a b}: an operator should stand in place of "b"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g, err := mapping.ParseGroup(tt.text)
			if err == nil || !g.IsZero() {
				t.Fatalf("ParseGroup gave %q, %v", g, err)
			}
			if !strings.HasPrefix(err.Error(), "group ") || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
		})
	}
}

func TestGroupTellsWhatItKnows(t *testing.T) {
	tests := []struct {
		text        string
		captures    []string
		fixed       string
		ipv6, known bool
	}{
		{"239.1.2.3:5000", nil, "239.1.2.3:5000", false, true},
		{"239.1.2.{3}:{5000}", nil, "239.1.2.3:5000", false, true},
		{"[ff15:0::1]:5000", nil, "[ff15::1]:5000", true, true},
		{"239.1.{b}.{a+b}:{c}", []string{"b", "a", "c"}, "invalid AddrPort", false, true},
		{"[ff15::{a}]:1", []string{"a"}, "invalid AddrPort", true, true},
		{"239.1.1.1:{p}", []string{"p"}, "invalid AddrPort", false, true},
		{"{a}:1", []string{"a"}, "invalid AddrPort", false, false},
		{"[{a}]:1", []string{"a"}, "invalid AddrPort", true, true},
		{"{a}:{a}", []string{"a"}, "invalid AddrPort", false, false},
	}
	for _, tt := range tests {
		g := group(t, tt.text)
		fixed, ok := g.Fixed()
		ipv6, known := g.Family()
		if fixed.String() != tt.fixed || ok != fixed.IsValid() || ipv6 != tt.ipv6 || known != tt.known || g.String() != tt.text {
			t.Errorf("%s: Fixed %s %t, Family %t %t", g, fixed, ok, ipv6, known)
		}
		if diff := cmp.Diff(tt.captures, g.Captures()); diff != "" {
			t.Errorf("%s: captures (-want +got):\n%s", g, diff)
		}
	}
}

func TestGroupPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"239.1.2.3:5000":        "239.1.2.3/32",
		"239.1.2.3:{port}":      "239.1.2.3/32",
		"239.1.{b}.3:{c}":       "239.1.0.0/16",
		"239.{a}.{b}.3:5000":    "239.0.0.0/8",
		"{a}.1.2.3:5000":        "0.0.0.0/0",
		"[ff15::1]:5000":        "ff15::1/128",
		"[ff15::{a}:1]:5000":    "ff15::/96",
		"[ff15:{a}::1]:5000":    "ff15::/16",
		"{address}:5000":        "invalid Prefix",
		"[{address}]:{address}": "invalid Prefix",
	} {
		if got := group(t, text).Prefix().String(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestZeroGroupIsNoGroup(t *testing.T) {
	var zero mapping.Group
	_, fixed := zero.Fixed()
	_, known := zero.Family()
	if !zero.IsZero() || fixed || known || zero.Captures() != nil || zero.Prefix().IsValid() || zero.String() != "" {
		t.Error("the zero Group says it is something")
	}
}

func TestGroupTextRoundTrip(t *testing.T) {
	var g mapping.Group
	if err := g.UnmarshalText([]byte("239.1.2.{id}:5000")); err != nil {
		t.Fatal(err)
	}
	if text, err := g.MarshalText(); err != nil || string(text) != "239.1.2.{id}:5000" || !g.Equal(group(t, "239.1.2.{id}:5000")) {
		t.Errorf("MarshalText gave %q, %v", text, err)
	}
	if err := g.UnmarshalText([]byte("10.0.0.1:5000")); err == nil || !g.IsZero() {
		t.Errorf("UnmarshalText of a bad group left %q, %v", g, err)
	}
}
