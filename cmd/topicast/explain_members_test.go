package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"topicast/configs"
)

// What the running topicast has disabled is said wherever the rule is named; once it is asked.
func TestExplainSaysThatARuleIsDisabled(t *testing.T) {
	asked := 0
	running := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		_, _ = fmt.Fprint(w, `{"rules": [
			{"name": "lamps", "state": "disabled", "reason": "disabled by root; topicast enable has it go on", "since": "2026-01-02T03:04:05Z"},
			{"name": "states", "state": "disabled", "reason": "disabled by eve", "since": "2026-01-02T03:04:05Z"},
			{"name": "other", "state": "up"}]}`)
	}))
	t.Cleanup(running.Close)
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	if err := os.WriteFile(file, []byte(`
broker: {url: "mqtt://127.0.0.1:1883"}
send:
  - {name: lamps, filter: "lamp/{id}", group: "239.10.3.{id}:30000", interface: iso0}
  - {name: other, filter: "lamp/#", group: "239.10.3.7:30000", interface: iso0}
receive:
  - {name: states, group: "239.10.3.7:30000", interface: iso0, topic: lamp/7}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{strings.TrimPrefix(running.URL, "http://"), ""} {
		cfg.Web.Listen = listen
		for what, want := range map[string]int{"lamp/7": 2, "239.10.3.7:30000": 2} {
			h := testHost()
			h.listeners = newListeners(t.Context(), cfg)
			asked = 0
			var out strings.Builder
			if to, err := netip.ParseAddrPort(what); err == nil {
				_ = explainGroup(&out, question{group: to}, cfg.Table, h)
			} else {
				_ = explainTopic(&out, what, sample{}, cfg, h)
			}
			once := 1
			if listen == "" {
				want, once = 0, 0
			}
			if n := strings.Count(out.String(), "\n  disabled    since 2026-01-0"); n != want || asked != once {
				t.Errorf("%s: %d times, asked %d times: %s", what, n, asked, out.String())
			}
			if want > 0 && !strings.Contains(out.String(), " in the topicast that runs: disabled by root; topicast enable has it go on\n") {
				t.Errorf("%s: %s", what, out.String())
			}
		}
	}
}
