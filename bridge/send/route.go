package send

import (
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/session"
	"topicast/mapping"
)

// What is remembered of topics.

// route is what is known of one topic.
type route struct {
	topic   string
	targets []routeTarget

	// While it is remembered; see topics.go.
	next  *route // the next younger one of its share
	seen  uint64 // when it had been used, as it was put there
	bytes int    // what it counts as
}

// routeTarget is one rule's part in a route.
type routeTarget struct {
	rule  *Rule
	route *route
	flow  *flow      // nil where the template yields no target, or each message has its own
	err   error      // why there is no target
	each  *each      // nil: the payload has no part in the target (each.go)
	when  *whenFacts // nil: the rule takes every message
	// For "retained: once". Only what the kernel took counts as sent: what waits
	// may yet be lost with this process, and then its repetition must not have
	// been acknowledged.
	sent     *lastsent.Entry // nil: the rule does not ask, or there is no target
	flush    uint64          // when one was prepared last
	prepared int32           // the index in the batch of that message
}

// drop counts what was to be sent as lost: a message with this payload, which came then.
func (t *routeTarget) drop(why account.Reason, payload []byte, came time.Time, err error) {
	t.rule.drop(why, t.subject(payload, came), err)
}

// took notes what the kernel took.
func (t *routeTarget) took(fingerprint uint64) {
	if t.sent != nil {
		t.rule.binding.path.lastSent.Sent(t.sent, fingerprint)
	}
}

// delayed notes that a datagram of the target has to wait. Callers hold the path's mu.
func (t *routeTarget) delayed() {
	if t.sent == nil {
		return
	}
	if t.rule.waitsFunc == nil {
		t.rule.waitsFunc = t.rule.waits
	}
	t.sent.Delay(&t.rule.waitsFunc)
}

// flow is what goes to one target through one binding: its datagrams keep their order.
type flow struct {
	to      netip.AddrPort
	binding *binding
	topics  int // how many of those that are remembered lead into it

	// Of what is gathered, under the path's mu.
	first, last int32 // numbers, from 1, of its datagrams in gathered; 0: there are none
	next        *flow // the binding's next one that has some
}

type flowKey struct {
	to      netip.AddrPort
	binding *binding
}

// lookup finds what is known of a topic. Callers hold mu.
func (p *Path) lookup(topic []byte) *route {
	if r := p.topics.routes[string(topic)]; r != nil { // no allocation: the compiler looks the bytes up in place
		return r
	}
	p.topics.forgetUnused()
	r := &route{topic: string(topic), seen: p.flushes}
	p.targets = p.table.Lookup(r.topic, p.targets[:0])
	r.targets = make([]routeTarget, len(p.targets))
	for i, found := range p.targets {
		rule := p.rules[found.Rule]
		t := &r.targets[i]
		t.rule, t.route, t.err = rule, r, found.Err
		if rule.disabled != nil { // it has no target
			t.err = errDisabled
			continue
		}
		if !rule.When.IsZero() {
			t.when = factsOf(rule, r.topic)
		}
		switch {
		case found.ByPayload != nil:
			t.each = &each{by: found.ByPayload}
		case found.Err == nil:
			p.lead(t, found.To)
		}
	}
	p.topics.remember(r)
	return r
}

// lead has a rule's part in a route lead to a target.
func (p *Path) lead(t *routeTarget, to netip.AddrPort) {
	t.flow = p.topics.flow(flowKey{to, t.rule.bindingFor(to)})
	if t.rule.Retained == mapping.RetainedOnce {
		t.sent = p.lastSent.Entry(t.rule.sentKey(t.route.topic, to), t.rule.Name)
	}
}

// made reports whether a message is one that a receive rule has made of a datagram of
// this very flow's target, and that the broker hands back to us.
func (f *flow) made(guard *loopguard.DedupCache, m *session.Message, now time.Time) bool {
	return guard.TakeBack(loopguard.PublishedDigest(f.binding.ifIndex.Load(), f.to, m.Topic, m.Payload), now)
}

// remember has the receive direction know a datagram that another bridge sends
// too, because the broker gave it the same message.
func (f *flow) remember(guard *loopguard.DedupCache, payload []byte, now time.Time) {
	guard.Add(loopguard.SentDigest(f.binding.ifIndex.Load(), f.to, payload), now)
}
