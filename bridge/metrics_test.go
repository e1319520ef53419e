package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

func TestMetricsSayWhatHappened(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}, probe: multicast.Probe{Result: multicast.ProbeVerified}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
	b.send.handle([]session.Message{message("t/1", "abc", 1), message("t/300", "x", 1), message("u", "x", 1)})
	n.socket().allow(0, nil)
	<-n.socket().free
	b.send.handle([]session.Message{message("t/1", "waits", 1)})

	const collected = `
# HELP topicast_broker_connected 1 while the session with the broker is up.
# TYPE topicast_broker_connected gauge
topicast_broker_connected 0
# HELP topicast_broker_connects_total Connections made to the broker since the start.
# TYPE topicast_broker_connects_total counter
topicast_broker_connects_total 0
# HELP topicast_queue_bytes Memory that waiting datagrams take; queue.size is the limit.
# TYPE topicast_queue_bytes gauge
topicast_queue_bytes 133
# HELP topicast_queue_messages Datagrams that wait in memory.
# TYPE topicast_queue_messages gauge
topicast_queue_messages 1
`
	if err := testutil.CollectAndCompare(b, strings.NewReader(collected), "topicast_broker_connected", "topicast_broker_connects_total",
		"topicast_queue_bytes", "topicast_queue_messages"); err != nil {
		t.Error(err)
	}
	const written = `# HELP topicast_messages_received_total MQTT messages that matched the rule.
# TYPE topicast_messages_received_total counter
topicast_messages_received_total{rule="r"} 3
# HELP topicast_datagrams_sent_total Datagrams the kernel took.
# TYPE topicast_datagrams_sent_total counter
topicast_datagrams_sent_total{rule="r"} 1
# HELP topicast_sent_bytes_total Payload bytes of the datagrams the kernel took.
# TYPE topicast_sent_bytes_total counter
topicast_sent_bytes_total{rule="r"} 3
# HELP topicast_drops_total Messages or datagrams lost, by rule and reason; rule is empty where no rule matched.
# TYPE topicast_drops_total counter
topicast_drops_total{reason="bad_group",rule="r"} 1
topicast_drops_total{reason="no_rule",rule=""} 1
# HELP topicast_rule_state 1 for the state the rule is in: pending, up or degraded.
# TYPE topicast_rule_state gauge
topicast_rule_state{rule="r",state="pending"} 0
topicast_rule_state{rule="r",state="up"} 1
topicast_rule_state{rule="r",state="degraded"} 0
# HELP topicast_rule_source_verified 1 where the self-test saw the rule's datagrams leave from the configured source.
# TYPE topicast_rule_source_verified gauge
topicast_rule_source_verified{rule="r"} 1
`
	var got strings.Builder
	if err := b.WriteRules(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written, got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(b)
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

func TestMetricsOfReceiveRulesSayWhatHappened(t *testing.T) {
	rules := []mapping.ReceiveRule{
		listenRule(t, "joined", "239.1.1.1:5000", "a"),
		listenRule(t, "in part", "239.1.1.2-239.1.1.3:5000", "b"),
		listenRule(t, "waits", "239.1.1.4:5000", "c"),
		listenRule(t, "ran away", "239.1.1.1:5000", "d"),
	}
	var got strings.Builder
	var waiting []string
	receiving(t, Options{QueueSize: 1 << 20}, nil, rules, func(b *Bridge, n *fakeNetwork) {
		n.at("239.1.1.1:5000", "iso0").hear(device, "x", "y")
		synctest.Wait()
		b.parts().receives[0].Published(1, 1)
		b.parts().receives[0].Lost(1, 1, session.ErrNotConnected)
		ranAway := &b.parts().receives[3].breaker
		ranAway.mu.Lock()
		ranAway.until = time.Now().Add(time.Minute)
		ranAway.mu.Unlock()
		n.listenErr = errors.New("no")
		b.parts().memberships[2].ear.fail(errors.New("x")) // 239.1.1.3
		b.parts().memberships[3].ear.fail(errors.New("x"))
		b.refresh(t.Context())
		if err := b.WriteRules(&got); err != nil {
			t.Error(err)
		}
		waiting = b.Waiting()
	})
	const want = `# HELP topicast_datagrams_received_total Datagrams that arrived for the rule.
# TYPE topicast_datagrams_received_total counter
topicast_datagrams_received_total{rule="joined"} 2
topicast_datagrams_received_total{rule="in part"} 0
topicast_datagrams_received_total{rule="waits"} 0
topicast_datagrams_received_total{rule="ran away"} 2
# HELP topicast_messages_published_total Messages that the broker has: acknowledged, or with QoS 0 written to the connection.
# TYPE topicast_messages_published_total counter
topicast_messages_published_total{rule="joined"} 1
topicast_messages_published_total{rule="in part"} 0
topicast_messages_published_total{rule="waits"} 0
topicast_messages_published_total{rule="ran away"} 0
# HELP topicast_drops_total Messages or datagrams lost, by rule and reason; rule is empty where no rule matched.
# TYPE topicast_drops_total counter
topicast_drops_total{reason="offline",rule="joined"} 1
topicast_drops_total{reason="no_rule",rule=""} 0
# HELP topicast_rule_state 1 for the state the rule is in: pending, up or degraded.
# TYPE topicast_rule_state gauge
topicast_rule_state{rule="joined",state="pending"} 0
topicast_rule_state{rule="joined",state="up"} 1
topicast_rule_state{rule="joined",state="degraded"} 0
topicast_rule_state{rule="in part",state="pending"} 0
topicast_rule_state{rule="in part",state="up"} 0
topicast_rule_state{rule="in part",state="degraded"} 1
topicast_rule_state{rule="waits",state="pending"} 1
topicast_rule_state{rule="waits",state="up"} 0
topicast_rule_state{rule="waits",state="degraded"} 0
topicast_rule_state{rule="ran away",state="pending"} 0
topicast_rule_state{rule="ran away",state="up"} 0
topicast_rule_state{rule="ran away",state="degraded"} 1
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"no connection to the broker", "rule waits is pending: no"}, waiting); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is written by hand is read by the library of Prometheus, names with
// quotes included, and finds no fault with it.
func TestTheRulesMetricsAreInTheFormatOfPrometheus(t *testing.T) {
	const name = `say "lamp" \ 7, site/+`
	b := newTestBridge(t, &fakeNetwork{}, plenty, rule(t, name, "t/{id}", "239.1.1.{id}:5000"), rule(t, "other", "u", "239.1.1.1:5000"))
	families := make(map[string]int)
	r := gatherer(func() ([]*dto.MetricFamily, error) {
		var page bytes.Buffer
		if err := b.WriteRules(&page); err != nil {
			return nil, err
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		parsed, err := parser.TextToMetricFamilies(&page)
		var all []*dto.MetricFamily
		for _, f := range parsed {
			all = append(all, f)
			families[f.GetName()] = len(f.Metric)
			if got := f.Metric[0].Label[len(f.Metric[0].Label)-1].GetValue(); f.GetName() == "topicast_sent_bytes_total" && got != name {
				t.Errorf("the rule is called %q", got)
			}
		}
		return all, err
	})
	if problems, err := testutil.GatherAndLint(r); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	want := map[string]int{"topicast_messages_received_total": 2, "topicast_datagrams_sent_total": 2, "topicast_sent_bytes_total": 2,
		"topicast_drops_total": 1, "topicast_rule_state": 6, "topicast_rule_source_verified": 2}
	if diff := cmp.Diff(want, families); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// pages remembers what is written, write by write.
type pages struct {
	written []string
	broken  error
}

func (p *pages) Write(b []byte) (int, error) {
	p.written = append(p.written, string(b))
	return len(b), p.broken
}

func TestMetricsOfManyRulesAreWrittenPageByPage(t *testing.T) {
	var rules []mapping.SendRule
	for i := range 500 {
		rules = append(rules, rule(t, fmt.Sprint("r", i), fmt.Sprint("t/", i), "239.1.1.1:5000"))
	}
	b := newTestBridge(t, &fakeNetwork{}, plenty, rules...)
	var whole pages
	if err := b.WriteRules(&whole); err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]int)
	for _, page := range whole.written {
		if len(page) > pageful+1<<10 {
			t.Errorf("a page of %d bytes", len(page))
		}
	}
	for _, line := range strings.Split(strings.TrimSuffix(strings.Join(whole.written, ""), "\n"), "\n") {
		lines[line]++
	}
	const headings, noRule = 2 * 6, 1
	if want := headings + noRule + 500*(3+3+1); len(lines) != want || len(whole.written) < 3 {
		t.Errorf("%d different lines on %d pages, want %d", len(lines), len(whole.written), want)
	}
	torn := pages{broken: errors.New("torn")}
	if err := b.WriteRules(&torn); err != torn.broken || len(torn.written) != 1 {
		t.Errorf("%v after %d writes, want the error of the first", err, len(torn.written))
	}
}

type gatherer func() ([]*dto.MetricFamily, error)

func (g gatherer) Gather() ([]*dto.MetricFamily, error) { return g() }

func TestTheHistogramCountsBatches(t *testing.T) {
	var h histogram
	h.observe(20*time.Microsecond, 3)
	h.observe(2*time.Minute, 1)
	c := histogramCollector{&h}
	const want = `
# HELP topicast_send_seconds Time from a message parsed to its datagram taken by the kernel.
# TYPE topicast_send_seconds histogram
topicast_send_seconds_bucket{le="1e-05"} 0
topicast_send_seconds_bucket{le="2.5e-05"} 3
topicast_send_seconds_bucket{le="5e-05"} 3
topicast_send_seconds_bucket{le="0.0001"} 3
topicast_send_seconds_bucket{le="0.00025"} 3
topicast_send_seconds_bucket{le="0.0005"} 3
topicast_send_seconds_bucket{le="0.001"} 3
topicast_send_seconds_bucket{le="0.0025"} 3
topicast_send_seconds_bucket{le="0.005"} 3
topicast_send_seconds_bucket{le="0.01"} 3
topicast_send_seconds_bucket{le="0.025"} 3
topicast_send_seconds_bucket{le="0.1"} 3
topicast_send_seconds_bucket{le="1"} 3
topicast_send_seconds_bucket{le="10"} 3
topicast_send_seconds_bucket{le="60"} 3
topicast_send_seconds_bucket{le="+Inf"} 4
topicast_send_seconds_sum 120.00006
topicast_send_seconds_count 4
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

type histogramCollector struct{ h *histogram }

func (c histogramCollector) Describe(ch chan<- *prometheus.Desc) { ch <- descLatency }
func (c histogramCollector) Collect(ch chan<- prometheus.Metric) { ch <- c.h.metric(descLatency) }
