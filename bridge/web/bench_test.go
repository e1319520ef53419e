package web

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"topicast/bridge"
	"topicast/bridge/session"
	"topicast/mapping"
)

// bridgeOf makes a bridge of so many rules, which is not run.
func bridgeOf(t testing.TB, sends, receives int) *bridge.Bridge {
	t.Helper()
	table, err := mapping.Compile(sendRulesOf(t, sends), receiveRulesOf(t, receives))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bridge.New(bridge.Options{Table: table, QueueSize: 1 << 20, Logger: slog.New(slog.DiscardHandler),
		Session: session.Options{URLs: []string{"mqtt://127.0.0.1:1"}, ClientID: "bench"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func groupOf(i int) string {
	return fmt.Sprintf("239.%d.%d.%d:30000", 10+i>>16, i>>8&255, i&255)
}

func sendRulesOf(t testing.TB, n int) []mapping.SendRule {
	t.Helper()
	rules := make([]mapping.SendRule, n)
	for i := range rules {
		filter, err := mapping.ParseFilter(fmt.Sprintf("site/%d/lamp/set", i))
		if err != nil {
			t.Fatal(err)
		}
		group, err := mapping.ParseGroup(groupOf(i))
		if err != nil {
			t.Fatal(err)
		}
		rules[i] = mapping.SendRule{
			Name: fmt.Sprintf("rule-%d", i), Filter: filter, Group: group,
			Binding: mapping.Binding{Source: netip.MustParsePrefix("127.0.0.1/32"), TTL: 1},
		}
	}
	return rules
}

func receiveRulesOf(t testing.TB, n int) []mapping.ReceiveRule {
	t.Helper()
	rules := make([]mapping.ReceiveRule, n)
	for i := range rules {
		group, err := mapping.ParseGroupRange(groupOf(i))
		if err != nil {
			t.Fatal(err)
		}
		topic, err := mapping.ParseTopic(fmt.Sprintf("meters/%d/{source}", i))
		if err != nil {
			t.Fatal(err)
		}
		rules[i] = mapping.ReceiveRule{Name: fmt.Sprintf("meter-%d", i), Groups: []mapping.GroupRange{group}, Interface: "lo", Topic: topic}
	}
	return rules
}

// nowhere is a response that nobody reads.
type nowhere struct {
	header http.Header
	bytes  int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) WriteHeader(int)             {}
func (w *nowhere) Write(p []byte) (int, error) { w.bytes += len(p); return io.Discard.Write(p) }

func BenchmarkPages(b *testing.B) {
	for _, path := range []string{"/metrics", "/readyz", "/status"} {
		for _, n := range []struct{ sends, receives int }{{1, 0}, {10_000, 0}, {0, 10_000}} {
			b.Run(fmt.Sprintf("%s/send=%d,receive=%d", path[1:], n.sends, n.receives), func(b *testing.B) {
				handler, request := Handler(bridgeOf(b, n.sends, n.receives)), httptest.NewRequest("GET", path, nil)
				b.ReportAllocs()
				for b.Loop() {
					w := &nowhere{header: make(http.Header)}
					handler.ServeHTTP(w, request)
					b.SetBytes(int64(w.bytes))
				}
			})
		}
	}
}

// What an open page costs every other second: a sample of all rules, and a look at those it shows, all of
// which carry something.
func BenchmarkOpenPage(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			of, l := bridgeOf(b, n, 0), newLively(100, false)
			p, v, changes := newPast(), &view{query: bridge.Query{Sort: "trouble", Limit: rows}}, &view{query: bridge.Query{Limit: rows}}
			b.ReportAllocs()
			for b.Loop() {
				p.sample(of.Counts(), time.Now())
				v.look(of, p, true)
			}
			p = newPast()
			var change, all []byte
			for range 3 {
				p.sample(l.Counts(), l.clock())
				change, all = changes.look(l, p, true), changes.all(p)
				l.began = l.began.Add(-samplePeriod)
			}
			b.ReportMetric(float64(len(change)), "B/change")
			b.ReportMetric(float64(len(all)), "B/all")
		})
	}
}
