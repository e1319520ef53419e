package bridge

import (
	"io"
	"iter"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"topicast/bridge/account"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// The metrics, all read from the running bridge when they are scraped: a message
// costs an atomic addition and never a look-up by label.
var (
	metricReceived  = ofRules("counter", "messages_received_total", "MQTT messages that matched the rule.", "rule")
	metricSent      = ofRules("counter", "datagrams_sent_total", "Datagrams the kernel took.", "rule")
	metricSentBytes = ofRules("counter", "sent_bytes_total", "Payload bytes of the datagrams the kernel took.", "rule")
	metricLeft      = ofRules("counter", "messages_left_total", "Messages left with the broker, for there was no room (queue.size); each counts as received again when the broker repeats it.", "rule")
	metricHeard     = ofRules("counter", "datagrams_received_total", "Datagrams that arrived for the rule.", "rule")
	metricPublished = ofRules("counter", "messages_published_total", "Messages that the broker has: acknowledged, or with QoS 0 written to the connection.", "rule")
	metricDrops     = ofRules("counter", "drops_total", "Messages or datagrams lost; rule is empty where no rule matched, and for those of more than 1,000 rules that reloads have removed.", "direction", "rule", "reason")
	metricFiltered  = ofRules("counter", "filtered_total", "Messages or datagrams that the configuration asks not to carry.", "direction", "rule", "reason")
	metricLast      = ofRules("gauge", "rule_last_seen_timestamp_seconds", "When the rule had its last message, or its last datagram, in Unix seconds; 0 before the first.", "rule")
	metricUnclaimed = ofRules("counter", "unclaimed_datagrams_total", "Datagrams that came to a port of the rule and that no rule takes; for direction send, to the port it sends from, which rules may share.", "direction", "rule")
	metricState     = ofRules("gauge", "rule_state", "1 for the state the rule is in: pending, up or degraded.", "rule", "state")
	metricVerified  = ofRules("gauge", "rule_source_verified", "1 where the self-test saw that this host gives the rule's datagrams the configured source; 0 where it did not, could not look, or the rule is pending.", "rule")

	descHeld      = desc("unacknowledged_messages", "Messages of the broker that topicast has and has not acknowledged yet: they wait in memory, or after one that does.")
	descLeft      = desc("left_messages", "Messages that there was no room for (queue.size), and that the broker is still to repeat.")
	descQueueN    = desc("queue_messages", "Datagrams that wait in memory.")
	descQueueB    = desc("queue_bytes", "Memory that waiting datagrams take; queue.size is the limit.")
	descSpoolOK   = desc("spool_usable", "1 while the spool takes messages, 0 while it cannot be used.")
	descSpoolN    = desc("spool_messages", "Messages that wait on disk.")
	descSpoolB    = desc("spool_bytes", "Disk that waiting messages take; spool.max_size is the limit.")
	descReloadOK  = desc("config_last_reload_successful", "0 while a configuration was refused and the one before it is in force.")
	descReloadAt  = desc("config_last_reload_success_timestamp_seconds", "When the configuration in force was taken over, in Unix seconds.")
	descConnected = desc("broker_connected", "1 while the session with the broker is up.")
	descConnects  = desc("broker_connects_total", "Connections made to the broker since the start.")
	descUnclaimed = desc("host_unclaimed_datagrams_total", "UDP datagrams that came to this host, by unicast, or by multicast or broadcast, and that no program took; of all ports, since the host started.", "to")
	descLatency   = desc("send_seconds", "Time from a message parsed to its datagram taken by the kernel.")
	descBuild     = desc("build_info", "Always 1; the labels say what is running.", "version", "goversion")

	descs = []*prometheus.Desc{metricReceived.desc, metricSent.desc, metricSentBytes.desc, metricLeft.desc, metricHeard.desc, metricPublished.desc,
		metricDrops.desc, metricFiltered.desc, metricLast.desc, metricUnclaimed.desc, metricState.desc, metricVerified.desc,
		descHeld, descLeft, descQueueN, descQueueB, descSpoolOK, descSpoolN, descSpoolB, descReloadOK, descReloadAt, descConnected, descConnects, descUnclaimed, descLatency, descBuild}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("topicast_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector. It reports the metrics of the rules
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
	gauge(descHeld, float64(state.Held))
	var left int64
	for _, r := range b.current().send.Rules {
		n, _ := r.LeftWithBroker(time.Time{})
		left += int64(n)
	}
	gauge(descLeft, float64(left))
	gauge(descQueueN, float64(b.budget.Count()))
	gauge(descQueueB, float64(b.budget.Bytes()))
	reload := b.lastReload()
	gauge(descReloadOK, float64(yes(reload.OK)))
	gauge(descReloadAt, float64(reload.LastOK.UnixMilli())/1000)
	if s := b.spoolStatus(); s != nil {
		gauge(descSpoolOK, float64(yes(s.Error == "")))
		gauge(descSpoolN, float64(s.Messages))
		gauge(descSpoolB, float64(s.Bytes))
	}
	gauge(descConnected, float64(yes(state.Connected)))
	ch <- prometheus.MustNewConstMetric(descConnects, prometheus.CounterValue, float64(state.Connects))
	if u, err := b.options.network.hostUnclaimed(); err == nil {
		ch <- prometheus.MustNewConstMetric(descUnclaimed, prometheus.CounterValue, float64(u.Unicast), "unicast")
		ch <- prometheus.MustNewConstMetric(descUnclaimed, prometheus.CounterValue, float64(u.Multicast), "multicast")
	}
	ch <- histogramMetric(b.send.Latencies(), descLatency)
	gauge(descBuild, 1, b.options.Version, runtime.Version())
}

// WriteRules writes the metrics of the rules in the text format of Prometheus.
func (b *Bridge) WriteRules(w io.Writer) error {
	g := b.current()
	e := &exposition{w: w, buf: make([]byte, 0, pageful+1<<10)}
	count(e, metricReceived, g.send.Rules, func(r *send.Rule) (string, uint64) { n, _, _ := r.Totals(); return r.Name, n })
	count(e, metricSent, g.send.Rules, func(r *send.Rule) (string, uint64) { _, n, _ := r.Totals(); return r.Name, n })
	count(e, metricSentBytes, g.send.Rules, func(r *send.Rule) (string, uint64) { _, _, n := r.Totals(); return r.Name, n })
	count(e, metricLeft, g.send.Rules, func(r *send.Rule) (string, uint64) { return r.Name, r.Left() })
	count(e, metricHeard, g.receive.Rules, func(r *receive.Rule) (string, uint64) { n, _ := r.Totals(); return r.Name, n })
	count(e, metricPublished, g.receive.Rules, func(r *receive.Rule) (string, uint64) { _, n := r.Totals(); return r.Name, n })
	e.begin(metricDrops)
	e.sample(b.send.Unmatched(), "direction", directionSend, "rule", "", "reason", account.DropNoRule.String())
	e.gone(directionSend, b.send.Removed(), &send.RemovedReasons)
	e.gone(directionReceive, b.receive.Removed(), &receive.RemovedReasons)
	e.counts(g, false)
	e.begin(metricFiltered)
	e.counts(g, true)
	e.begin(metricLast)
	now := time.Now()
	for _, r := range g.send.Rules {
		e.sample(unix(r.LastReceived.Time(now)), "rule", r.Name)
	}
	for _, r := range g.receive.Rules {
		e.sample(unix(r.LastReceived.Time(now)), "rule", r.Name)
	}
	o := g.overview(BrokerStatus{}, b.session.State(), now)
	e.begin(metricUnclaimed)
	for _, r := range g.send.Rules {
		e.sample(o.sends.Unclaimed(r), "direction", directionSend, "rule", r.Name)
	}
	e.begin(metricState)
	o.judge(func(name string, is account.State, _ string) {
		for _, state := range []account.State{account.StatePending, account.StateUp, account.StateDegraded} {
			e.sample(yes(is == state), "rule", name, "state", string(state))
		}
	})
	e.begin(metricVerified)
	for _, r := range g.send.Rules {
		e.sample(yes(o.sends.Verified(r)), "rule", r.Name)
	}
	e.flush()
	return e.err
}

// count writes one of the counters that rules of a kind have.
func count[R any](e *exposition, m ruleMetric, rules []R, of func(R) (name string, n uint64)) {
	e.begin(m)
	for _, r := range rules {
		name, n := of(r)
		e.sample(n, "rule", name)
	}
}

// The values of the label direction.
const (
	directionSend    = "send"
	directionReceive = "receive"
)

// counts writes what of each rule was filtered, or what was lost: for every reason that
// can happen to the rule as it is configured, and for those that once could.
func (e *exposition) counts(g *generation, filtered bool) {
	for why := range account.NumReasons {
		if why.Filtered() != filtered {
			continue
		}
		for _, r := range g.send.Rules {
			if n := r.Of(why); n > 0 || r.CanCount(why) {
				e.reason(n, directionSend, r.Name, why)
			}
		}
		for _, r := range g.receive.Rules {
			if n := r.Of(why); n > 0 || r.CanCount(why) {
				e.reason(n, directionReceive, r.Name, why)
			}
		}
	}
}

// gone writes what was lost of rules that a reload has removed: of those removed last by
// name, and of the others under none, where any reason that can happen is there from the start.
func (e *exposition) gone(direction string, removed iter.Seq2[string, *account.Counters], can *[account.NumReasons]bool) {
	for name, l := range removed {
		for why := range account.NumReasons {
			if n := l.Of(why); n > 0 && !why.Filtered() || name == "" && can[why] {
				e.reason(n, direction, name, why)
			}
		}
	}
}

func (e *exposition) reason(n uint64, direction, rule string, why account.Reason) {
	e.sample(n, "direction", direction, "rule", rule, "reason", why.String())
}

// unix is 0 for the zero time.
func unix(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.Unix())
}

func yes(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

// histogramMetric is a histogram for a Collector.
func histogramMetric(h *account.Histogram, d *prometheus.Desc) prometheus.Metric {
	cumulative, count, sum := h.Snapshot()
	return prometheus.MustNewConstHistogram(d, count, sum, cumulative)
}
