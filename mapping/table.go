package mapping

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// A Table is all rules compiled. It never changes, so any number of goroutines
// may use it.
type Table struct {
	send    []SendRule
	receive []ReceiveRule
	routes  []route // by rule
	trie    *trie   // of the rules' filters; the id is the rule
	loops   loops
	names   map[string]string // of interfaces: the kernel's, by others that rules use
	several bool              // a rule has several interfaces
	expansion
}

// A route is what Lookup needs of a rule, in one place.
type route struct {
	group    netip.AddrPort // if it is fixed
	template *template      // else
	captures []capture      // where the template's captures stand in the topic
	ipv6     bool
}

// A Target is where a message goes by one rule.
type Target struct {
	Rule int            // index in Table.Send
	To   netip.AddrPort // or the host; invalid if Err or ByPayload is set
	Err  error          // a *GroupError: the topic gives no target by this rule, drop(bad_group) or drop(bad_host)
	// ByPayload is set where each of the topic's messages has a target of its own.
	ByPayload *PayloadTarget
}

// Send returns the rules in the order they were given, each with its Name and
// its Binding.IPv6 filled in, and of a table for a host (On) with an instance for each of its
// interfaces. They are not to be changed.
func (t *Table) Send() []SendRule { return t.send }

// Receive returns the receive rules in the order they were given, each with its
// Name filled in, which its Topic knows, and with instances as Send. They are not to be changed.
func (t *Table) Receive() []ReceiveRule { return t.receive }

// canonical returns the kernel's name for an interface's, as far as it is known.
func (t *Table) canonical(name string) string {
	if k, other := t.names[name]; other {
		return k
	}
	return name
}

// Lookup appends to dst the targets of a topic, in the order of their rules.
//
// Its cost depends on the levels of the topic, not on the number of rules, and
// it allocates nothing unless dst grows or a target has an Err or ByPayload. It keeps
// nothing of topic.
func (t *Table) Lookup(topic string, dst []Target) []Target {
	if topic == "" {
		return dst
	}
	start := len(dst)
	t.trie.match(topic, func(first int32) {
		for rule := first; rule != none; rule = t.trie.next[rule] {
			dst = append(dst, Target{Rule: int(rule)})
		}
	})
	targets := dst[start:]
	slices.SortFunc(targets, func(a, b Target) int { return cmp.Compare(a.Rule, b.Rule) })
	for i := range targets {
		t.resolve(&targets[i], topic)
	}
	return dst
}

// resolve fills in the group that a topic goes to.
func (t *Table) resolve(target *Target, topic string) {
	r := &t.routes[target.Rule]
	if r.template == nil {
		target.To = r.group
		return
	}
	if len(r.template.payload) > 0 {
		p := &PayloadTarget{template: r.template, text: t.send[target.Rule].To().text, topic: strings.Clone(topic), ipv6: r.ipv6}
		for _, c := range r.captures {
			p.captures = append(p.captures, c.value(p.topic))
		}
		target.ByPayload = p
		return
	}
	var buffer [8]string
	values := buffer[:0]
	for _, c := range r.captures {
		values = append(values, c.value(topic))
	}
	group, err := r.template.expand(values, nil, nil, r.ipv6)
	target.To = group
	if err != nil {
		// The topic may lie in a buffer that the caller uses again.
		err.Group, err.Topic, err.Host = t.send[target.Rule].To().text, strings.Clone(topic), r.template.kind == hostTarget
		target.Err = err
	}
}
