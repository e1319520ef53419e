//go:build !race

package web

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
)

// What asks often must not leave garbage by the rule. Under the race detector
// sync.Pool forgets things on purpose, so this file is left out.
func TestMetricsAndReadinessAllocateNothingByTheRule(t *testing.T) {
	for _, path := range []string{"/metrics", "/readyz"} {
		allocations := func(sends, receives int) float64 {
			handler, request := Handler(bridgeOf(t, sends, receives)), httptest.NewRequest("GET", path, nil)
			request.Header.Set("Accept-Encoding", "gzip") // as Prometheus asks; to decompress takes some memory for each block
			return testing.AllocsPerRun(5, func() {
				handler.ServeHTTP(&nowhere{header: make(http.Header)}, request)
			})
		}
		const some = 100 // as many as /readyz lists
		few := allocations(some, some)
		if many := allocations(1000, some); many > few+100 {
			t.Errorf("%s: %v allocations with %d rules, %v with 1000 of send", path, few, some, many)
		}
		if many := allocations(some, 1000); many > few+100 {
			t.Errorf("%s: %v allocations with %d rules, %v with 1000 of receive", path, few, some, many)
		}
	}
}

// Whoever reads /status slowly holds the server's memory for as long: a part of it, and
// not all rules.
func TestASlowReaderOfTheStatusHoldsLittle(t *testing.T) {
	handler := Handler(bridgeOf(t, 10_000, 0))
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := &slow{nowhere: nowhere{header: make(http.Header)}, at: 2 << 20, reached: func() {
		runtime.GC()
		runtime.ReadMemStats(&during)
	}}
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/status", nil))
	if w.reached != nil || during.HeapAlloc == 0 {
		t.Fatalf("the answer has only %d bytes", w.bytes)
	}
	if held := int64(during.HeapAlloc) - int64(before.HeapAlloc); held > 2<<20 {
		t.Errorf("%d bytes are held half way through an answer of %d", held, w.bytes)
	}
}

// slow is a response that is looked at when so many bytes are written.
type slow struct {
	nowhere
	at      int
	reached func()
}

func (w *slow) Write(p []byte) (int, error) {
	n, err := w.nowhere.Write(p)
	if w.bytes >= w.at && w.reached != nil {
		w.reached()
		w.reached = nil
	}
	return n, err
}
