package web

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/bridge/tap"
)

// fake is a bridge in a state of the test's choice.
type fake struct {
	prometheus.Collector
	status bridge.Status
	asked  *bridge.Query
}

func (f fake) Snapshot(q bridge.Query) (bridge.Status, iter.Seq[send.Status], iter.Seq[receive.Status]) {
	if f.asked != nil {
		*f.asked = q
	}
	s := f.status
	s.Rules, s.Receive = nil, nil
	return s, slices.Values(f.status.Rules), slices.Values(f.status.Receive)
}

func (f fake) Readiness() bridge.Readiness {
	return bridge.Readiness{Ready: f.status.Ready, Conditions: f.status.Conditions, More: f.status.MoreConditions}
}

func (f fake) WriteRules(w io.Writer) error {
	_, err := io.WriteString(w, "topicast_rule_test{rule=\"r\"} 7\n")
	return err
}

func (f fake) Counts() iter.Seq[bridge.RuleCounts] {
	return func(yield func(bridge.RuleCounts) bool) {
		for _, r := range f.status.Rules {
			if !yield(bridge.RuleCounts{Direction: "send", Name: r.Name, In: r.Received, Out: r.Sent, Dropped: sum(r.Drops)}) {
				return
			}
		}
		for _, r := range f.status.Receive {
			if !yield(bridge.RuleCounts{Direction: "receive", Name: r.Name, In: r.Received, Out: r.Published, Dropped: sum(r.Drops)}) {
				return
			}
		}
	}
}

func sum(drops map[string]uint64) (all uint64) {
	for _, n := range drops {
		all += n
	}
	return all
}

func (f fake) Effective(rule string) ([]bridge.Key, bool) {
	return []bridge.Key{{Key: "ttl", Value: "8", Means: "hops"}, {Key: "qos", Value: "1", Default: true}}, rule == "lamps"
}

func newFake(s bridge.Status) fake {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "topicast_test", Help: "There to be seen."})
	g.Set(42)
	return fake{Collector: g, status: s}
}

func get(t *testing.T, b Bridge, path string) (int, http.Header, string) {
	t.Helper()
	w := httptest.NewRecorder()
	pages(b).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Header(), w.Body.String()
}

// pages are all that a server answers with.
func pages(b Bridge) http.Handler {
	h := newHandler(b)
	h.servePage(newLive(b, slog.New(slog.DiscardHandler), maxStreams), &feeds{tap: new(tap.Tap), places: make(chan struct{}, maxFeeds)})
	return h.mux
}

var busy = bridge.Status{
	Version: "1.2.3", Started: time.Now().Add(-100 * time.Hour), Ready: false,
	Waiting: []string{"no connection to the broker: refused", "rule lamps is pending: interface iso0 is down"},
	Conditions: []bridge.Condition{
		{Name: "broker", State: account.StatePending, Reason: "no connection to the broker: refused"},
		{Name: "rule", Rule: "lamps", State: account.StatePending, Reason: "interface iso0 is down"},
		{Name: "rule", Rule: "meters", State: account.StateDegraded, Reason: "two\nlines"},
	},
	MoreConditions: 900,
	Broker:         bridge.BrokerStatus{ClientID: "gateway-7"},
	Queue:          bridge.QueueStatus{Messages: 3, Bytes: 5 << 20, Size: 64 << 20},
	Rules: []send.Status{
		{Name: "well", Filter: "a/b", Group: "239.1.1.1:5000", State: account.StateUp, Sent: 7},
		{Name: "lamps", Filter: "<script>alert(1)</script>", Group: "239.1.1.2:5000", State: account.StatePending,
			Reason: "interface iso0 is down", Drops: map[string]uint64{"pending": 12}, FirstDrops: map[string]string{"pending": "topic t: late"}, SelfTest: send.SelfTest{Result: "rewritten"}},
	},
	Receive: []receive.Status{
		{Name: "quiet", Groups: []string{"239.2.1.1:5000"}, Interface: "iso0", Topic: "quiet/t", State: account.StateUp, Sockets: 1, Joined: 1},
		{Name: "meters", Groups: []string{"239.2.1.2:5000", "239.2.1.3-239.2.1.9:5000"}, Interface: "iso1", Sources: []string{"192.0.2.0/24"},
			Topic: "<script>{source}</script>", State: account.StateDegraded, Reason: "1 of 8 groups are not joined: no room",
			Sockets: 8, Joined: 7, Buffer: 212992, Received: 1234, Published: 1200,
			Drops: map[string]uint64{"source": 34}},
	},
}

func TestReadySaysWhatIsMissing(t *testing.T) {
	code, _, body := get(t, newFake(busy), "/readyz")
	want := "not ready\n" +
		"broker: pending: no connection to the broker: refused\n" +
		"rule lamps: pending: interface iso0 is down\n" +
		"rule meters: degraded: two lines\n" +
		"and 900 more; /status has the state of each rule\n"
	if code != http.StatusServiceUnavailable || body != want {
		t.Errorf("%d %q", code, body)
	}
	partly := bridge.Status{Ready: true, Conditions: busy.Conditions[2:]}
	if code, _, body := get(t, newFake(partly), "/readyz"); code != http.StatusOK || body != "ready\nrule meters: degraded: two lines\n" {
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

func TestAnswersAreCompressedForWhomAsksForThat(t *testing.T) {
	for path, end := range map[string]string{"/metrics": "topicast_rule_test{rule=\"r\"} 7\n", "/": "</html>\n", "/status": "}\n", "/status?limit=1": "}\n"} {
		for accepted, compressed := range map[string]bool{
			"gzip": true, "deflate, GZIP;q=0.5": true, "zstd;q=1, gzip; q=1": true,
			"": false, "identity": false, "gzip;q=0": false, "xgzip": false,
		} {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("Accept-Encoding", accepted)
			w := httptest.NewRecorder()
			pages(newFake(busy)).ServeHTTP(w, r)
			var body io.Reader = w.Body
			if (w.Header().Get("Content-Encoding") == "gzip") != compressed || w.Header().Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s for %s: %v", path, accepted, w.Header())
				continue
			}
			if compressed {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(body)
			if err != nil || !strings.HasSuffix(string(text), end) {
				t.Errorf("%s for %s: %v, ends with %q", path, accepted, err, text[max(0, len(text)-100):])
			}
		}
	}
}

func TestNothingElseIsServedAndNothingCanBeChanged(t *testing.T) {
	if code, _, _ := get(t, newFake(busy), "/etc/passwd"); code != http.StatusNotFound {
		t.Errorf("code %d for a path that is not there", code)
	}
	w := httptest.NewRecorder()
	pages(newFake(busy)).ServeHTTP(w, httptest.NewRequest("POST", "/status", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("code %d for a POST", w.Code)
	}
}

func TestTheServerStopsWithItsContextAndSaysWhenItsPortIsTaken(t *testing.T) {
	defer goleak.VerifyNone(t)
	s, err := Listen(Options{Address: "127.0.0.1:0"}, newFake(busy))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{Address: s.Addr().String()}, newFake(busy)); err == nil || !strings.Contains(err.Error(), "web.listen: ") || !strings.Contains(err.Error(), "another program has the port") {
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

func TestAnAddressThatCannotBeListenedOnIsExplained(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}, "another program has the port"},
		{&net.OpError{Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}, "no such address"},
		{&net.OpError{Err: os.NewSyscallError("bind", syscall.EACCES)}, "below 1024"},
		{&net.OpError{Err: &net.DNSError{Err: "no such host", Name: "nohost"}}, "write an address"},
		{errors.New("unexpected"), "choose another address or port"},
	} {
		if got := instead(c.err); !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
