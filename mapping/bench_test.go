package mapping_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"topicast/mapping"
)

var sizes = []int{10, 1_000, 100_000}

// devices returns n rules dev/<i>/<last>.
func devices(t testing.TB, n int, last, groupText string) []mapping.SendRule {
	list := make([]mapping.SendRule, n)
	for i := range list {
		list[i] = rule(t, fmt.Sprintf("dev/%d/%s", i, last), groupText)
	}
	return list
}

func benchmarkLookup(b *testing.B, last, groupText, topicEnd string) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := compile(b, devices(b, n, last, groupText)...)
			topics := make([]string, min(n, 4096))
			for i := range topics {
				topics[i] = fmt.Sprintf("dev/%d/%s", i*(n/len(topics)), topicEnd)
			}
			dst := make([]mapping.Target, 0, 4)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if dst = table.Lookup(topics[i%len(topics)], dst[:0]); len(dst) != 1 || dst[0].Err != nil {
					b.Fatal(dst)
				}
			}
		})
	}
}

func BenchmarkLookupExact(b *testing.B) {
	benchmarkLookup(b, "cmd", "239.1.1.1:5000", "cmd")
}

func BenchmarkLookupWildcard(b *testing.B) {
	benchmarkLookup(b, "+", "239.1.1.1:5000", "cmd")
}

func BenchmarkLookupCapture(b *testing.B) {
	benchmarkLookup(b, "{id}", "239.1.{id>>8}.{id&255}:{30000+id}", "1234")
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := devices(b, n, "{id}", "239.1.1.{id}:5000")
			b.ReportAllocs()
			for b.Loop() {
				compile(b, list...)
			}
		})
	}
}

func BenchmarkSubscriptions(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := compile(b, devices(b, n, "{id}", "239.1.1.{id}:5000")...)
			b.ReportAllocs()
			for b.Loop() {
				table.Subscriptions()
			}
		})
	}
}

func BenchmarkWarnings(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := compile(b, devices(b, n, "{id}", "239.1.1.{id}:5000")...)
			b.ReportAllocs()
			for b.Loop() {
				table.Warnings()
			}
		})
	}
}

// BenchmarkMemory reports the heap that a table and its rules hold, a rule.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				table := compile(b, devices(b, n, "{id}", "239.1.1.{id}:5000")...)
				b.ReportMetric(float64(heap()-before)/float64(n), "B/rule")
				runtime.KeepAlive(table)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func BenchmarkDecode(b *testing.B) {
	const hexText = "11 22 33 44 55 66 77 88 88 AA BB CC DD"
	const jsonText = `{"device": {"id": 7, "name": "lamp"}, "data": "` + hexText + `", "at": 1700000000.5}`
	for name, src := range map[string]string{"hex": hexText, "json:/data|hex": jsonText, "json:/device/name": jsonText} {
		b.Run(name, func(b *testing.B) {
			p := payload(b, name)
			src, dst := []byte(src), make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Decode(dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTopicAppend(b *testing.B) {
	a := envelopeArrival()
	for _, text := range []string{"meters/{source}/raw", "dmx/{group&65535}/from/{source}", "in/{interface}/{name}"} {
		b.Run(text, func(b *testing.B) {
			to, dst := topic(b, text), make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := to.Append(dst, a, "meters"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodingAppend(b *testing.B) {
	a := envelopeArrival()
	text := []byte(strings.Repeat(`{"power":1234.5}`, 8))
	binary := bytes.Repeat([]byte{0, 1, 2, 0xff}, 32)
	for _, e := range []mapping.Encoding{mapping.EncodingHex, mapping.EncodingBase64, mapping.EncodingJSON} {
		for name, src := range map[string][]byte{"text": text, "binary": binary} {
			b.Run(e.String()+"/"+name, func(b *testing.B) {
				dst := make([]byte, 0, 1024)
				b.SetBytes(int64(len(src)))
				b.ReportAllocs()
				for b.Loop() {
					e.Append(dst, src, a)
				}
			})
		}
	}
}

// BenchmarkCompileBoth is 10,000 send rules and 1,000 receive rules.
func BenchmarkCompileBoth(b *testing.B) {
	const sends, receives = 10_000, 1_000
	for name, tt := range map[string]struct{ filter, group, from, to string }{
		"apart":     {"dev/%d/{id}", "239.1.%d.{id}:5000", "239.2.%d.%d:5000", "dev/%d/state"},
		"captures":  {"dev/%d/{id}", "239.{id}.%d.{id}:{30000+id}", "239.2.%d.%d:5000", "dev/%d/{group&255}/state"},
		"on cycles": {"dev/%d/{id}", "239.2.%d.{id}:5000", "239.2.%d.%d:5000", "dev/%d/{source}"},
		"one group": {"dev/%d/{id}", "239.2.0.0:5000", "239.2.0.0:5000", "dev/%d/{source}"},
	} {
		b.Run(name, func(b *testing.B) {
			var send []mapping.SendRule
			var receive []mapping.ReceiveRule
			for i := range sends {
				send = append(send, rule(b, fill(tt.filter, i), fill(tt.group, i%250)))
			}
			for i := range receives {
				r := receiveRule(b, fill(tt.from, i/250, i%250), fill(tt.to, i))
				r.Name = fmt.Sprint("rule ", i)
				receive = append(receive, r)
			}
			b.ReportAllocs()
			for b.Loop() {
				compileBoth(b, send, receive)
			}
		})
	}
}

// fill is Sprintf for as many verbs as there are.
func fill(format string, values ...any) string {
	return fmt.Sprintf(format, values[:strings.Count(format, "%d")]...)
}
