package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
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

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestMetricsSayWhatHappened(t *testing.T) {
	n := &fake.Network{Present: []multicast.Interface{fake.Iso0}, Probe: multicast.Probe{Result: multicast.ProbeVerified}}
	b := newTestBridge(t, n, fake.Plenty, fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
	kept := fake.Message("t/1", "abc", 1)
	kept.Retain = true
	b.send.Handle([]session.Message{fake.Message("t/1", "abc", 1), fake.Message("t/300", "x", 1), fake.Message("u", "x", 1), kept})
	n.LastSocket().Allow(0, nil)
	<-n.LastSocket().Free
	b.send.Handle([]session.Message{fake.Message("t/1", "waits", 1)})

	const collected = `
# HELP topicast_broker_connected 1 while the session with the broker is up.
# TYPE topicast_broker_connected gauge
topicast_broker_connected 0
# HELP topicast_broker_connects_total Connections made to the broker since the start.
# TYPE topicast_broker_connects_total counter
topicast_broker_connects_total 0
# HELP topicast_queue_bytes Memory that waiting datagrams take; queue.size is the limit.
# TYPE topicast_queue_bytes gauge
topicast_queue_bytes 200
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
topicast_messages_received_total{rule="r"} 4
# HELP topicast_datagrams_sent_total Datagrams the kernel took.
# TYPE topicast_datagrams_sent_total counter
topicast_datagrams_sent_total{rule="r"} 1
# HELP topicast_sent_bytes_total Payload bytes of the datagrams the kernel took.
# TYPE topicast_sent_bytes_total counter
topicast_sent_bytes_total{rule="r"} 3
# HELP topicast_messages_left_total Messages left with the broker, for there was no room (queue.size); each counts as received again when the broker repeats it.
# TYPE topicast_messages_left_total counter
topicast_messages_left_total{rule="r"} 0
# HELP topicast_drops_total Messages or datagrams lost; rule is empty where no rule matched, and for those of more than 1,000 rules that reloads have removed.
# TYPE topicast_drops_total counter
topicast_drops_total{direction="send",rule="",reason="no_rule"} 1
topicast_drops_total{direction="send",rule="r",reason="bad_group"} 1
# HELP topicast_filtered_total Messages or datagrams that the configuration asks not to carry.
# TYPE topicast_filtered_total counter
topicast_filtered_total{direction="send",rule="r",reason="retained"} 1
# HELP topicast_rule_last_seen_timestamp_seconds When the rule had its last message, or its last datagram, in Unix seconds; 0 before the first.
# TYPE topicast_rule_last_seen_timestamp_seconds gauge
topicast_rule_last_seen_timestamp_seconds{rule="r"} NOW
# HELP topicast_unclaimed_datagrams_total Datagrams that came to a port of the rule and that no rule takes; for direction send, to the port it sends from, which rules may share.
# TYPE topicast_unclaimed_datagrams_total counter
topicast_unclaimed_datagrams_total{direction="send",rule="r"} 0
# HELP topicast_rule_state 1 for the state the rule is in: pending, up or degraded.
# TYPE topicast_rule_state gauge
topicast_rule_state{rule="r",state="pending"} 0
topicast_rule_state{rule="r",state="up"} 1
topicast_rule_state{rule="r",state="degraded"} 0
topicast_rule_state{rule="r",state="disabled"} 0
# HELP topicast_rule_source_verified 1 where the self-test saw that this host gives the rule's datagrams the configured source; 0 where it did not, could not look, or the rule is pending.
# TYPE topicast_rule_source_verified gauge
topicast_rule_source_verified{rule="r"} 1
`
	var got strings.Builder
	if err := b.WriteRules(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written, withoutZeros(got.String())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(b)
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

// withoutZeros leaves out the reasons for which nothing was dropped or filtered, and
// writes NOW for a time of just now.
func withoutZeros(text string) string {
	text = regexp.MustCompile(`(?m)^topicast_(drops|filtered)_total\{.*\} 0\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(`(?m)^(topicast_rule_last_seen_timestamp_seconds\{.*\}) (\d+)$`).ReplaceAllStringFunc(text, func(line string) string {
		sample, value, _ := strings.Cut(line, "} ")
		if at, err := strconv.ParseInt(value, 10, 64); err == nil && at > 0 && time.Since(time.Unix(at, 0)).Abs() < time.Minute {
			value = "NOW"
		}
		return sample + "} " + value
	})
}

// loop is a program that hands each message of a topic to a group again.
type loop struct {
	*fake.Publisher
	topic string
	to    *fake.Receiver
}

func (l *loop) PublishBatch(batch []session.Publication) {
	l.Publisher.PublishBatch(batch)
	for _, m := range batch {
		if payload := string(m.Payload); string(m.Topic) == l.topic {
			time.AfterFunc(2*time.Millisecond, func() { l.to.Hear("172.17.0.7:5", payload) })
		}
	}
}

func TestMetricsOfReceiveRulesSayWhatHappened(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "joined", "239.1.1.1:5000", "a"),
		fake.ReceiveRule(t, "in part", "239.1.1.2-239.1.1.3:5000", "b"),
		fake.ReceiveRule(t, "waits", "239.1.1.4:5000", "c"),
		fake.ReceiveRule(t, "goes round", "239.1.1.5:5000", "d"),
	}
	var got strings.Builder
	var written string
	var readiness Readiness
	o := Options{QueueSize: 1 << 20, Loops: loopguard.Options{Breaker: 100}}
	bridgeReceiving(t, o, nil, rules, func(b *Bridge, n *fake.Network) {
		b.own.Add(netip.MustParseAddrPort("172.17.0.1:40000"))
		round := n.At("239.1.1.5:5000", "iso0")
		b.receive.PublishTo(&loop{Publisher: publisherOf(b), topic: "d", to: round})
		round.Hear("172.17.0.1:40000", "sent by ourselves")
		round.Hear(fake.Device, "round and round")
		time.Sleep(8 * time.Second) // it is found out, and nothing goes round any more
		n.At("239.1.1.1:5000", "iso0").Hear(fake.Device, "x", "y")
		n.At("239.1.1.1:5000", "iso0").Hear("172.17.0.1:40000", "sent by ourselves")
		synctest.Wait()
		b.current().receive.Rules[0].Published(1, 1)
		b.current().receive.Rules[0].Lost(1, 1, session.ErrNotConnected)
		n.ListenErr = errors.New("no")
		for _, group := range []string{"239.1.1.3:5000", "239.1.1.4:5000"} {
			r := n.At(group, "iso0")
			r.Failure = errors.New("x")
			close(r.In)
		}
		synctest.Wait()
		b.reconcile(t.Context())
		if err := b.WriteRules(&got); err != nil {
			t.Error(err)
		}
		written = withoutZeros(got.String()) // by the clock of this bubble
		written = regexp.MustCompile(`(?m)^(topicast_(?:datagrams_received|drops)_total\{.*rule="goes round".*\}) [1-9]\d*$`).ReplaceAllString(written, "$1 SOME")
		readiness = b.Readiness()
	})
	const want = `# HELP topicast_datagrams_received_total Datagrams that arrived for the rule.
# TYPE topicast_datagrams_received_total counter
topicast_datagrams_received_total{rule="joined"} 3
topicast_datagrams_received_total{rule="in part"} 0
topicast_datagrams_received_total{rule="waits"} 0
topicast_datagrams_received_total{rule="goes round"} SOME
# HELP topicast_messages_published_total Messages that the broker has: acknowledged, or with QoS 0 written to the connection.
# TYPE topicast_messages_published_total counter
topicast_messages_published_total{rule="joined"} 1
topicast_messages_published_total{rule="in part"} 0
topicast_messages_published_total{rule="waits"} 0
topicast_messages_published_total{rule="goes round"} 0
# HELP topicast_drops_total Messages or datagrams lost; rule is empty where no rule matched, and for those of more than 1,000 rules that reloads have removed.
# TYPE topicast_drops_total counter
topicast_drops_total{direction="receive",rule="goes round",reason="breaker"} SOME
topicast_drops_total{direction="receive",rule="joined",reason="offline"} 1
# HELP topicast_filtered_total Messages or datagrams that the configuration asks not to carry.
# TYPE topicast_filtered_total counter
topicast_filtered_total{direction="receive",rule="joined",reason="own"} 1
topicast_filtered_total{direction="receive",rule="goes round",reason="own"} 1
# HELP topicast_rule_last_seen_timestamp_seconds When the rule had its last message, or its last datagram, in Unix seconds; 0 before the first.
# TYPE topicast_rule_last_seen_timestamp_seconds gauge
topicast_rule_last_seen_timestamp_seconds{rule="joined"} NOW
topicast_rule_last_seen_timestamp_seconds{rule="in part"} 0
topicast_rule_last_seen_timestamp_seconds{rule="waits"} 0
topicast_rule_last_seen_timestamp_seconds{rule="goes round"} NOW
# HELP topicast_rule_state 1 for the state the rule is in: pending, up or degraded.
# TYPE topicast_rule_state gauge
topicast_rule_state{rule="joined",state="pending"} 0
topicast_rule_state{rule="joined",state="up"} 1
topicast_rule_state{rule="joined",state="degraded"} 0
topicast_rule_state{rule="joined",state="disabled"} 0
topicast_rule_state{rule="in part",state="pending"} 0
topicast_rule_state{rule="in part",state="up"} 0
topicast_rule_state{rule="in part",state="degraded"} 1
topicast_rule_state{rule="in part",state="disabled"} 0
topicast_rule_state{rule="waits",state="pending"} 1
topicast_rule_state{rule="waits",state="up"} 0
topicast_rule_state{rule="waits",state="degraded"} 0
topicast_rule_state{rule="waits",state="disabled"} 0
topicast_rule_state{rule="goes round",state="pending"} 0
topicast_rule_state{rule="goes round",state="up"} 0
topicast_rule_state{rule="goes round",state="degraded"} 1
topicast_rule_state{rule="goes round",state="disabled"} 0
`
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	conditions := []Condition{
		{Name: "broker", Rule: "", State: account.StatePending, Reason: "no connection to the broker"},
		{Name: "rule", Rule: "waits", State: account.StatePending, Reason: "no"},
		{Name: "rule", Rule: "in part", State: account.StateDegraded, Reason: "no"},
		{Name: "rule", Rule: "goes round", State: account.StateDegraded, Reason: "what the rule publishes comes back through other programs"},
	}
	if diff := cmp.Diff(Readiness{Conditions: conditions}, readiness); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What is written by hand is read by the library of Prometheus, names with
// quotes included, and finds no fault with it.
func TestTheRulesMetricsAreInTheFormatOfPrometheus(t *testing.T) {
	const name = `say "lamp" \ 7, site/+`
	b := newTestBridge(t, &fake.Network{}, fake.Plenty, fake.SendRule(t, name, "t/{id}", "239.1.1.{id}:5000"), fake.SendRule(t, "other", "u", "239.1.1.1:5000"))
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
	want := map[string]int{"topicast_messages_received_total": 2, "topicast_datagrams_sent_total": 2, "topicast_sent_bytes_total": 2, "topicast_messages_left_total": 2,
		"topicast_drops_total": 35, "topicast_filtered_total": 2, "topicast_rule_last_seen_timestamp_seconds": 2, "topicast_unclaimed_datagrams_total": 2,
		"topicast_rule_state": 8, "topicast_rule_source_verified": 2}
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
		rules = append(rules, fake.SendRule(t, fmt.Sprint("r", i), fmt.Sprint("t/", i), "239.1.1.1:5000"))
	}
	b := newTestBridge(t, &fake.Network{}, fake.Plenty, rules...)
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
	const headings, ofNoRule, reasons = 2 * 10, 14, 11 // retained and 10 drops
	if want := headings + ofNoRule + 500*(4+1+1+4+1+reasons); len(lines) != want || len(whole.written) < 3 {
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
	var h account.Histogram
	h.Observe(20*time.Microsecond, 3)
	h.Observe(2*time.Minute, 1)
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

type histogramCollector struct{ h *account.Histogram }

func (c histogramCollector) Describe(ch chan<- *prometheus.Desc) { ch <- descLatency }
func (c histogramCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- histogramMetric(c.h, descLatency)
}
