package mapping_test

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

func groupRange(t testing.TB, s string) mapping.GroupRange {
	t.Helper()
	g, err := mapping.ParseGroupRange(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGroupRangeReadsAndYieldsItsGroups(t *testing.T) {
	for text, want := range map[string]string{
		"239.12.255.254:9522":                        "239.12.255.254:9522",
		"224.0.0.0:1":                                "224.0.0.0:1",
		"239.255.255.255:65535":                      "239.255.255.255:65535",
		"239.1.2.254-239.1.3.1:5000":                 "239.1.2.254:5000 239.1.2.255:5000 239.1.3.0:5000 239.1.3.1:5000",
		"239.255.255.254-239.255.255.255:1":          "239.255.255.254:1 239.255.255.255:1",
		"[ff18::1]:5000":                             "[ff18::1]:5000",
		"[ff18::fffe-ff18::1:1]:5000":                "[ff18::fffe]:5000 [ff18::ffff]:5000 [ff18::1:0]:5000 [ff18::1:1]:5000",
		"[ff02::ffff:ffff:ffff:ffff-ff02:0:0:1::]:1": "[ff02::ffff:ffff:ffff:ffff]:1 [ff02:0:0:1::]:1",
	} {
		g := groupRange(t, text)
		var got []string
		for group := range g.All() {
			got = append(got, group.String())
		}
		if diff := cmp.Diff(strings.Fields(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if g.Len() != len(got) {
			t.Errorf("%s has %d groups, Len says %d", text, len(got), g.Len())
		}
		if text, _ := g.MarshalText(); g.String() != string(text) {
			t.Errorf("%s is marshalled as %s", g, text)
		}
		var again mapping.GroupRange
		if err := again.UnmarshalText([]byte(g.String())); err != nil || again != g {
			t.Errorf("%s is written as %s, which is %v, %v", text, g, again, err)
		}
	}
	if got := groupRange(t, "239.1.1.1-239.1.1.1:5000").String(); got != "239.1.1.1:5000" {
		t.Errorf("a range of one is written as %s", got)
	}
	for range groupRange(t, "239.0.0.0-239.255.255.255:1").All() {
		break // at the first
	}
}

func TestGroupRangeCountsWithoutOverflow(t *testing.T) {
	a := netip.MustParseAddr
	fitting := func(n uint64) int { return int(min(n, math.MaxInt)) }
	for _, tt := range []struct {
		g    mapping.GroupRange
		want int
	}{
		{groupRange(t, "224.0.0.0-239.255.255.255:1"), 1 << 28},
		{groupRange(t, "[ff11::-ff11::ffff:ffff]:1"), fitting(1 << 32)},
		{groupRange(t, "[ff11::-ff11::7fff:ffff:ffff:fffd]:1"), fitting(math.MaxInt64 - 1)},
		{groupRange(t, "[ff11::-ff11::7fff:ffff:ffff:ffff]:1"), math.MaxInt},
		{groupRange(t, "[ff11::-ff11::1:0:0:0:0]:1"), math.MaxInt},
		{groupRange(t, "[ff11::-ff1f:ffff::]:1"), math.MaxInt},
		{mapping.GroupRange{}, 0},
		{mapping.GroupRange{First: a("239.1.1.2"), Last: a("239.1.1.1"), Port: 1}, 0},
		{mapping.GroupRange{First: a("239.1.1.2"), Last: a("ff11::1"), Port: 1}, 0},
	} {
		if got := tt.g.Len(); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.g, got, tt.want)
		}
		if tt.want == 0 && len(slices.Collect(tt.g.All())) != 0 {
			t.Errorf("%v yields groups", tt.g)
		}
	}
}

func TestGroupRangeRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"":                                `group "": has no port`,
		"239.1.1.1":                       "has no port; write address:port",
		"[ff18::1]":                       "has no port",
		"239.1.1.1:0":                     "port 0 is not 1 to 65535",
		"239.1.1.1:65536":                 `port "65536" is not 1 to 65535`,
		"239.1.1.1:":                      `port "" is not`,
		"239.1.1.1:+1":                    `port "+1" is not`,
		":5000":                           `"" is no IPv4 address`,
		"239.1.1:5000":                    `"239.1.1" is no IPv4 address`,
		"239.1.1.256:5000":                `"239.1.1.256" is no IPv4 address`,
		"localhost:5000":                  `"localhost" is no IPv4 address`,
		"239.1.1.1-:5000":                 `"" is no IPv4 address`,
		"-239.1.1.1:5000":                 `"" is no IPv4 address`,
		"239.1.1.1 - 239.1.1.2:5000":      "is no IPv4 address",
		"239.1.1.1-239.1.1.2-239.1.1.3:1": `"239.1.1.2-239.1.1.3" is no IPv4 address`,
		"239.1.1.1:5000-239.1.1.2:5000":   "an IPv6 address stands in brackets",
		"[239.1.1.1]:5000":                `"239.1.1.1" is no IPv6 address`,
		"[ff18::1-239.1.1.1]:5000":        `"239.1.1.1" is no IPv6 address`,
		"[ff18::1]-[ff18::2]:5000":        "is no IPv6 address",
		"ff18::1:5000":                    "stands in brackets before its port",
		"239.1.1.2-239.1.1.1:5000":        "the range runs backwards; write 239.1.1.1-239.1.1.2",
		"10.1.1.1:5000":                   "10.1.1.1 is not an IPv4 multicast address",
		"223.255.255.255-224.0.0.1:5000":  "223.255.255.255 is not an IPv4 multicast address",
		"239.255.255.255-240.0.0.0:5000":  "240.0.0.0 is not an IPv4 multicast address",
		"[fe80::1]:5000":                  "fe80::1 is not an IPv6 multicast address",
		"[ff10::1]:5000":                  "scope other than 0",
		"[::ffff:239.1.1.1]:5000":         "is not an IPv6 multicast address",
		"[ff02::1%eth0]:5000":             "a group has no zone",
		"[ff02::1-ff02::2%eth0]:5000":     "a group has no zone",
		"239.1.1.{id}:5000":               "holds no {…}; write a range",
	} {
		if g, err := mapping.ParseGroupRange(text); err == nil || !strings.Contains(err.Error(), says) || g != (mapping.GroupRange{}) {
			t.Errorf("%q: %v, %v, want: %s", text, g, err, says)
		}
	}
}
