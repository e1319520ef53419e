package mapping

import (
	"fmt"
	"slices"
	"strings"
)

// Both directions at once may feed each other: a receive rule publishes on a
// topic, a send rule's filter matches it, and its group is one that the receive
// rule hears. With two bridges between one broker and one network a single
// datagram then goes round for ever. A cycle may lead through any number of rules.
//
// Whether rules are on a cycle is decided here from the rules alone, and on the
// safe side: what only a datagram or a topic decides may be anything.

// loops are the rules on a cycle.
type loops struct {
	receive, send []bool // by rule
	unknown       bool   // the search was cut short, so every rule counts as on one
}

// ReceiveLoops reports whether receive rule i is on a cycle: whether what it
// publishes may be sent to a group, by this bridge or one like it, and come back
// to it.
func (t *Table) ReceiveLoops(i int) bool { return t.loops.unknown || t.loops.receive[i] }

// SendLoops reports whether send rule i is on a cycle.
func (t *Table) SendLoops(i int) bool { return t.loops.unknown || t.loops.send[i] }

func findLoops(t *Table) loops {
	f := newFlow(t)
	cyclic := f.graph.cyclic()
	receive, rest := cyclic[:len(t.receive)], cyclic[len(t.receive):]
	return loops{receive: receive, send: rest[:len(t.send)], unknown: f.steps <= 0}
}

// cycles warns of the rules that may feed each other, by a shortest cycle through
// each receive rule that is on one, unless one shown already leads through it.
func (t *Table) cycles() []Warning {
	if t.loops.unknown {
		return []Warning{{"receive", "the search for rules that may feed each other was cut short, so all are taken for such: the loop guard works on every message"}}
	}
	first := slices.Index(t.loops.receive, true)
	if first < 0 {
		return nil
	}
	f := newFlow(t)
	var warnings []Warning
	shown, count := make([]bool, len(t.receive)), 0
	for i := first; i < len(t.receive); i++ {
		if !t.loops.receive[i] || shown[i] {
			continue
		}
		if len(warnings) == maxWarnings {
			count++
			continue
		}
		cycle := f.graph.cycle(int32(i))
		for _, node := range cycle {
			if int(node) < len(t.receive) {
				shown[node] = true
			}
		}
		warnings = append(warnings, Warning{t.receiveAt(i).path("topic"), t.cycleText(cycle)})
	}
	if count > 0 {
		warnings = append(warnings, Warning{"receive", fmt.Sprintf("%d more rules that may feed each other", count)})
	}
	return warnings
}

// cycleText tells of a cycle that begins with a receive rule.
func (t *Table) cycleText(cycle []int32) string {
	var b strings.Builder
	for _, node := range append(cycle, cycle[0]) {
		rule := int(node)
		switch send := rule - len(t.receive); {
		case send < 0 && b.Len() == 0:
			fmt.Fprintf(&b, "receive[%d] publishes on %s", t.ReceivePlace(rule), t.receive[rule].Topic)
		case send < 0 && node == cycle[0]:
			fmt.Fprintf(&b, ", which receive[%d] hears", t.ReceivePlace(rule))
		case send < 0:
			fmt.Fprintf(&b, ", which receive[%d] hears and publishes on %s", t.ReceivePlace(rule), t.receive[rule].Topic)
		case send < len(t.send):
			fmt.Fprintf(&b, ", which send[%d] sends to %s", t.SendPlace(send), t.send[send].To())
		} // the others stand for what lies between
	}
	return b.String() + ": the loop guard keeps them from feeding each other; it is better to let each direction have topics of its own"
}
