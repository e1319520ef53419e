package bridge

import (
	"io"
	"iter"
	"runtime"
	"slices"
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
	metricAnswers   = ofRules("counter", "answers_total", "Datagrams that came back in answer to requests of the rule; what of them did not reach the broker is in drops_total.", "rule")
	metricRequests  = ofRules("counter", "requests_total", "Requests of a rule with answer that are over, by outcome: answered or unanswered.", "rule", "outcome")
	metricLast      = ofRules("gauge", "rule_last_seen_timestamp_seconds", "When the rule had its last message, or its last datagram, in Unix seconds; 0 before the first.", "rule")
	metricUnclaimed = ofRules("counter", "unclaimed_datagrams_total", "Datagrams that came to a port of the rule and that no rule takes; for direction send, to the port it sends from, which rules may share.", "direction", "rule")
	metricHostsDown = ofRules("gauge", "hosts_down", "Hosts of a rule with host that do not answer on their link.", "rule")
	metricICMP      = ofRules("counter", "icmp_errors_total", "ICMP errors that came about datagrams of a rule with host; the datagrams count as sent.", "rule")
	metricState     = ofRules("gauge", "rule_state", "1 for the state the rule is in: pending, up or degraded.", "rule", "state")
	metricVerified  = ofRules("gauge", "rule_source_verified", "1 where the self-test saw that this host gives the rule's datagrams the configured source; 0 where it did not, could not look, or the rule is pending.", "rule")

	// Of rules with merge, by leg.
	metricLegHeard     = ofRules("counter", "leg_datagrams_received_total", "Datagrams that came by a leg of a rule with merge.", "rule", "interface", "source")
	metricLegDuplicate = ofRules("counter", "leg_duplicates_total", "Of these, those that another leg had brought before.", "rule", "interface", "source")
	metricLegMissing   = ofRules("counter", "leg_missing_total", "Datagrams that other legs brought, and this one did not within the time of merge.", "rule", "interface", "source")
	metricLegLag       = ofRules("summary", "leg_lag_seconds", "How much later than by the first leg duplicates came; sum and count.", "rule", "interface", "source")
	metricUnmerged     = ofRules("counter", "unmerged_datagrams_total", "Datagrams of a rule with merge of which a copy may have been published too, as there was no room or no place for their leg.", "rule")

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
		metricDrops.desc, metricFiltered.desc, metricAnswers.desc, metricRequests.desc, metricLast.desc, metricUnclaimed.desc, metricHostsDown.desc, metricICMP.desc,
		metricState.desc, metricVerified.desc,
		metricLegHeard.desc, metricLegDuplicate.desc, metricLegMissing.desc, metricLegLag.desc, metricUnmerged.desc,
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
	sends := func(m ruleMetric, of func(r *send.Rule) uint64) {
		e.begin(m)
		for _, r := range g.send.Rules {
			e.sample(of(r), "rule", r.Common, labelInterface, r.Instance())
		}
	}
	receives := func(m ruleMetric, of func(r *receive.Rule) uint64) {
		e.begin(m)
		for _, r := range g.receive.Rules {
			e.sample(of(r), "rule", r.Common, labelInterface, r.Instance())
		}
	}
	sends(metricReceived, func(r *send.Rule) uint64 { n, _, _ := r.Totals(); return n })
	sends(metricSent, func(r *send.Rule) uint64 { _, n, _ := r.Totals(); return n })
	sends(metricSentBytes, func(r *send.Rule) uint64 { _, _, n := r.Totals(); return n })
	sends(metricLeft, (*send.Rule).Left)
	receives(metricHeard, func(r *receive.Rule) uint64 { n, _ := r.Totals(); return n })
	receives(metricPublished, func(r *receive.Rule) uint64 { _, n := r.Totals(); return n })
	e.begin(metricDrops)
	e.sample(b.send.Unmatched(), "direction", directionSend, "rule", "", "reason", account.ReasonNoRule.String())
	e.gone(directionSend, b.send.Removed(), &send.RemovedReasons)
	e.gone(directionReceive, b.receive.Removed(), &receive.RemovedReasons)
	e.counts(g, false)
	e.begin(metricFiltered)
	e.counts(g, true)
	e.answers(g.send.Rules)
	e.begin(metricLast)
	now := time.Now()
	for _, r := range g.send.Rules {
		e.sample(unix(r.LastReceived.Time(now)), "rule", r.Common, labelInterface, r.Instance())
	}
	for _, r := range g.receive.Rules {
		e.sample(unix(r.LastReceived.Time(now)), "rule", r.Common, labelInterface, r.Instance())
	}
	o := g.overview(BrokerStatus{}, b.session.State(), now)
	e.begin(metricUnclaimed)
	for _, r := range g.send.Rules {
		e.sample(o.sends.Unclaimed(r), "direction", directionSend, "rule", r.Common, labelInterface, r.Instance())
	}
	e.hosts(metricHostsDown, g.send.Rules, func(r *send.Rule) uint64 { return uint64(r.HostsDown()) })
	e.hosts(metricICMP, g.send.Rules, (*send.Rule).HostErrors)
	e.begin(metricState)
	o.judge(func(r judged) {
		for _, state := range []account.State{account.StatePending, account.StateUp, account.StateDegraded, account.StateDisabled} {
			e.sample(yes(r.state == state), "rule", r.common, "state", string(state), labelInterface, r.on)
		}
	})
	sends(metricVerified, func(r *send.Rule) uint64 { return yes(o.sends.Verified(r)) })
	e.legs(g.receive.Rules, now)
	e.flush()
	return e.err
}

// answers writes what was answered, of rules that expect that.
func (e *exposition) answers(rules []*send.Rule) {
	e.begin(metricAnswers)
	for _, r := range rules {
		if came, _, _ := r.Answers(); r.ExpectsAnswers() {
			e.sample(came, "rule", r.Name)
		}
	}
	e.begin(metricRequests)
	for _, r := range rules {
		if _, answered, unanswered := r.Answers(); r.ExpectsAnswers() {
			e.sample(answered, "rule", r.Name, "outcome", "answered")
			e.sample(unanswered, "rule", r.Name, "outcome", "unanswered")
		}
	}
}

// hosts writes a metric of rules that send to hosts.
func (e *exposition) hosts(m ruleMetric, rules []*send.Rule, of func(r *send.Rule) uint64) {
	e.begin(m)
	for _, r := range rules {
		if !r.Host.IsZero() {
			e.sample(of(r), "rule", r.Common, labelInterface, r.Instance())
		}
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
				e.reason(n, directionSend, r.Common, r.Instance(), why)
			}
		}
		for _, r := range g.receive.Rules {
			if n := r.Of(why); n > 0 || r.CanCount(why) {
				e.reason(n, directionReceive, r.Common, r.Instance(), why)
			}
		}
	}
}

// legs writes what became of the datagrams of each leg. Only those are there that are known to
// carry what others do: senders can be made up.
func (e *exposition) legs(rules []*receive.Rule, now time.Time) {
	type ofRule struct {
		name     string
		legs     []receive.Leg
		unmerged uint64
	}
	var all []ofRule
	for _, r := range rules {
		if legs, unmerged, ok := r.Legs(now); ok && (len(all) == 0 || all[len(all)-1].name != r.Common) { // a rule's interfaces have them in common
			legs = slices.DeleteFunc(legs, func(l receive.Leg) bool { return !l.Known() })
			all = append(all, ofRule{r.Common, legs, unmerged})
		}
	}
	each := func(m ruleMetric, write func(l *receive.Leg, labels ...string)) {
		e.begin(m)
		for _, r := range all {
			for i := range r.legs {
				l := &r.legs[i]
				write(l, "rule", r.name, "interface", l.Interface, "source", l.Source)
			}
		}
	}
	each(metricLegHeard, func(l *receive.Leg, labels ...string) { e.sample(l.Received, labels...) })
	each(metricLegDuplicate, func(l *receive.Leg, labels ...string) { e.sample(l.Duplicates, labels...) })
	each(metricLegMissing, func(l *receive.Leg, labels ...string) { e.sample(l.Missing, labels...) })
	each(metricLegLag, func(l *receive.Leg, labels ...string) { e.summary(l.LagSum, l.LagCount, labels...) })
	e.begin(metricUnmerged)
	for _, r := range all {
		e.sample(r.unmerged, "rule", r.name)
	}
}

// gone writes what was lost of rules that a reload has removed: of those removed last by
// name, and of the others under none, where any reason that can happen is there from the start.
func (e *exposition) gone(direction string, removed iter.Seq2[string, *account.Counters], can *[account.NumReasons]bool) {
	for name, l := range removed {
		on := ""
		if l.Label != nil {
			name, on = l.Label.Rule, l.Label.Interface
		}
		for why := range account.NumReasons {
			if n := l.Of(why); n > 0 && !why.Filtered() || name == "" && can[why] {
				e.reason(n, direction, name, on, why)
			}
		}
	}
}

func (e *exposition) reason(n uint64, direction, rule, on string, why account.Reason) {
	e.sample(n, "direction", direction, "rule", rule, "reason", why.String(), labelInterface, on)
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
