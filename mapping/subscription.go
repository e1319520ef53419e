package mapping

import (
	"cmp"
	"slices"
)

// A Subscription is a filter to subscribe to, and its quality of service.
type Subscription struct {
	Filter string // as MQTT writes it
	QoS    byte   // 0, 1 or 2
}

// Subscriptions returns the smallest set of the rules' filters that covers all
// of them, sorted, each with the highest QoS of those it covers. So a message
// comes once, unless two filters of the set overlap; Warnings tells of those.
func (t *Table) Subscriptions() []Subscription {
	kept, qos := t.covering()
	subscriptions := make([]Subscription, 0, len(kept))
	for _, rule := range kept {
		subscriptions = append(subscriptions, Subscription{t.send[rule].Filter.mqtt, qos[rule]})
	}
	slices.SortFunc(subscriptions, func(a, b Subscription) int { return cmp.Compare(a.Filter, b.Filter) })
	return subscriptions
}

// covering returns the rules whose filters no other filter covers, of equal
// filters the first rule; and by rule the highest QoS of what its filter covers.
func (t *Table) covering() (kept []int, qos []byte) {
	qos = make([]byte, len(t.send))
	for i, rule := range t.send {
		covered := false
		t.trie.match(rule.Filter.mqtt, func(first int32) {
			covered = covered || int(first) != i
			qos[first] = max(qos[first], rule.QoS)
		})
		if !covered {
			kept = append(kept, i)
		}
	}
	return kept, qos
}
