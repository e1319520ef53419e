//go:build !race

package mapping_test

import "testing"

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
