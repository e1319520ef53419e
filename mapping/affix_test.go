package mapping_test

import (
	"strings"
	"testing"

	"topicast/mapping"
)

func TestDatagramsHavePrefixAndSuffix(t *testing.T) {
	for _, c := range []struct {
		prefix, suffix, payload, message, want string
		between                                int
	}{
		{"", "", "raw", "on", "on", 2},
		{"<", ">", "raw", "on", "<on>", 2},
		{"hex:0200", "hex:0D0a", "hex", "41 42", "\x02\x00AB\r\n", 2},
		{"", "\r\n", "json:/v", `{"v":"x"}`, "x\r\n", 1},
		{"a", "", "raw", "", "a", 0},
	} {
		r := mapping.SendRule{Payload: payload(t, c.payload), Prefix: affix(t, c.prefix), Suffix: affix(t, c.suffix)}
		got, between, err := r.AppendDatagram([]byte("head"), []byte(c.message))
		if err != nil || string(got) != "head"+c.want || between != c.between {
			t.Errorf("%q %s %q of %q: %q, %d between, %v; want %q", c.prefix, c.payload, c.suffix, c.message, got, between, err, c.want)
		}
		if r.Transforms() != (c.want != c.message) {
			t.Errorf("%q %s %q transforms: %t", c.prefix, c.payload, c.suffix, r.Transforms())
		}
		if r.Prefix.String() != c.prefix {
			t.Errorf("%q is shown as %q", c.prefix, r.Prefix)
		}
	}
	r := mapping.SendRule{Payload: payload(t, "hex"), Prefix: affix(t, "x")}
	if got, _, err := r.AppendDatagram([]byte("head"), []byte("4")); err == nil || string(got) != "head" {
		t.Errorf("half a byte: %q, %v", got, err)
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
