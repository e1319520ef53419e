package mapping

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// A Subscription is a filter to subscribe to, and its quality of service.
type Subscription struct {
	Filter string // as MQTT writes it, of a shared subscription $share/NAME/filter
	QoS    byte   // 0, 1 or 2

	// NoRetained reports whether none of the rules that it covers takes retained messages: with MQTT 5 they
	// need not come.
	NoRetained bool

	// NoLocal reports whether what we publish ourselves need not come by it, with MQTT 5; see Table.NoLocal.
	NoLocal bool

	// ID is not 0 where another filter of the set overlaps this one. A broker of MQTT 5 may deliver a
	// message that matches both once for each, and says by these which one a copy is for. It is made
	// of the filter, so that it is the same in the next table and the next process.
	ID uint32
}

// Subscriptions returns the smallest set of the rules' filters that covers all
// of them, sorted, each with the highest QoS of those it covers. So a message
// comes once, unless two filters of the set overlap; Warnings tells of those. own are filters of what
// we publish beside what the rules do, which is to come where a rule takes it.
func (t *Table) Subscriptions(own ...string) []Subscription {
	kept, qos, retained := t.covering()
	overlapping, noLocal := t.overlappingFilters(), t.noLocalOf(own)
	subscriptions := make([]Subscription, 0, len(kept))
	for _, rule := range kept {
		s := Subscription{Filter: t.send[rule].subscription(), QoS: qos[rule], NoRetained: !retained[rule], NoLocal: noLocal[rule]}
		if overlapping[rule] {
			s.ID = subscriptionID(s.Filter)
		}
		subscriptions = append(subscriptions, s)
	}
	slices.SortFunc(subscriptions, func(a, b Subscription) int { return cmp.Compare(a.Filter, b.Filter) })
	return subscriptions
}

// covering returns the rules whose filters no other filter covers, of equal filters the first rule; and
// by rule the highest QoS of what its filter covers, and whether any of that takes retained messages.
func (t *Table) covering() (kept []int, qos []byte, retained []bool) {
	qos, retained = make([]byte, len(t.send)), make([]bool, len(t.send))
	for i, rule := range t.send {
		covered := false
		t.trie.match(rule.Filter.mqtt, func(first int32) {
			covered = covered || int(first) != i
			qos[first] = max(qos[first], rule.QoS)
			retained[first] = retained[first] || rule.Retained != RetainedNever
		})
		if !covered {
			kept = append(kept, i)
		}
	}
	return kept, qos, retained
}

// maxOverlapping is how many overlapping filters have identifiers: each is asked for in a packet of
// its own, which takes a moment at each connect.
const maxOverlapping = 1000

// overlappingFilters are the rules whose filters are subscribed to and overlap another such one,
// the first maxOverlapping of them.
func (t *Table) overlappingFilters() map[int]bool {
	found := make(map[int]bool)
	set := t.wildcardSubscriptions()
	if len(set) < 2 {
		return found
	}
	steps := maxSteps
	seen := newTrie(len(set), 2*len(set))
	for i, rule := range set {
		filter := t.send[rule].Filter.mqtt
		seen.overlapping(filter, &steps, func(first int32) {
			if len(found) < maxOverlapping {
				found[set[first]], found[rule] = true, true
			}
		})
		seen.insert(filter, int32(i))
	}
	return found
}

// subscriptionID makes a Subscription Identifier of a filter, 1 to 268,435,455 (MQTT 5, 3.8.2.1.2).
func subscriptionID(filter string) uint32 {
	const most = 1<<28 - 1
	h := fnv.New32a()
	_, _ = h.Write([]byte(filter))
	return h.Sum32()%most + 1
}

// SubscriptionIDs gives for each send rule the identifiers of the subscriptions that cover it, in
// their order; none where there is but one and nothing overlaps it.
func (t *Table) SubscriptionIDs() [][]uint32 {
	ids := make([][]uint32, len(t.send))
	overlapping := t.overlappingFilters()
	if len(overlapping) == 0 {
		return ids
	}
	for i := range t.send {
		t.trie.match(t.send[i].Filter.mqtt, func(first int32) {
			if overlapping[int(first)] {
				ids[i] = append(ids[i], subscriptionID(t.send[first].subscription()))
			}
		})
	}
	return ids
}
