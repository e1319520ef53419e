//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// oddFile is a file that is put in a configuration's place, each with one fault, at its end
// where that can be: all before it is read.
type oddFile struct {
	name string
	make func() []byte
}

const oddSize = 8<<20 - 1<<10 // a little less than a configuration may have

var oddFiles = []oddFile{
	{"blank", func() []byte { return append(bytes.Repeat([]byte("\n"), oddSize), "a: b: c\n"...) }},
	{"comments", func() []byte {
		return append(bytes.Repeat([]byte("# "+strings.Repeat("ü [ ", 40)+"\n"), oddSize/203), "x: 1\n"...)
	}},
	{"text", func() []byte { return bytes.Repeat([]byte("no configuration at all "), oddSize/24) }},
	{"long", func() []byte {
		return fmt.Appendf(nil, "broker: { url: \"%s\" }\n", bytes.Repeat([]byte("ü"), oddSize/2))
	}},
	{"binary", func() []byte { return bytes.Repeat([]byte("\x00\xff{[-"), oddSize/5) }},
	{"deep", func() []byte { return append([]byte("x: "), bytes.Repeat([]byte("["), 1<<17)...) }},
	{"keys", func() []byte { return odd("#\t\nx:\n", "- {"+manyKeys(900)+"}\n", 127, "") }}, // for the library
	{"anchors", func() []byte { return odd("x: &x {"+manyKeys(900)+"}\ny:\n", "- <<: *x\n", 280, "") }},
	{"rules", func() []byte {
		return odd("broker: { url: 'mqtt://127.0.0.1' }\nsend:\n", "- { filter: 'a/#', group: '239.1.2.3:5000', interface: iso0 }\n", 32000, "- { filter: b }\n")
	}},
	{"flow", func() []byte {
		return odd(`{"x":[`, `{"filter":"a/#","group":"239.1.2.3:5000","interface":"iso0"},`, 28600, "1]}")
	}},
}

// odd is a head, so many times a row, and a tail.
func odd(head, row string, n int, tail string) []byte {
	return []byte(head + strings.Repeat(row, n) + tail)
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d, ", i)
	}
	return b.String()
}

// configOdd has the bridge read each of them, and then what it had.
func configOdd(r *rig) {
	good := []byte(r.config())
	read := func(name string, data []byte) {
		before, err := r.status(victimSend)
		r.must(err)
		next := r.file("next.yaml")
		r.must(errors.Join(os.WriteFile(next, data, 0o600), os.Rename(next, r.file("topicast.yaml")), r.bridge.Process.Signal(syscall.SIGHUP)))
		r.spend(cost{Bytes: len(data)})
		began := time.Now()
		if !r.until(mostHeal*4, func() bool {
			st, err := r.status(victimSend)
			return r.ended() != "" || err == nil && st.Reload.At.After(before.Reload.At)
		}) || r.ended() != "" {
			r.fail("%s is not read: %s", name, r.ended())
		}
		r.addNote("%s: %.1f s", name, time.Since(began).Seconds())
	}
	for _, f := range oddFiles {
		if r.ctx.Err() != nil {
			return
		}
		read(f.name, f.make())
	}
	read("the good one", good)
	r.last()
}
