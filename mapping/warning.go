package mapping

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Warning is something legal that is probably not what was meant.
type Warning struct {
	Path string // of the field as in the configuration: "send[3].filter"
	Text string
}

const (
	// maxWarnings is how many warnings of one kind are spelt out.
	maxWarnings = 20
	// maxSteps bounds the search for overlaps, of which n filters can have n²/2.
	// 100,000 filters without any take a tenth of it.
	maxSteps = 1 << 22
)

// Warnings returns what is worth a second look: filters that overlap in part,
// datagrams that leave or are published twice, groups that reach less far than
// their ttl says or are heard less often than it seems, and rules that may feed
// each other.
func (t *Table) Warnings() []Warning {
	return byConfiguration(slices.Concat(
		t.overlaps("filters that overlap", [][]int{t.wildcardSubscriptions()}, t.partialOverlap),
		t.overlaps("rules that send the same", t.sameOutcome(), t.duplicate),
		t.reach(),
		t.sourceSpecific(),
		t.heardTwice(),
		t.manyTopics(),
		t.deletions(),
		t.nothingMerged(),
		t.cycles(),
		t.refreshedLoops(),
		t.withoutEffect(),
	))
}

// partialOverlap warns of two subscriptions. Neither covers the other, else
// one would not be subscribed to.
func (t *Table) partialOverlap(earlier, later int) Warning {
	return Warning{t.sendAt(later).path("filter"), fmt.Sprintf(
		"%s overlaps %s of send[%d], and neither covers the other: a broker of MQTT 3.1.1, or of MQTT 5 without Subscription Identifiers, may deliver a message that matches both once for each [MQTT-3.3.5-1], and then it leaves twice",
		t.send[later].Filter, t.send[earlier].Filter, t.SendPlace(earlier))}
}

// duplicate warns of two rules with the same outcome and overlapping filters.
func (t *Table) duplicate(earlier, later int) Warning {
	return Warning{t.sendAt(later).path(t.send[later].To().kind.String()), fmt.Sprintf(
		"send[%d] sends to %s from the same binding too: a message that matches both %s and %s leaves twice",
		t.SendPlace(earlier), t.send[later].To(), t.send[earlier].Filter, t.send[later].Filter)}
}

// wildcardSubscriptions are the rules whose filters are subscribed to and have a
// wildcard. Only those overlap each other: what overlaps a single topic covers it.
func (t *Table) wildcardSubscriptions() (kept []int) {
	for i := range t.send {
		filter := t.send[i].Filter.mqtt
		if !strings.ContainsAny(filter, "+#") {
			continue
		}
		covered := false
		t.trie.match(filter, func(first int32) { covered = covered || int(first) != i })
		if !covered {
			kept = append(kept, i)
		}
	}
	return kept
}

// sameOutcome gathers the rules that make the same datagram of a message.
func (t *Table) sameOutcome() [][]int {
	type outcome struct {
		binding  int
		payload  string
		group    netip.AddrPort // however it was written
		template *template      // where it is none; of equal ones there is but one
		captures string         // the levels that the group's captures take
		when     string
		prefix   string
		suffix   string
	}
	bindings := make(map[Binding]int)
	number := make(map[outcome]int, len(t.send))
	rules := make([][]int, 0, len(t.send))
	single := make([]int, len(t.send)) // the memory of the many sets of one
	for i := range t.send {
		r, rt := &t.send[i], &t.routes[i]
		leaves := r.Binding
		leaves.Answers = ""
		binding, known := bindings[leaves]
		if !known {
			binding = len(bindings)
			bindings[leaves] = binding
		}
		o := outcome{binding: binding, payload: r.Payload.String(), prefix: r.Prefix.Bytes(), suffix: r.Suffix.Bytes(), when: r.When.String(), group: rt.group, template: rt.template}
		for _, c := range rt.captures {
			o.captures += fmt.Sprint(c.level, c.multi, " ")
		}
		if n, known := number[o]; known {
			rules[n] = append(rules[n], i)
			continue
		}
		number[o] = len(rules)
		single[i] = i
		rules = append(rules, single[i:i+1:i+1])
	}
	return rules
}

// overlaps warns of the pairs of rules with overlapping filters within each of
// the sets: of the first ones each, of the others by their number.
func (t *Table) overlaps(what string, sets [][]int, warning func(earlier, later int) Warning) []Warning {
	var warnings []Warning
	count, steps := 0, maxSteps
	for _, set := range sets {
		if len(set) <= 1 {
			continue
		}
		seen := newTrie(len(set), 2*len(set)) // a guess; there may be more
		for i, rule := range set {
			filter := t.send[rule].Filter.mqtt
			seen.overlapping(filter, &steps, func(first int32) {
				for other := first; other != none; other = seen.next[other] {
					steps--
					if count++; count <= maxWarnings {
						warnings = append(warnings, warning(set[other], rule))
					}
				}
			})
			seen.insert(filter, int32(i))
		}
	}
	switch {
	case steps <= 0:
		warnings = append(warnings, Warning{"send", fmt.Sprintf("%d pairs of %s found, then the search was cut short", count, what)})
	case count > maxWarnings:
		warnings = append(warnings, Warning{"send", fmt.Sprintf("%d more pairs of %s", count-maxWarnings, what)})
	}
	return warnings
}

// reach warns of groups that reach less far than the rule seems to expect.
func (t *Table) reach() []Warning {
	var warnings []Warning
	count := 0
	for i, r := range t.send {
		var w Warning
		switch {
		case r.Group.IsZero() || !r.Group.linkLocal():
			continue
		case r.Group.ipv6 && scope(toAddr(r.Group.address, true)) == 1:
			w = Warning{t.sendAt(i).path("group"), fmt.Sprintf("%s has scope 1, which never leaves this host (RFC 4291 2.7)", r.Group)}
		case r.Binding.TTL == 255:
			// What never leaves the link is often sent with 255, so that a receiver can
			// tell that it comes from there (RFC 5082): multicast DNS (RFC 6762, 11) and
			// VRRP (RFC 5798, 5.1.1.3) require it.
			continue
		case r.Binding.TTL > 1:
			w = Warning{t.sendAt(i).path("ttl"), fmt.Sprintf("routers never forward %s (%s), so a ttl of %d reaches no further than 1", r.Group, linkLocalRange(r.Binding.IPv6), r.Binding.TTL)}
		default:
			continue
		}
		if count++; count <= maxWarnings {
			warnings = append(warnings, w)
		}
	}
	if count > maxWarnings {
		warnings = append(warnings, Warning{"send", fmt.Sprintf("%d more groups that stay on their link", count-maxWarnings)})
	}
	return warnings
}
