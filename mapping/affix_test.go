package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"topicast/mapping"
)

func TestDatagramsHavePrefixAndSuffix(t *testing.T) {
	for _, c := range []struct {
		prefix, suffix, payload, message, want string
		empty                                  bool
	}{
		{"", "", "raw", "on", "on", false},
		{"<", ">", "raw", "on", "<on>", false},
		{"hex:0200", "hex:0D0a", "hex", "41 42", "\x02\x00AB\r\n", false},
		{"", "\r\n", "json:/v", `{"v":"x"}`, "x\r\n", false},
		{"a", "", "raw", "", "a", true},
		{"a", "", "hex", " ", "a", true},
		{"", "", "raw", "", "", true},
	} {
		r := mapping.SendRule{Payload: payload(t, c.payload), Prefix: affix(t, c.prefix), Suffix: affix(t, c.suffix)}
		got, scratch, empty, err := r.Datagram([]byte("head"), []byte(c.message))
		if err != nil || string(got) != c.want || empty != c.empty || !strings.HasPrefix(string(scratch), "head") {
			t.Errorf("%q %s %q of %q: %q, empty %t, %v; want %q, %t", c.prefix, c.payload, c.suffix, c.message, got, empty, err, c.want, c.empty)
		}
		if r.Transforms() && string(scratch) != "head"+c.want {
			t.Errorf("%q is in memory of its own, not behind what was there: %q", got, scratch)
		}
		if r.Transforms() != (c.want != c.message) {
			t.Errorf("%q %s %q transforms: %t", c.prefix, c.payload, c.suffix, r.Transforms())
		}
		if r.Prefix.String() != c.prefix {
			t.Errorf("%q is shown as %q", c.prefix, r.Prefix)
		}
	}
	r := mapping.SendRule{Payload: payload(t, "hex"), Prefix: affix(t, "x")}
	if got, scratch, empty, err := r.Datagram([]byte("head"), []byte("4")); err == nil || got != nil || empty || string(scratch) != "head" {
		t.Errorf("half a byte: %q, %q, empty %t, %v", got, scratch, empty, err)
	}
	r.Payload = payload(t, "json:/v")
	if _, _, empty, err := r.Datagram(nil, nil); err == nil || !empty {
		t.Errorf("no document at all: empty %t, %v", empty, err)
	}
}

func TestRulesThatMakeOtherDatagramsHaveOtherKeys(t *testing.T) {
	seen := map[string]string{}
	for _, c := range [][3]string{{"", "raw", ""}, {"", "hex", ""}, {"<", "raw", ""}, {"", "raw", "<"}, {"<", "raw", ">"}, {"<", "hex", ">"}, {`<" raw "`, "raw", ""}} {
		rule := func() *mapping.SendRule {
			return &mapping.SendRule{Prefix: affix(t, c[0]), Payload: payload(t, c[1]), Suffix: affix(t, c[2])}
		}
		key := rule().DatagramKey()
		if seen[key] != "" || rule().DatagramKey() != key {
			t.Errorf("%q: %s, as %s, and %s", c, key, seen[key], rule().DatagramKey())
		}
		seen[key] = fmt.Sprint(c)
	}
}

func TestAffixesThatAreRefused(t *testing.T) {
	for text, says := range map[string]string{
		"hex:":                    "leave the key out",
		"hex:0":                   "two hexadecimal digits",
		"hex:0d 0a":               "two hexadecimal digits",
		strings.Repeat("x", 1025): "1025 bytes are more than the 1024",
	} {
		if _, err := mapping.ParseAffix(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: %v; want %s", text, err, says)
		}
	}
}

func affix(t testing.TB, s string) mapping.Affix {
	t.Helper()
	a, err := mapping.ParseAffix(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
