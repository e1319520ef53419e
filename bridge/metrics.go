package bridge

import (
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"topicast/bridge/multicast"
)

// The metrics, all read from the running bridge when they are scraped: a message
// costs an atomic addition and never a look-up by label.
var (
	metricReceived  = ofRules("counter", "messages_received_total", "MQTT messages that matched the rule.", "rule")
	metricSent      = ofRules("counter", "datagrams_sent_total", "Datagrams the kernel took.", "rule")
	metricSentBytes = ofRules("counter", "sent_bytes_total", "Payload bytes of the datagrams the kernel took.", "rule")
	metricHeard     = ofRules("counter", "datagrams_received_total", "Datagrams that arrived for the rule.", "rule")
	metricPublished = ofRules("counter", "messages_published_total", "Messages that the broker has: acknowledged, or with QoS 0 written to the connection.", "rule")
	metricDrops     = ofRules("counter", "drops_total", "Messages or datagrams lost, by rule and reason; rule is empty where no rule matched.", "rule", "reason")
	metricState     = ofRules("gauge", "rule_state", "1 for the state the rule is in: pending, up or degraded.", "rule", "state")
	metricVerified  = ofRules("gauge", "rule_source_verified", "1 where the self-test saw the rule's datagrams leave from the configured source.", "rule")

	descQueueN    = desc("queue_messages", "Datagrams that wait in memory.")
	descQueueB    = desc("queue_bytes", "Memory that waiting datagrams take; queue.size is the limit.")
	descSpoolN    = desc("spool_messages", "Messages that wait on disk.")
	descSpoolB    = desc("spool_bytes", "Disk that waiting messages take; spool.max_size is the limit.")
	descReloadOK  = desc("config_last_reload_successful", "0 while a configuration was refused and the one before it is in force.")
	descReloadAt  = desc("config_last_reload_success_timestamp_seconds", "When the configuration in force was taken over, in Unix seconds.")
	descConnected = desc("broker_connected", "1 while the session with the broker is up.")
	descConnects  = desc("broker_connects_total", "Connections made to the broker since the start.")
	descLatency   = desc("send_seconds", "Time from a message parsed to its datagram taken by the kernel.")
	descBuild     = desc("build_info", "Always 1; the labels say what is running.", "version", "goversion")

	descs = []*prometheus.Desc{metricReceived.desc, metricSent.desc, metricSentBytes.desc, metricHeard.desc, metricPublished.desc,
		metricDrops.desc, metricState.desc, metricVerified.desc,
		descQueueN, descQueueB, descSpoolN, descSpoolB, descReloadOK, descReloadAt, descConnected, descConnects, descLatency, descBuild}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("topicast_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector. It tells of the metrics of the rules
// too, so that no other can take their names.
func (b *Bridge) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector, for all but the metrics of the rules:
// those WriteRules writes.
func (b *Bridge) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	state := b.session.State()
	gauge(descQueueN, float64(b.room.messages.Load()))
	gauge(descQueueB, float64(b.room.bytes.Load()))
	reload := b.lastReload()
	gauge(descReloadOK, float64(yes(reload.OK)))
	gauge(descReloadAt, float64(reload.LastOK.UnixMilli())/1000)
	if s := b.options.Spool.On; s != nil {
		gauge(descSpoolN, float64(s.Len()))
		gauge(descSpoolB, float64(s.Bytes()))
	}
	gauge(descConnected, float64(yes(state.Connected)))
	ch <- prometheus.MustNewConstMetric(descConnects, prometheus.CounterValue, float64(state.Connects))
	ch <- b.send.latency.metric(descLatency)
	gauge(descBuild, 1, b.options.Version, runtime.Version())
}

// WriteRules writes the metrics of the rules in the text format of Prometheus.
func (b *Bridge) WriteRules(w io.Writer) error {
	p := b.parts()
	e := &exposition{w: w, buf: make([]byte, 0, pageful+1<<10)}
	count(e, metricReceived, p.sends, func(r *sendRule) (string, *atomic.Uint64) { return r.Name, &r.received })
	count(e, metricSent, p.sends, func(r *sendRule) (string, *atomic.Uint64) { return r.Name, &r.sent })
	count(e, metricSentBytes, p.sends, func(r *sendRule) (string, *atomic.Uint64) { return r.Name, &r.sentBytes })
	count(e, metricHeard, p.receives, func(r *receiveRule) (string, *atomic.Uint64) { return r.Name, &r.received })
	count(e, metricPublished, p.receives, func(r *receiveRule) (string, *atomic.Uint64) { return r.Name, &r.published })
	e.begin(metricDrops)
	for _, r := range p.sends {
		e.drops(r.Name, &r.ledger)
	}
	for _, r := range p.receives {
		e.drops(r.Name, &r.ledger)
	}
	e.sample(b.send.noRule.Load(), "reason", DropNoRule.String(), "rule", "")
	e.begin(metricState)
	p.judge(b.session.State().Troubled, func(name string, is State, _ string) {
		for _, state := range []State{StatePending, StateUp, StateDegraded} {
			e.sample(yes(is == state), "rule", name, "state", string(state))
		}
	})
	e.begin(metricVerified)
	bindings := p.describeBindings()
	for _, r := range p.sends {
		e.sample(yes(bindings[r.binding].SelfTest.Result == multicast.ProbeVerified.String()), "rule", r.Name)
	}
	e.flush()
	return e.err
}

// count writes one of the counters that rules of a kind have.
func count[R any](e *exposition, m ruleMetric, rules []R, of func(R) (name string, n *atomic.Uint64)) {
	e.begin(m)
	for _, r := range rules {
		name, n := of(r)
		e.sample(n.Load(), "rule", name)
	}
}

func (e *exposition) drops(rule string, l *ledger) {
	for why, n := range l.drops() {
		e.sample(n, "reason", why.String(), "rule", rule)
	}
}

func yes(is bool) uint64 {
	if is {
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
