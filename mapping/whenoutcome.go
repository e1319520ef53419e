package mapping

import "math"

// What a condition can come to, whatever the payload, by the ranges of what it compares: size < 0
// never is, and u8@0 <= 255 always is where there is a byte. Two comparisons with one value are not
// seen together.

// outcomes is a set of truths.
type outcomes uint8

func (o outcomes) has(t truth) bool { return o&(1<<t) != 0 }

func (o outcomes) with(t truth, can bool) outcomes {
	if can {
		o |= 1 << t
	}
	return o
}

// anyOutcome is that of what nothing is known of.
const anyOutcome = outcomes(1<<neither | 1<<no | 1<<yes)

// Never reports whether no payload satisfies the condition.
func (c *condition) Never() bool { return c != nil && !c.outcomes(int32(len(c.nodes)-1)).has(yes) }

// Always reports whether every payload satisfies it.
func (c *condition) Always() bool {
	return c != nil && c.outcomes(int32(len(c.nodes)-1)) == outcomes(0).with(yes, true)
}

// outcomes returns what a part can come to.
func (c *condition) outcomes(at int32) (all outcomes) {
	n := &c.nodes[at]
	switch n.op {
	case nodeNot:
		in := c.outcomes(n.left)
		return all.with(neither, in.has(neither)).with(no, in.has(yes)).with(yes, in.has(no))
	case nodeAnd, nodeOr:
		a, b := c.outcomes(n.left), c.outcomes(n.right)
		for _, l := range []truth{neither, no, yes} {
			for _, r := range []truth{neither, no, yes} {
				all = all.with(n.op.join(l, r), a.has(l) && b.has(r))
			}
		}
		return all
	case nodeEqual, nodeUnequal, nodeLess, nodeAtMost, nodeMore, nodeAtLeast:
		a, b := c.span(n.left), c.span(n.right)
		if !a.known || !b.known {
			return anyOutcome
		}
		less, more := a.low.compare(b.high) < 0, a.high.compare(b.low) > 0
		equal := a.low.compare(b.high) <= 0 && a.high.compare(b.low) >= 0
		order := []struct {
			can  bool
			sign int
		}{{less, -1}, {equal, 0}, {more, 1}}
		for _, o := range order {
			all = all.with(truthOf(n.op.holds(o.sign)), o.can)
		}
		return all.with(neither, a.absent || b.absent)
	}
	return anyOutcome
}

// join is what && or || makes of two truths.
func (op nodeOp) join(left, right truth) truth {
	decided := no // by one side alone
	if op == nodeOr {
		decided = yes
	}
	switch {
	case left == decided || right == decided:
		return decided
	case left == neither || right == neither:
		return neither
	}
	return left
}

// holds reports whether a comparison of numbers does: order is that of its sides.
func (op nodeOp) holds(order int) bool {
	switch op {
	case nodeEqual:
		return order == 0
	case nodeUnequal:
		return order != 0
	case nodeLess:
		return order < 0
	case nodeAtMost:
		return order <= 0
	case nodeMore:
		return order > 0
	}
	return order >= 0
}

// A span is what a number can be.
type span struct {
	known     bool
	absent    bool // it need not be there
	low, high numeric
}

// maxMessage is the most bytes of a message of MQTT.
const maxMessage = 256<<20 - 1

func (c *condition) span(at int32) span {
	switch n := &c.nodes[at]; {
	case n.op == nodeNumber:
		return span{known: true, low: n.number, high: n.number}
	case n.op == nodeSize:
		return span{known: true, high: unsigned(maxMessage)}
	case n.op == nodeExtract && n.extract.kind == extractNumber:
		bits := 8 * n.extract.length
		if n.extract.signed {
			return span{known: true, absent: true, low: numeric{i: math.MinInt64 >> (64 - bits)}, high: numeric{i: math.MaxInt64 >> (64 - bits)}}
		}
		return span{known: true, absent: true, high: unsigned(math.MaxUint64 >> (64 - bits))}
	}
	return span{}
}
