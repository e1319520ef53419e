package bridge

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"topicast/bridge/multicast"
	"topicast/bridge/session"
)

func TestMetricsSayWhatHappened(t *testing.T) {
	n := &fakeNetwork{interfaces: []multicast.Interface{iso0}, probe: multicast.Probe{Result: multicast.ProbeVerified}}
	b := newTestBridge(t, n, plenty, rule(t, "r", "t/{id}", "239.1.1.{id}:5000"))
	b.send.handle([]session.Message{message("t/1", "abc", 1), message("t/300", "x", 1), message("u", "x", 1)})
	n.socket().allow(0, nil)
	<-n.socket().free
	b.send.handle([]session.Message{message("t/1", "waits", 1)})

	want := `
# HELP topicast_broker_connected 1 while the session with the broker is up.
# TYPE topicast_broker_connected gauge
topicast_broker_connected 0
# HELP topicast_broker_connects_total Connections made to the broker since the start.
# TYPE topicast_broker_connects_total counter
topicast_broker_connects_total 0
# HELP topicast_datagrams_sent_total Datagrams the kernel took.
# TYPE topicast_datagrams_sent_total counter
topicast_datagrams_sent_total{rule="r"} 1
# HELP topicast_drops_total Messages or datagrams lost, by rule and reason; rule is empty where no rule matched.
# TYPE topicast_drops_total counter
topicast_drops_total{reason="bad_group",rule="r"} 1
topicast_drops_total{reason="no_rule",rule=""} 1
# HELP topicast_messages_received_total MQTT messages that matched the rule.
# TYPE topicast_messages_received_total counter
topicast_messages_received_total{rule="r"} 3
# HELP topicast_queue_bytes Memory that waiting datagrams take; queue.size is the limit.
# TYPE topicast_queue_bytes gauge
topicast_queue_bytes 133
# HELP topicast_queue_messages Datagrams that wait in memory.
# TYPE topicast_queue_messages gauge
topicast_queue_messages 1
# HELP topicast_rule_source_verified 1 where the self-test saw the rule's datagrams leave from the configured source.
# TYPE topicast_rule_source_verified gauge
topicast_rule_source_verified{rule="r"} 1
# HELP topicast_rule_state 1 for the state the rule is in: pending, up or degraded.
# TYPE topicast_rule_state gauge
topicast_rule_state{rule="r",state="degraded"} 0
topicast_rule_state{rule="r",state="pending"} 0
topicast_rule_state{rule="r",state="up"} 1
# HELP topicast_sent_bytes_total Payload bytes of the datagrams the kernel took.
# TYPE topicast_sent_bytes_total counter
topicast_sent_bytes_total{rule="r"} 3
`
	var names []string
	for _, line := range strings.Split(want, "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "TYPE" {
			names = append(names, f[2])
		}
	}
	if err := testutil.CollectAndCompare(b, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(b); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(b)
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

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
