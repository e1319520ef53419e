package send

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/tap"
)

// What watchers are told (package tap). Each message is reported where it is decided what
// becomes of it: what leaves, beside where it is counted; what goes no further, by the
// function that counts it; what waits, as it is put where it waits.

// subject is what is known of a message that something has become of.
type subject struct {
	topic   string
	to      netip.AddrPort // zero: it has no target, or that is not known
	payload []byte
	came    time.Time // zero: not known
	reply   *reply
}

// report tells of a message of the rule, if anybody watches.
func (r *Rule) report(what tap.Decision, s *subject, reason, detail string) {
	if !r.tap.On() {
		return
	}
	e := tap.Event{
		Time: time.Now(), Direction: tap.Send, Decision: what, Rule: r.Name, Topic: s.topic, To: s.to,
		Interface: r.Binding.Interface, Bytes: len(s.payload), Payload: s.payload, Reason: reason, Detail: detail,
	}
	if !s.came.IsZero() {
		e.Latency = e.Time.Sub(s.came)
	}
	r.tap.Tell(e)
}

// reportLost tells of one that goes no further.
func (r *Rule) reportLost(why account.Reason, s *subject, err error) {
	if !r.tap.On() {
		return
	}
	decision, detail := tap.Dropped, ""
	if why.Filtered() {
		decision = tap.Filtered
	}
	if err != nil {
		detail = err.Error()
	}
	r.report(decision, s, why.String(), detail)
}

// filter counts a message that the configuration asks not to carry, of which nobody waits for an
// answer.
func (t *routeTarget) filter(why account.Reason, payload []byte, came time.Time) {
	t.rule.Count(why, 1)
	if t.rule.tap.On() {
		t.rule.reportLost(why, t.subject(payload, came), nil)
	}
}

// subject is a message for the target.
func (t *routeTarget) subject(payload []byte, came time.Time) *subject {
	s := &subject{topic: t.route.topic, payload: payload, came: came}
	if t.flow != nil {
		s.to = t.flow.to
	}
	return s
}

// subject is what is known of one that waits.
func (w *queuedDatagram) subject() *subject {
	return &subject{topic: w.topic, to: w.to, payload: w.payload, came: w.since, reply: w.reply}
}

// reportNoRule tells of a message that matches no rule.
func (p *Path) reportNoRule(m *session.Message) {
	if p.tap.On() {
		p.tap.Tell(tap.Event{
			Time: time.Now(), Direction: tap.Send, Decision: tap.Dropped, Topic: string(m.Topic), Bytes: len(m.Payload), Payload: m.Payload,
			Latency: time.Since(p.began), Reason: account.ReasonNoRule.String(),
		})
	}
}

// reportSent tells of those of the first n datagrams of a binding that have left. Callers hold its mu.
func (p *Path) reportSent(b *binding, n int) {
	now := time.Now()
	for i, d := range p.meta[:n] {
		if !d.dropped {
			b.reportSent(d.target.rule, d.target.route.topic, p.out[i].To, p.out[i].Payload, p.began, now, "")
		}
	}
}

// reportSent tells of a datagram that the kernel took. Callers hold mu.
func (b *binding) reportSent(r *Rule, topic string, to netip.AddrPort, payload []byte, came, now time.Time, detail string) {
	if !r.tap.On() {
		return
	}
	e := tap.Event{
		Time: now, Direction: tap.Send, Decision: tap.Sent, Rule: r.Name, Topic: topic, To: to,
		Interface: b.source.Interface, Bytes: len(payload), Payload: b.counters.asSent(payload), Latency: now.Sub(came), Detail: detail, TTL: r.Binding.TTL,
	}
	if b.socket != nil {
		e.Source = b.socket.LocalAddr()
	}
	r.tap.Tell(e)
}

// reportWaiting tells of a datagram that has to wait, and for what. Callers hold mu.
func (b *binding) reportWaiting(d *datagram, to netip.AddrPort, h *host, came time.Time) {
	r := d.target.rule
	if !r.tap.On() {
		return
	}
	detail := "behind others that wait"
	switch {
	case b.socket == nil:
		detail = b.reason
	case b.stuck != "":
		detail = b.stuck
	case h.unreachable():
		detail = h.errUnreachable().Error()
	case r.paced():
		detail = "for its turn: " + r.pacedBy()
	}
	r.report(tap.Waiting, &subject{topic: d.target.route.topic, to: to, payload: d.payload, came: came}, "", detail)
}

// pacedBy is what has datagrams of a paced rule wait.
func (r *Rule) pacedBy() string {
	if r.ExpectsAnswers() {
		return "answer"
	}
	return "rate"
}

// reportAnswer tells of a datagram that came back: an answer to a message on this topic, and what it
// is published on, or why not; or one that nobody asked for.
func (b *binding) reportAnswer(r *Rule, topic, on string, d *multicast.Datagram, lost *answerLoss) {
	if !r.tap.On() {
		return
	}
	e := tap.Event{
		Time: time.Now(), Direction: tap.Answer, Decision: tap.Published, Rule: r.Name, Topic: topic, AnswerTopic: on, Source: d.Source,
		Interface: b.interfaceText(r), Bytes: len(d.Payload), Payload: d.Payload,
	}
	if lost != nil {
		if e.Decision, e.Reason = tap.Dropped, lost.why.String(); lost.why.Filtered() {
			e.Decision = tap.Filtered
		}
		if lost.err != nil {
			e.Detail = lost.err.Error()
		}
	}
	if b.socket != nil {
		e.To = b.socket.LocalAddr()
	}
	r.tap.Tell(e)
}

// reportNone tells that it is published that a message on this topic has no answer.
func (r *Rule) reportNone(reason, topic, on string, to netip.AddrPort, by string, payload []byte) {
	if r.tap.On() {
		r.tap.Tell(tap.Event{
			Time: time.Now(), Direction: tap.Answer, Decision: tap.Published, Rule: r.Name, Topic: topic, AnswerTopic: on, To: to,
			Interface: by, Bytes: len(payload), Payload: payload, Detail: "no answer: " + reason,
		})
	}
}

// FollowLoss implements account.Follower.
func (p *Path) FollowLoss(rule string, why account.Reason, n uint64) {
	if p.tap.On() {
		p.tap.Tell(tap.LossOf(tap.Send, rule, why.String(), why.Filtered(), n, nil))
	}
}
