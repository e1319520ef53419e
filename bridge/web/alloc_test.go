//go:build !race

package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// What asks often must not leave garbage by the rule. Under the race detector
// sync.Pool forgets things on purpose, so this file is left out.
func TestMetricsAndReadinessAllocateNothingByTheRule(t *testing.T) {
	for _, path := range []string{"/metrics", "/readyz"} {
		allocations := func(sends, receives int) float64 {
			handler, request := Handler(bridgeOf(t, sends, receives)), httptest.NewRequest("GET", path, nil)
			return testing.AllocsPerRun(5, func() {
				handler.ServeHTTP(&nowhere{header: make(http.Header)}, request)
			})
		}
		few := allocations(1, 1)
		if many := allocations(1000, 1); many > few+100 {
			t.Errorf("%s: %v allocations with one rule, %v with 1000 of send", path, few, many)
		}
		if many := allocations(1, 1000); many > few+100 {
			t.Errorf("%s: %v allocations with one rule, %v with 1000 of receive", path, few, many)
		}
	}
}
