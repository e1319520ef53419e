package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A stranger's page that calls itself the address of this host reads nothing, whatever it
// asks for; and who calls this host by an address, by a name that nobody can register or by
// one that the configuration names is served. Programs that are no browsers may use any name
// for metrics and health checks.
func TestABrowserIsServedUnderOurNamesAlone(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	handler := checkHost([]string{"topicast.example.com"}, pages(newFake(busy)))
	ask := func(path, host string, headers ...string) (int, string) {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Body)
		return w.Code, string(body)
	}
	for _, path := range []string{"/", "/status", "/metrics", "/healthz"} {
		for _, host := range []string{"127.0.0.1:9479", "[::1]:9479", "[fe80::1%25eth0]:9479", "[fe80::1]", "192.0.2.7", "localhost:9479", "topicast:9479", own, strings.ToUpper(own) + ":80",
			"gateway.local", "gateway.lan:9479", "gw.home.arpa", "topicast.monitoring.svc", "topicast.monitoring.svc.cluster.local.", "Topicast.Example.com", "topicast.example.com.:443", ""} {
			if code, body := ask(path, host, "Accept-Language", "de"); code != http.StatusOK {
				t.Errorf("%s of %s: %d %s", path, host, code, body)
			}
		}
		for _, host := range []string{"evil.example", "evil.example:9479", "127.0.0.1.evil.example", "topicast.example.com.evil.example", "local.example", "evil.example.",
			"[::1%25x].evil.example", "[::1].evil.example:9479", "[::1%25x].evil.example:9479", "::1%25x].evil.example"} {
			for _, headers := range [][]string{{"Accept-Language", "de"}, {"Accept-Language", ""}, {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"}} {
				if code, body := ask(path, host, headers...); code != http.StatusMisdirectedRequest || !strings.Contains(body, "add it to web.hosts") {
					t.Errorf("%s of %s with %q: %d", path, host, headers, code)
				}
			}
			want := http.StatusOK
			if path == "/" || path == "/status" {
				want = http.StatusMisdirectedRequest
			}
			if code, _ := ask(path, host, "User-Agent", "Prometheus/3.5.0", "Accept-Encoding", "gzip"); code != want {
				t.Errorf("%s of %s, asked for by Prometheus: %d, want %d", path, host, code, want)
			}
		}
	}
}
