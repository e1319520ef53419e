//go:build !race

package mapping_test

import (
	"fmt"
	"runtime"
	"strings"
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

// Numbers in an array are read where they stand, however many there are.
func TestBytesAreDecodedWithoutAllocating(t *testing.T) {
	p := payload(t, "json:/data|bytes")
	message := []byte(`{"type":"Buffer","data":[` + strings.Repeat("200,", 999) + `7]}`)
	dst := make([]byte, 0, 2000)
	if n := testing.AllocsPerRun(100, func() {
		var err error
		if dst, err = p.Decode(dst[:0], message); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
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

func TestRulesWithoutCapturesCompileWithoutAllocatingByTheRule(t *testing.T) {
	const rules = 5000
	list := make([]mapping.SendRule, rules)
	for i := range list {
		list[i] = rule(t, fmt.Sprintf("site/%d/lamp/set", i), fmt.Sprintf("239.10.%d.%d:5000", i>>8, i&255))
	}
	var table *mapping.Table
	for what, work := range map[string]func(){
		"Compile":       func() { table = compile(t, list...) },
		"Warnings":      func() { table.Warnings() },
		"Subscriptions": func() { table.Subscriptions() },
	} {
		table = compile(t, list...)
		if n := testing.AllocsPerRun(3, work); n > rules/10 {
			t.Errorf("%s: %v allocations for %d rules", what, n, rules)
		}
	}
}

func TestAGroupWithoutExpressionsIsReadWithOneAllocation(t *testing.T) {
	for _, text := range []string{"239.1.2.3:5000", "[ff15::1]:5000"} {
		if n := testing.AllocsPerRun(100, func() { group(t, text) }); n > 1 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}

func TestARuleTakesLittleMemory(t *testing.T) {
	const rules = 10_000
	before := heap()
	table := compile(t, devices(t, rules, "lamp/set", "239.1.1.1:5000")...)
	if bytes := (heap() - before) / rules; bytes > 700 {
		t.Errorf("%d bytes", bytes)
	}
	runtime.KeepAlive(table)
}
