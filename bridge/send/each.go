package send

import (
	"net/netip"

	"topicast/bridge/account"
	"topicast/bridge/session"
	"topicast/mapping"
)

// Targets that the payload of each message has a part in. What is remembered of such a rule's
// part in a route is a routeTarget for each target that its messages had: so the way of a
// message is the same as that of others once its target is known. It counts as what is
// remembered of the topic (topics.go), and is forgotten with it.

// maxEach is how many targets of a topic are remembered for one rule.
const maxEach = 4096

// What such a part takes, and each of its targets.
const (
	eachCost       = 160
	eachTargetCost = targetCost + flowCost + 136
)

// each is what is known of the targets of one rule and topic. The path's mu guards it.
type each struct {
	by      *mapping.PayloadTarget
	targets map[netip.AddrPort]*routeTarget
}

// aim finds the target of a message; nil: it has none, and that is counted.
func (p *Path) aim(m *session.Message, t *routeTarget) *routeTarget {
	switch rule := t.rule; {
	case m.Retain && rule.Retained == mapping.RetainedNever:
		t.drop(account.ReasonRetained, m.Payload, p.began, nil)
		return nil
	case rule.DropEmpty && len(m.Payload) == 0:
		t.filter(account.ReasonEmpty, m.Payload, p.began)
		return nil
	}
	one, err := p.targetBy(t, m.Payload, &m.Properties)
	if err != nil {
		t.drop(badTarget(t.rule), m.Payload, p.began, err)
		return nil
	}
	return one
}

// targetBy is a rule's part in a route for a message with this payload, as it came, and these properties,
// or why that has no target. Callers hold mu.
func (p *Path) targetBy(t *routeTarget, payload []byte, of *session.Properties) (*routeTarget, error) {
	if t.each == nil {
		return t, t.err
	}
	to, err := t.each.by.Of(payload, of)
	if err != nil {
		return t, err
	}
	return p.eachTarget(t, to), nil
}

// eachTarget is the part for one of the targets. Callers hold mu.
func (p *Path) eachTarget(t *routeTarget, to netip.AddrPort) *routeTarget {
	t.flush = p.flushes // it is used
	if one := t.each.targets[to]; one != nil {
		return one
	}
	p.topics.forgetUnused()
	one := &routeTarget{rule: t.rule, route: t.route}
	p.lead(one, to)
	p.topics.rememberEach(t, one)
	return one
}

// rememberEach keeps one more target of a topic that is remembered, if there is a place for it.
func (m *topics) rememberEach(t, one *routeTarget) {
	r, of := t.route, m.share(t.route)
	if m.routes[r.topic] != r {
		return
	}
	if len(t.each.targets) >= maxEach {
		for _, any := range t.each.targets {
			m.forgetEach(t, any)
			break
		}
	}
	if r.bytes+eachTargetCost > maxTopicBytes/4 || !m.makeRoom(of, eachTargetCost) || m.routes[r.topic] != r {
		return // it may have been forgotten for the room
	}
	if t.each.targets == nil {
		t.each.targets = make(map[netip.AddrPort]*routeTarget)
	}
	t.each.targets[one.flow.to] = one
	one.flow.topics++
	r.bytes += eachTargetCost
	of.bytes += eachTargetCost
	m.bytes += eachTargetCost
}

// forgetEach forgets a target of a topic.
func (m *topics) forgetEach(t, one *routeTarget) {
	of := m.share(t.route)
	delete(t.each.targets, one.flow.to)
	m.leave(one.flow)
	t.route.bytes -= eachTargetCost
	of.bytes -= eachTargetCost
	m.bytes -= eachTargetCost
}

// forget forgets all of them, with their topic; nil has none.
func (e *each) forget(m *topics) {
	if e == nil {
		return
	}
	for _, one := range e.targets {
		m.leave(one.flow)
	}
	e.targets = nil
}
