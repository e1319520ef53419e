package web

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"topicast/bridge"
)

// fake is a bridge in a state of the test's choice.
type fake struct {
	prometheus.Collector
	status bridge.Status
}

func (f fake) Status() bridge.Status { return f.status }
func (f fake) Waiting() []string     { return f.status.Waiting }

func (f fake) WriteRules(w io.Writer) error {
	_, err := io.WriteString(w, "topicast_rule_test{rule=\"r\"} 7\n")
	return err
}

func newFake(s bridge.Status) fake {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "topicast_test", Help: "There to be seen."})
	g.Set(42)
	return fake{g, s}
}

func get(t *testing.T, b Bridge, path string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(b).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Header(), w.Body.String()
}

var busy = bridge.Status{
	Version: "1.2.3", Started: time.Now().Add(-100 * time.Hour), Ready: false,
	Waiting: []string{"no connection to the broker: refused", "rule lamps is pending: interface iso0 is down"},
	Broker:  bridge.BrokerStatus{ClientID: "gateway-7"},
	Queue:   bridge.QueueStatus{Messages: 3, Bytes: 5 << 20, Size: 64 << 20},
	Rules: []bridge.RuleStatus{
		{Name: "well", Filter: "a/b", Group: "239.1.1.1:5000", State: bridge.StateUp, Sent: 7},
		{Name: "lamps", Filter: "<script>alert(1)</script>", Group: "239.1.1.2:5000", State: bridge.StatePending,
			Reason: "interface iso0 is down", Drops: map[string]uint64{"pending": 12}, FirstDrops: map[string]string{"pending": "topic t: late"}, SelfTest: bridge.SelfTest{Result: "rewritten"}},
	},
	Receive: []bridge.ReceiveStatus{
		{Name: "quiet", Groups: []string{"239.2.1.1:5000"}, Interface: "iso0", Topic: "quiet/t", State: bridge.StateUp, Sockets: 1, Joined: 1},
		{Name: "meters", Groups: []string{"239.2.1.2:5000", "239.2.1.3-239.2.1.9:5000"}, Interface: "iso1", Sources: []string{"192.0.2.0/24"},
			Topic: "<script>{source}</script>", State: bridge.StateDegraded, Reason: "1 of 8 groups are not joined: no room",
			Sockets: 8, Joined: 7, Buffer: 212992, Received: 1234, Published: 1200,
			Drops: map[string]uint64{"source": 34}},
	},
}

func TestReadySaysWhatIsMissing(t *testing.T) {
	code, _, body := get(t, newFake(busy), "/readyz")
	if code != http.StatusServiceUnavailable || body != strings.Join(busy.Waiting, "\n")+"\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _, body := get(t, newFake(bridge.Status{Ready: true}), "/readyz"); code != http.StatusOK || body != "ready\n" {
		t.Errorf("%d %q", code, body)
	}
}

func TestHealthIsOfTheProcessNotOfTheBroker(t *testing.T) {
	if code, _, _ := get(t, newFake(busy), "/healthz"); code != http.StatusOK {
		t.Errorf("code %d while the broker is away", code)
	}
}

func TestStatusIsTheSameDataAsJSON(t *testing.T) {
	_, header, body := get(t, newFake(busy), "/status")
	var got bridge.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(busy, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

func TestMetricsHoldTheBridgesTheRuntimesAndTheProcesss(t *testing.T) {
	_, _, body := get(t, newFake(busy), "/metrics")
	for _, want := range []string{"topicast_test 42", "topicast_rule_test{rule=\"r\"} 7", "go_goroutines", "process_open_fds"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestMetricsAreCompressedForWhomAsksForThat(t *testing.T) {
	for accepted, compressed := range map[string]bool{
		"gzip": true, "deflate, GZIP;q=0.5": true, "zstd;q=1, gzip; q=1": true,
		"": false, "identity": false, "gzip;q=0": false, "xgzip": false,
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept-Encoding", accepted)
		w := httptest.NewRecorder()
		Handler(newFake(busy)).ServeHTTP(w, r)
		var body io.Reader = w.Body
		if (w.Header().Get("Content-Encoding") == "gzip") != compressed {
			t.Errorf("%s: %v", accepted, w.Header())
			continue
		}
		if compressed {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		if err != nil || !strings.HasSuffix(string(text), "topicast_rule_test{rule=\"r\"} 7\n") {
			t.Errorf("%s: %v, ends with %q", accepted, err, text[max(0, len(text)-100):])
		}
	}
}

func TestThePageShowsTroubleFirstAndRunsNobodysScript(t *testing.T) {
	code, header, body := get(t, newFake(busy), "/")
	if code != http.StatusOK {
		t.Fatalf("code %d:\n%s", code, body)
	}
	for _, want := range []string{"not ready", "interface iso0 is down", "12 pending", "the first: topic t: late", "5.0 MiB of 64.0 MiB", "4d4h", "gateway-7", "self-test: rewritten",
		"239.2.1.3-239.2.1.9:5000", "on iso1", "192.0.2.0/24", "anybody", "7 of 8 joined", "receive buffer: 208.0 KiB",
		"1 of 8 groups are not joined", ">1234\n", ">1200\n", `<span class="why">34 source</span>`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(body, "<script>") || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("a topic could run a script")
	}
	for _, c := range []struct{ trouble, well string }{{"239.1.1.2:5000", "239.1.1.1:5000"}, {"239.2.1.2:5000", "239.2.1.1:5000"}} {
		if strings.Index(body, c.trouble) > strings.Index(body, c.well) {
			t.Errorf("the rule of %s, in trouble, does not come first", c.trouble)
		}
	}
}

func TestThePageShowsTheDiskAndARefusedConfiguration(t *testing.T) {
	waits := bridge.SpoolStatus{Dir: "/d", Messages: 4711, Bytes: 3 << 20, Size: 512 << 20}
	fails := bridge.SpoolStatus{Dir: "/d", Messages: 4711, Error: "no space left on device"}
	ago := time.Now().Add(-3 * time.Hour)
	for name, c := range map[string]struct {
		status     bridge.Status
		has, hasNo []string
	}{
		"neither":           {bridge.Status{}, nil, []string{"Waiting on disk", "<dt>Configuration"}},
		"on disk":           {bridge.Status{Spool: &waits}, []string{"<dt>Waiting on disk</dt><dd>4711 (3.0 MiB of 512.0 MiB)"}, nil},
		"the disk fails":    {bridge.Status{Spool: &fails}, []string{`<dt>Waiting on disk</dt><dd><span class="pending">no space left on device</span>`}, []string{"4711"}},
		"taken over":        {bridge.Status{Reload: &bridge.ReloadStatus{At: ago, OK: true}}, []string{"taken over 3h", " ago"}, []string{"refused"}},
		"refused, with why": {bridge.Status{Reload: &bridge.ReloadStatus{At: ago, Error: "send[3]: <b>"}}, []string{"refused 3h", "the one before it is in force</span>: send[3]: &lt;b&gt;"}, []string{"taken over"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, body := get(t, newFake(c.status), "/")
			for _, want := range c.has {
				if !strings.Contains(body, want) {
					t.Errorf("the page does not say %q:\n%s", want, body)
				}
			}
			for _, not := range c.hasNo {
				if strings.Contains(body, not) {
					t.Errorf("the page says %q", not)
				}
			}
		})
	}
}

func TestThePageOfManyRulesStaysReadable(t *testing.T) {
	many := bridge.ReceiveStatus{Groups: make([]string, 1000)}
	s := bridge.Status{Rules: make([]bridge.RuleStatus, 100_000), Receive: slices.Repeat([]bridge.ReceiveStatus{many}, 1_000)}
	_, _, body := get(t, newFake(s), "/")
	for _, want := range []string{"and 99500 more rules", "and 500 more rules", "and 992 more"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if len(body) > 1<<20 {
		t.Errorf("the page has %d bytes", len(body))
	}
}

func TestThePageOfOneDirectionDoesNotSpeakOfTheOther(t *testing.T) {
	for _, c := range []struct {
		status     bridge.Status
		has, hasNo string
	}{
		{bridge.Status{Rules: busy.Rules}, "MQTT to multicast", "multicast to MQTT"},
		{bridge.Status{Receive: busy.Receive}, "multicast to MQTT", "MQTT to multicast"},
	} {
		_, _, body := get(t, newFake(c.status), "/")
		if !strings.Contains(body, c.has) || strings.Contains(body, c.hasNo) {
			t.Errorf("the page with %q alone has %q too, or has neither", c.has, c.hasNo)
		}
	}
}

func TestNothingElseIsServedAndNothingCanBeChanged(t *testing.T) {
	if code, _, _ := get(t, newFake(busy), "/etc/passwd"); code != http.StatusNotFound {
		t.Errorf("code %d for a path that is not there", code)
	}
	w := httptest.NewRecorder()
	Handler(newFake(busy)).ServeHTTP(w, httptest.NewRequest("POST", "/status", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("code %d for a POST", w.Code)
	}
}

func TestTheServerStopsWithItsContextAndSaysWhenItsPortIsTaken(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := Listen("127.0.0.1:0", newFake(busy))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(s.Addr().String(), newFake(busy)); err == nil || !strings.Contains(err.Error(), "web.listen: ") {
		t.Errorf("a taken port: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	r, err := http.Get("http://" + s.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, r.Body)
	r.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
