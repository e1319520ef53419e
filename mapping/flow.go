package mapping

import "net/netip"

// A flow is where that what comes in may go on to. The nodes of its graph are the
// receive rules, then the send rules, then
//
//	targets    where send rules send to: from these, to the receive rules that hear it
//	patterns   what receive rules publish on: from these, to the send rules that match it
//
// Equal targets and patterns are one node, so that a thousand rules on either side
// are not a million edges. Send rules that nobody hears have no edges.
type flow struct {
	table *Table
	graph graph
	steps int    // left for the search
	fed   []bool // by receive rule: it hears a send rule
}

// A target is where a send rule sends to, as far as the rule tells.
type target struct {
	group    netip.AddrPort // if it is fixed
	template *template      // else
	ipv6     bool
	iface    string // "": only the host can tell
}

func newFlow(t *Table) *flow {
	f := &flow{
		table: t,
		graph: make(graph, len(t.receive)+len(t.send)),
		steps: maxSteps,
		fed:   make([]bool, len(t.receive)),
	}
	if len(t.receive) > 0 && len(t.send) > 0 {
		f.addPatterns(f.addTargets())
	}
	return f
}

// sends returns the node of a send rule.
func (f *flow) sends(rule int) int32 { return int32(len(f.table.receive) + rule) }

// addTargets adds the edges from send rules to receive rules. It returns the
// filters of those that have one, or nil.
func (f *flow) addTargets() (filters *trie) {
	t := f.table
	all := newGroupIndex(t.receive)
	names := make([]string, len(t.receive))
	for i := range names {
		names[i] = t.canonical(t.receive[i].interfaceName())
	}
	nodes := make(map[target]int32)
	for i := range t.send {
		to := target{t.routes[i].group, t.routes[i].template, t.routes[i].ipv6, t.outOf(i)}
		node, known := nodes[to]
		if !known {
			node = f.addTarget(all.find(t.routes[i].reach(), &f.steps), to.iface, names)
			nodes[to] = node
		}
		if node == none {
			continue
		}
		if filters == nil {
			filters = newTrie(len(t.send), 0)
		}
		filters.insert(t.send[i].Filter.mqtt, int32(i))
		f.graph[f.sends(i)] = []int32{node}
	}
	return filters
}

// addTarget adds the node of a target, if any of the receive rules, which listen
// to its groups, may be where its interface leads to.
func (f *flow) addTarget(rules []int32, iface string, names []string) (node int32) {
	node = none
	for _, rule := range rules {
		if iface != "" && names[rule] != "" && iface != names[rule] {
			continue
		}
		if node == none {
			node = f.graph.add()
		}
		f.fed[rule] = true
		f.graph[node] = append(f.graph[node], rule)
	}
	return node
}

// addPatterns adds the edges from the receive rules that hear a send rule to the
// send rules with one of the filters, which may be nil for none.
func (f *flow) addPatterns(filters *trie) {
	if filters == nil {
		return
	}
	nodes := make(map[string]int32)
	for i := range f.table.receive {
		if !f.fed[i] {
			continue
		}
		r := &f.table.receive[i]
		topics := pattern(r.Topic.fill(r.interfaceName()))
		node, known := nodes[topics]
		if !known {
			node = f.graph.add()
			nodes[topics] = node
			filters.overlapping(topics, &f.steps, func(first int32) {
				for rule := first; rule != none; rule = filters.next[rule] {
					f.steps--
					f.graph[node] = append(f.graph[node], f.sends(int(rule)))
				}
			})
		}
		f.graph[i] = []int32{node}
	}
}
