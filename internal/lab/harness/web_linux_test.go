package harness

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

func TestMetricsAreRead(t *testing.T) {
	got := ParseMetrics("# HELP x y\ntopicast_drops_total{reason=\"own\",rule=\"a b\"} 12\ngo_goroutines 7\nnonsense\n")
	want := []Sample{
		{"topicast_drops_total", map[string]string{"reason": "own", "rule": "a b"}, 12},
		{"go_goroutines", map[string]string{}, 7},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAWebServerIsAskedFromTheHost(t *testing.T) {
	h := netlab.New(t).Host("gw")
	var at net.Listener
	err := h.Do(func() (err error) { at, err = net.Listen("tcp", "127.0.0.1:0"); return err })
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusTeapot)
		}
		io.WriteString(w, "here")
	})}
	go server.Serve(at)
	t.Cleanup(func() { server.Close() })
	if end, err := Follow(h, "http://"+at.Addr().String()); err != nil || end() > 4 {
		t.Error(err)
	}
	if _, err := Follow(h, "http://"+at.Addr().String()+"/no"); err == nil || !strings.Contains(err.Error(), "418") {
		t.Error(err)
	}
	if body, err := Get(h, "http://"+at.Addr().String()); err != nil || string(body) != "here" {
		t.Errorf("%q, %v", body, err)
	}
	if body, err := Get(h, "http://"+at.Addr().String()+"/no"); err == nil || string(body) != "here" {
		t.Errorf("a refusal: %q, %v", body, err)
	}
}
