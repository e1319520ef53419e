package mapping_test

import (
	"testing"

	"topicast/mapping"
)

func TestNearIsTheWordThatWasMeantAndNoOther(t *testing.T) {
	interfaces := []string{"lo", "eth0", "ifb0", "wlan0", "enp3s0", "iso-lan", "enx001122334455"}
	for word, want := range map[string]string{
		"eht0": "eth0", "etho": "eth0", "eth1": "eth0", "ETH0": "eth0", "et0": "eth0", "wlna0": "wlan0", "enp3s1": "enp3s0",
		"isolan": "iso-lan", "enx001122334545": "enx001122334455", "enx001122334466": "enx001122334455",
		"iso0": "", "br0": "", "docker0": "", "l0": "lo", "x": "", "": "", "vlan20": "",
	} {
		if got := mapping.Near(word, interfaces); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestDistanceCountsLettersUpToItsLimit(t *testing.T) {
	long := string(make([]byte, 300))
	for _, c := range []struct {
		a, b       string
		most, want int
	}{
		{"", "", 0, 0}, {"", "ab", 5, 2}, {"ab", "", 5, 2}, {"abc", "abc", 0, 0}, {"abc", "abd", 3, 1}, {"abc", "ab", 3, 1},
		{"kitten", "sitting", 9, 3}, {"kitten", "sitting", 2, 3}, {"kitten", "sitting", 0, 1},
		{"filter", "fliter", 3, 1}, {"ab", "ba", 2, 1}, {"abcd", "badc", 4, 2},
		{"PATH", "TOPICAST_BROKER_URL", 2, 3}, {long, long + "x", 2, 1}, {"a", "b", -1, 0},
	} {
		if got := mapping.Distance(c.a, c.b, c.most); got != c.want {
			t.Errorf("%.20q, %.20q, at most %d: %d, want %d", c.a, c.b, c.most, got, c.want)
		}
		if got := mapping.Distance(c.b, c.a, c.most); got != c.want {
			t.Errorf("%.20q, %.20q, at most %d, the other way round: %d, want %d", c.b, c.a, c.most, got, c.want)
		}
	}
}
