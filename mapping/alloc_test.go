//go:build !race

package mapping_test

import (
	"testing"

	"topicast/mapping"
)

// Under the race detector sync.Pool, which encoding/json uses, forgets things on
// purpose, so this file is left out.
func TestDecodeAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 1<<16)
	for _, name := range []string{"raw", "hex", "json:/a/b/4/c", "json:/text", "json:/hex|hex", "json:/a|b|raw", "json:/base64|base64"} {
		p, src := payload(t, name), []byte(document)
		if name == "hex" {
			src = []byte("11 22 33")
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := p.Decode(dst, src); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestReceivingAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 1<<12)
	a := envelopeArrival()
	for _, text := range []string{"meters/{source}/raw", "{group}:{port}/{source_port}/{interface}/{name}", "dmx/{group&65535}/{(source>>8)&255}"} {
		to := topic(t, text)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := to.Append(dst, a, "meters"); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
	for _, src := range []string{"22.5 °C \"in\" the hall\n", "\x00\x01\xff"} {
		for e := mapping.EncodingRaw; e <= mapping.EncodingJSON; e++ {
			if n := testing.AllocsPerRun(100, func() { e.Append(dst, []byte(src), a) }); n != 0 {
				t.Errorf("%s of %q: %v allocations", e, src, n)
			}
		}
	}
}
