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

// maxRouteBytes bounds what is remembered of topics: beyond it all are forgotten, and the
// next message of each topic asks the table again. Nothing else is lost: what waits has all
// that it needs.
const maxRouteBytes = 36 << 20

// What a topic takes beside its name, each of its targets, and a flow, with their places in
// maps and what the allocator rounds up to. Names count twice: those that are forgotten are
// in memory until the garbage collector comes by.
const (
	routeBytes  = 96
	targetBytes = 64
	flowBytes   = 128
	errBytes    = 192 // why there is no group, beside the name once more
)

// route is what is known of one topic.
type route struct {
	topic   string
	targets []routeTarget
}

// routeTarget is one rule's part in a route.
type routeTarget struct {
	rule  *Rule
	route *route
	flow  *flow // nil where the template yields no group
	err   error // why there is no group
	// For "retained: once". Only what the kernel took counts as sent: what waits
	// may yet be lost with this process, and then its repetition must not have
	// been acknowledged.
	sent     *lastsent.Entry // nil: the rule does not ask, or there is no group
	prepared uint64          // print of the last payload prepared, for
	flush    uint64          // this flush
}

// drop counts what was to be sent as lost.
func (t *routeTarget) drop(why account.Reason, err error) { t.rule.drop(why, t.route.topic, err) }

// took notes what the kernel took.
func (t *routeTarget) took(print uint64) {
	if t.sent != nil {
		t.rule.binding.path.lastSent.Sent(t.sent, print)
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

// knows reports whether a payload is that which was sent last, or lies ready for this
// flush.
func (t *routeTarget) knows(print, flush uint64) bool {
	switch {
	case t.sent == nil || print == 0:
		return false
	case t.flush == flush:
		return t.prepared == print
	}
	return t.sent.Was(print)
}

// flow is what goes to one group through one binding: its datagrams keep their order.
type flow struct {
	group   netip.AddrPort
	binding *binding

	// Of what is gathered, under the path's mu.
	first, last int32 // numbers, from 1, of its datagrams in gathered; 0: there are none
	next        *flow // the binding's next one that has some
}

type flowKey struct {
	group   netip.AddrPort
	binding *binding
}

// lookup finds what is known of a topic. Callers hold mu.
func (p *Path) lookup(topic []byte) *route {
	if r := p.routes[string(topic)]; r != nil { // no allocation: the compiler looks the bytes up in place
		return r
	}
	if p.routeBytes >= maxRouteBytes {
		p.forgetRoutes()
	}
	r := &route{topic: string(topic)}
	p.targets = p.table.Lookup(r.topic, p.targets[:0])
	r.targets = make([]routeTarget, len(p.targets))
	p.routeBytes += routeBytes + 2*len(topic) + targetBytes*len(p.targets)
	for i, found := range p.targets {
		rule := p.rules[found.Rule]
		t := &r.targets[i]
		t.rule, t.route, t.err = rule, r, found.Err
		if found.Err != nil {
			p.routeBytes += errBytes + len(topic)
		} else {
			t.flow = p.flow(found.Group, rule.bindingFor(found.Group))
			if rule.Retained == mapping.RetainedOnce {
				t.sent = p.lastSent.Entry(rule.sentKey(r.topic, found.Group))
			}
		}
	}
	p.routes[r.topic] = r
	return r
}

// forgetRoutes forgets what is remembered of topics.
func (p *Path) forgetRoutes() {
	p.routes, p.flows, p.routeBytes = make(map[string]*route), make(map[flowKey]*flow), 0
}

func (p *Path) flow(group netip.AddrPort, b *binding) *flow {
	k := flowKey{group, b}
	f := p.flows[k]
	if f == nil {
		f = &flow{group: group, binding: b}
		p.flows[k] = f
		p.routeBytes += flowBytes
	}
	return f
}

// made reports whether a message is one that a receive rule has made of a datagram of
// this very flow's group, and that the broker hands back to us.
func (f *flow) made(guard *loopguard.DedupCache, m *session.Message, now time.Time) bool {
	return guard.TakeBack(loopguard.PublishedDigest(f.binding.ifIndex.Load(), f.group, m.Topic, m.Payload), now)
}

// remember has the receive direction know a datagram that another bridge sends
// too, because the broker gave it the same message.
func (f *flow) remember(guard *loopguard.DedupCache, payload []byte, now time.Time) {
	guard.Add(loopguard.SentDigest(f.binding.ifIndex.Load(), f.group, payload), now)
}
