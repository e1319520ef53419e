package bridge

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"topicast/bridge/multicast"
)

// The metrics, all read from the running bridge when they are scraped: a message
// costs an atomic addition and never a look-up by label.
var (
	descReceived  = desc("messages_received_total", "MQTT messages that matched the rule.", "rule")
	descSent      = desc("datagrams_sent_total", "Datagrams the kernel took.", "rule")
	descSentBytes = desc("sent_bytes_total", "Payload bytes of the datagrams the kernel took.", "rule")
	descHeard     = desc("datagrams_received_total", "Datagrams that arrived for the rule.", "rule")
	descPublished = desc("messages_published_total", "Messages that the broker has: acknowledged, or with QoS 0 written to the connection.", "rule")
	descDrops     = desc("drops_total", "Messages or datagrams lost, by rule and reason; rule is empty where no rule matched.", "rule", "reason")
	descState     = desc("rule_state", "1 for the state the rule is in: pending, up or degraded.", "rule", "state")
	descVerified  = desc("rule_source_verified", "1 where the self-test saw the rule's datagrams leave from the configured source.", "rule")
	descQueueN    = desc("queue_messages", "Datagrams that wait in memory.")
	descQueueB    = desc("queue_bytes", "Memory that waiting datagrams take; queue.size is the limit.")
	descConnected = desc("broker_connected", "1 while the session with the broker is up.")
	descConnects  = desc("broker_connects_total", "Connections made to the broker since the start.")
	descLatency   = desc("send_seconds", "Time from a message parsed to its datagram taken by the kernel.")
	descBuild     = desc("build_info", "Always 1; the labels say what is running.", "version", "goversion")

	descs = []*prometheus.Desc{descReceived, descSent, descSentBytes, descHeard, descPublished, descDrops, descState, descVerified,
		descQueueN, descQueueB, descConnected, descConnects, descLatency, descBuild}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("topicast_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (b *Bridge) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (b *Bridge) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	common := func(name string, l *ledger, state State) {
		for why, n := range l.drops() {
			counter(descDrops, n, name, why.String())
		}
		for _, s := range []State{StatePending, StateUp, StateDegraded} {
			gauge(descState, is(state == s), name, string(s))
		}
	}
	status := b.Status()
	for i, r := range b.sends {
		counter(descReceived, r.received.Load(), r.Name)
		counter(descSent, r.sent.Load(), r.Name)
		counter(descSentBytes, r.sentBytes.Load(), r.Name)
		common(r.Name, &r.ledger, status.Rules[i].State)
		gauge(descVerified, is(status.Rules[i].SelfTest.Result == multicast.ProbeVerified.String()), r.Name)
	}
	for i, r := range b.receives {
		counter(descHeard, r.received.Load(), r.Name)
		counter(descPublished, r.published.Load(), r.Name)
		common(r.Name, &r.ledger, status.Receive[i].State)
	}
	counter(descDrops, b.send.noRule.Load(), "", DropNoRule.String())
	gauge(descQueueN, float64(status.Queue.Messages))
	gauge(descQueueB, float64(status.Queue.Bytes))
	gauge(descConnected, is(status.Broker.Connected))
	counter(descConnects, uint64(status.Broker.Connects))
	ch <- b.send.latency.metric(descLatency)
	gauge(descBuild, 1, b.options.Version, runtime.Version())
}

func is(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// bounds of the latency histogram, in seconds: from what an idle machine needs
// to what a spell without an interface costs.
var bounds = [...]float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 1, 10, 60}

// histogram counts batches at once: its own, because client_golang's observes one
// value at a time.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	nanos   atomic.Uint64
}

// observe counts n observations of d.
func (h *histogram) observe(d time.Duration, n uint64) {
	s, i := d.Seconds(), 0
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.nanos.Add(uint64(d) * n)
}

func (h *histogram) metric(d *prometheus.Desc) prometheus.Metric {
	cumulative, count := make(map[float64]uint64, len(bounds)), uint64(0)
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(bounds) {
			cumulative[bounds[i]] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, time.Duration(h.nanos.Load()).Seconds(), cumulative)
}
