package mapping

import (
	"slices"
	"strings"
)

// A trie holds filters, each under an id, as a tree of their levels.
//
// It is a tree: a topic or filter walked through it may branch at every +, but
// reaches each node over one path only. So no walk takes more steps than there
// are nodes, however many levels a topic has, and a topic ends its walk at the
// first level that no filter has.
type trie struct {
	nodes []node
	edges edges   // the literal children that have siblings
	next  []int32 // by id: the next id with the same filter, or none
}

// A node stands for the levels on the way to it. Its fields are ids of filters
// and indexes of nodes, or none.
type node struct {
	end     int32 // the first filter that ends here
	rest    int32 // the first filter that has only # left
	plus    int32 // the child for +
	child   int32 // the first literal child
	sibling int32 // the next literal child of the parent
	parent  int32
	level   string
}

const none int32 = -1

// The roots. Filters and topics that begin with $ have a tree of their own,
// since a wildcard at the first level does not match them [MQTT-4.7.2-1].
const (
	plainRoot int32 = iota
	dollarRoot
)

// newTrie returns a trie for filters with ids from 0 to size-1, and with room for
// so many levels in which they differ.
func newTrie(size, levels int) *trie {
	t := &trie{next: make([]int32, size), nodes: make([]node, 0, dollarRoot+1+int32(levels))}
	t.add(none, "") // plainRoot
	t.add(none, "") // dollarRoot
	return t
}

// trieOf returns a trie of filters, whose ids are their indexes; of equal ones
// the first comes first. It takes no more memory than it needs.
func trieOf(filters []SendRule) *trie {
	levels := 0
	for i := range filters {
		levels += 1 + strings.Count(filters[i].Filter.mqtt, "/")
	}
	t := newTrie(len(filters), levels) // if no two had a level in common
	for i := len(filters) - 1; i >= 0; i-- {
		t.insert(filters[i].Filter.mqtt, int32(i))
	}
	t.nodes = slices.Clone(t.nodes)
	return t
}

func (t *trie) add(parent int32, level string) int32 {
	t.nodes = append(t.nodes, node{none, none, none, none, none, parent, level})
	return int32(len(t.nodes) - 1)
}

func root(s string) int32 {
	if strings.HasPrefix(s, "$") {
		return dollarRoot
	}
	return plainRoot
}

// insert adds a filter. Of equal filters the one inserted last comes first.
func (t *trie) insert(filter string, id int32) {
	at := root(filter)
	rest, more := filter, true
	for more && rest != "#" {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		at = t.childFor(at, level)
	}
	first := &t.nodes[at].end
	if more {
		first = &t.nodes[at].rest
	}
	t.next[id], *first = *first, id
}

// childFor returns a node's child for a level, making it where it is new.
func (t *trie) childFor(parent int32, level string) int32 {
	if level == "+" {
		if t.nodes[parent].plus == none {
			plus := t.add(parent, level) // may move the nodes
			t.nodes[parent].plus = plus
		}
		return t.nodes[parent].plus
	}
	if child := t.literal(parent, level); child != none {
		return child
	}
	child, first := t.add(parent, level), t.nodes[parent].child
	t.nodes[child].sibling, t.nodes[parent].child = first, child
	if first != none {
		if t.nodes[first].sibling == none {
			t.edges.add(t.nodes, first) // no only child any more
		}
		t.edges.add(t.nodes, child)
	}
	return child
}

// literal returns a node's literal child for a level, or none.
func (t *trie) literal(parent int32, level string) int32 {
	only := t.nodes[parent].child
	if only == none {
		return none
	}
	if n := &t.nodes[only]; n.sibling == none {
		if n.level == level {
			return only
		}
		return none
	}
	return t.edges.find(t.nodes, parent, level)
}

// match calls found for each filter that covers s, a topic or a filter, and of
// equal filters for the first.
func (t *trie) match(s string, found func(first int32)) {
	t.matchFrom(root(s), s, true, found)
}

func (t *trie) matchFrom(at int32, rest string, more bool, found func(first int32)) {
	for {
		n := &t.nodes[at]
		if n.rest != none {
			found(n.rest) // also at the end: "sport/#" matches "sport" [MQTT-4.7.1-2]
		}
		if !more {
			if n.end != none {
				found(n.end)
			}
			return
		}
		if rest == "#" {
			return // a # that s ends in is covered by a # alone
		}
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := t.literal(at, level)
		switch {
		case child == none && n.plus == none:
			return
		case child == none:
			at = n.plus
		case n.plus == none:
			at = child
		default:
			t.matchFrom(n.plus, rest, more, found)
			at = child
		}
	}
}

// overlapping calls found for each filter that overlaps the given one or pattern, and of
// equal filters for the first, until found or the count of steps ends it.
func (t *trie) overlapping(filter string, steps *int, found func(first int32)) {
	t.overlappingFrom(root(filter), filter, true, steps, found)
}

func (t *trie) overlappingFrom(at int32, rest string, more bool, steps *int, found func(first int32)) {
	if at == none || *steps <= 0 {
		return
	}
	*steps--
	n := &t.nodes[at]
	if n.rest != none {
		found(n.rest)
	}
	whole := more && rest == "#" // all below overlaps it
	if n.end != none && (!more || whole) {
		found(n.end)
	}
	if !more {
		return
	}
	level, tail := "#", rest
	if !whole {
		level, tail, more = strings.Cut(rest, "/")
	}
	t.overlappingFrom(n.plus, tail, more, steps, found)
	if level != "+" && level != "#" && level != unknownAddress && level != unknownNumber {
		t.overlappingFrom(t.literal(at, level), tail, more, steps, found)
		return
	}
	for child := n.child; child != none && *steps > 0; child = t.nodes[child].sibling {
		if *steps--; level == "#" || mayBe(level, t.nodes[child].level) {
			t.overlappingFrom(child, tail, more, steps, found)
		}
	}
}
