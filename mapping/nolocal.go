package mapping

// With No Local (MQTT 5, section 3.8.3.1) a broker does not hand a client its own messages by a
// subscription. Where all that we publish for the filter would only be sent to where it has just come
// from, that is what the loop guard is there for, and the broker can leave it out: nothing has to be
// remembered, and nothing that is alike is taken for it. Where one rule is to send what another one
// publishes, as from one group to another, the messages must come.

// NoLocal reports of each send rule whether all that this table publishes for its filter is such: whether
// Subscription.NoLocal is set for all that cover it. own are filters of what we publish besides.
func (t *Table) NoLocal(own ...string) []bool {
	all := make([]bool, len(t.send))
	if len(t.receive) == 0 || len(t.send) == 0 {
		return all
	}
	back, on, known := t.backAndOn(own)
	if !known {
		return all
	}
	// A subscription brings what all rules need that it covers.
	need := make([]bool, len(t.send))
	for i := range t.send {
		t.trie.match(t.send[i].Filter.mqtt, func(first int32) { need[first] = need[first] || on[i] || t.send[i].Share != "" })
	}
	for i := range t.send {
		may := back[i]
		t.trie.match(t.send[i].Filter.mqtt, func(first int32) { may = may && !need[first] })
		all[i] = may
	}
	return all
}

// backAndOn are the send rules that something of ours would come back by only to where it came from, and those that it
// goes on by, unless that takes too long to find out.
func (t *Table) backAndOn(own []string) (back, on []bool, known bool) {
	back, on = make([]bool, len(t.send)), make([]bool, len(t.send))
	steps := maxSteps
	seen := make(map[string][]int32) // filters by pattern
	matched := func(topics string) []int32 {
		rules, known := seen[topics]
		if !known {
			t.trie.overlapping(topics, &steps, func(first int32) {
				for rule := first; rule != none; rule = t.trie.next[rule] {
					steps--
					rules = append(rules, rule)
				}
			})
			seen[topics] = rules
		}
		return rules
	}
	for i := range t.receive {
		r := &t.receive[i]
		for _, s := range matched(pattern(r.Topic.fill(r.interfaceName()))) {
			if t.returnsTo(int(s), r) {
				back[s] = true
			} else {
				on[s] = true
			}
		}
	}
	for i := range t.send {
		r := &t.send[i]
		if r.Answer == nil {
			continue
		}
		for _, topic := range []*AnswerTopic{&r.Answer.Topic, &r.Answer.None} {
			if !topic.IsZero() {
				for _, s := range matched(topic.pattern(r.Binding.Interface)) {
					on[s] = true
				}
			}
		}
	}
	for _, filter := range own {
		for _, s := range matched(filter) {
			on[s] = true
		}
	}
	return back, on, steps > 0
}

// noLocalOf is the same by subscription: of those that no other covers, by their first rule.
func (t *Table) noLocalOf(own []string) map[int]bool {
	of := make(map[int]bool)
	for i, may := range t.NoLocal(own...) {
		if may {
			t.trie.match(t.send[i].Filter.mqtt, func(first int32) { of[int(first)] = true })
		}
	}
	return of
}

// returnsTo reports whether a send rule sends to the one group that a receive rule listens to, by the
// interface where it does.
func (t *Table) returnsTo(send int, r *ReceiveRule) bool {
	if len(r.Groups) != 1 || r.Port != 0 || r.Groups[0].First != r.Groups[0].Last {
		return false
	}
	to, g := &t.routes[send], r.Groups[0]
	out, in := t.outOf(send), t.canonical(r.interfaceName())
	return to.template == nil && to.group.Addr() == g.First && to.group.Port() == g.Port && in != "" && out == in
}
