package send

// What is remembered of topics is bounded in bytes, and shared by the rules: who makes up topics
// for one of them does not have those of others forgotten. What is forgotten is asked of the
// table again, message by message; nothing is lost by that.

const (
	// maxTopicBytes bounds what is remembered of topics, of all rules.
	maxTopicBytes = 16 << 20
	// maxTopicName is how long the topics are that are remembered.
	maxTopicName = 1 << 10
	// mostSpared is how many topics that were used are passed over for one that is forgotten.
	mostSpared = 1 << 10
	// maxUnused is how many flows are left that no topic remembered leads into.
	maxUnused = 1 << 10
)

// What a topic takes beside its name, each of its targets, and a target that the topic makes,
// with their places in maps and what the allocator rounds up to; rather more than less.
const (
	routeCost  = 144
	targetCost = 88
	flowCost   = 176
	errCost    = 192 // why there is no target, beside the name once more
)

// topics is what is remembered of topics. The path's mu guards it.
type topics struct {
	routes map[string]*route
	flows  map[flowKey]*flow
	bytes  int
	shares []*topicShare // that are not empty
	turn   int           // of which of them it was last asked whether it has more than its part

	unmatched topicShare // of topics that no rule matches
	unused    []*flow    // flows that had no topic, at least for a while
}

// topicShare is what one rule has of it: the topics of which it is the first rule. Of those the
// oldest is forgotten first, unless it was used since it was put in its place.
type topicShare struct {
	bytes          int
	number         int // its place in shares, from 1; 0: it is empty
	oldest, newest *route
}

func newTopics() topics {
	return topics{routes: make(map[string]*route), flows: make(map[flowKey]*flow)}
}

// share is the share that a route counts in.
func (m *topics) share(r *route) *topicShare {
	if len(r.targets) == 0 {
		return &m.unmatched
	}
	return &r.targets[0].rule.topics
}

// cost is what a route takes.
func (r *route) cost() int {
	n := routeCost + len(r.topic)
	for i := range r.targets {
		n += targetCost
		if when := r.targets[i].when; when != nil {
			n += when.cost()
		}
		switch t := &r.targets[i]; {
		case t.each != nil:
			n += eachCost // and each target that it comes to have (each.go)
		case t.flow == nil:
			n += errCost + len(r.topic)
		case t.rule.makesTargets:
			n += flowCost
		}
	}
	return n
}

// used is when a route led somewhere last: the number of a flush.
func (r *route) used() uint64 {
	if len(r.targets) == 0 {
		return 0
	}
	return r.targets[0].flush // of a rule by whose payload there are several targets: of any of them
}

// remember keeps a route, if there is a place for it.
func (m *topics) remember(r *route) {
	of, cost := m.share(r), r.cost()
	if len(r.topic) > maxTopicName || cost > maxTopicBytes/4 || !m.makeRoom(of, cost) {
		return
	}
	if of.number == 0 {
		m.shares = append(m.shares, of)
		of.number = len(m.shares)
	}
	of.push(r)
	r.bytes = cost
	of.bytes += cost
	m.bytes += cost
	m.routes[r.topic] = r
	for i := range r.targets {
		if f := r.targets[i].flow; f != nil {
			f.topics++
		}
	}
}

// makeRoom forgets topics until there is room for one more of a rule: first those of this very rule,
// where it has more than its part, else those of another that has.
func (m *topics) makeRoom(of *topicShare, cost int) bool {
	for m.bytes+cost > maxTopicBytes {
		n := len(m.shares)
		if of.number == 0 {
			n++
		}
		from, part := of, maxTopicBytes/n
		if of.number == 0 || of.bytes+cost <= part {
			from = m.beyond(part)
		}
		if from == nil {
			return false
		}
		m.forget(from)
	}
	return true
}

// beyond is a rule that has more than that; nil: none has.
func (m *topics) beyond(part int) *topicShare {
	for range m.shares {
		m.turn %= len(m.shares)
		if of := m.shares[m.turn]; of.bytes > part {
			return of
		}
		m.turn++
	}
	return nil
}

// forget forgets a topic.
func (m *topics) forget(of *topicShare) {
	r := of.pop()
	for range mostSpared {
		used := r.used()
		if used <= r.seen {
			break
		}
		r.seen = used
		of.push(r)
		r = of.pop()
	}
	of.bytes -= r.bytes
	m.bytes -= r.bytes
	delete(m.routes, r.topic)
	for i := range r.targets {
		if f := r.targets[i].flow; f != nil {
			m.leave(f)
		}
		r.targets[i].each.forget(m)
	}
	if of.oldest == nil {
		last := m.shares[len(m.shares)-1]
		m.shares[of.number-1], last.number = last, of.number
		m.shares, of.number = m.shares[:len(m.shares)-1], 0
	}
}

// leave notes that a topic leads into a flow no more.
func (m *topics) leave(f *flow) {
	if f.topics--; f.topics == 0 {
		m.unused = append(m.unused, f)
	}
}

func (of *topicShare) push(r *route) {
	if of.oldest == nil {
		of.oldest = r
	} else {
		of.newest.next = r
	}
	of.newest = r
}

func (of *topicShare) pop() (r *route) {
	r = of.oldest
	of.oldest, r.next = r.next, nil
	if of.oldest == nil {
		of.newest = nil
	}
	return r
}

// flow is what goes to a target through a binding.
func (m *topics) flow(k flowKey) *flow {
	f := m.flows[k]
	if f == nil {
		f = &flow{to: k.to, binding: k.binding}
		m.flows[k] = f
		m.unused = append(m.unused, f) // until its topic is remembered
	}
	return f
}

// forgetUnused forgets flows that no topic leads into, where they are many. What was gathered
// into one leaves before what another one to the same target is given.
func (m *topics) forgetUnused() {
	if len(m.unused) < maxUnused {
		return
	}
	for _, f := range m.unused {
		if f.topics == 0 {
			delete(m.flows, flowKey{f.to, f.binding})
		}
	}
	m.unused = m.unused[:0]
}
