package mapping

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// An evaluation is what a condition is decided for.
type evaluation struct {
	payload  []byte
	topic    []byte     // of a message
	captures [][]byte   // likewise, as the condition names them
	of       Properties // likewise; nil: it has none
	datagram bool
	arrival  Arrival // of a datagram; a copy, so that the caller's stays on its stack
	rule     string  // likewise, the rule's name
	document truth   // the payload is JSON, as far as that was asked
	a, b     [128]byte
}

// A truth is what a condition comes to.
type truth uint8

const (
	neither truth = iota // a value that decides it is not there
	no
	yes
)

func truthOf(is bool) truth {
	if is {
		return yes
	}
	return no
}

// decide reports whether the condition is satisfied.
func (c *condition) decide(e *evaluation) bool { return c.truth(e, int32(len(c.nodes)-1)) == yes }

// truth is what a condition's part comes to.
func (c *condition) truth(e *evaluation, at int32) truth {
	n := &c.nodes[at]
	switch n.op {
	case nodeNot:
		switch c.truth(e, n.left) {
		case yes:
			return no
		case no:
			return yes
		}
		return neither
	case nodeAnd, nodeOr:
		decided := no // by one side alone
		if n.op == nodeOr {
			decided = yes
		}
		left := c.truth(e, n.left)
		if left == decided {
			return decided
		}
		if right := c.truth(e, n.right); right == decided || left != neither {
			return right
		}
		return neither
	case nodeHas:
		return truthOf(c.has(e, n.left))
	case nodeEqualText, nodeUnequalText, nodeContains, nodeBegins, nodeEnds:
		return c.compareTexts(e, n)
	}
	a, ok := c.number(e, n.left)
	if !ok {
		return neither
	}
	b, ok := c.number(e, n.right)
	if !ok {
		return neither
	}
	return truthOf(n.op.holds(a.compare(b)))
}

func (c *condition) compareTexts(e *evaluation, n *whenNode) truth {
	a, ok := c.bytes(e, n.left, e.a[:0])
	if !ok {
		return neither
	}
	b, ok := c.bytes(e, n.right, e.b[:0])
	if !ok {
		return neither
	}
	switch n.op {
	case nodeEqualText:
		return truthOf(bytes.Equal(a, b))
	case nodeUnequalText:
		return truthOf(!bytes.Equal(a, b))
	case nodeContains:
		return truthOf(bytes.Contains(a, b))
	case nodeBegins:
		return truthOf(bytes.HasPrefix(a, b))
	}
	return truthOf(bytes.HasSuffix(a, b))
}

// has reports whether a value is there.
func (c *condition) has(e *evaluation, at int32) bool {
	n := &c.nodes[at]
	switch n.op {
	case nodeArithmetic:
		_, ok := c.number(e, at)
		return ok
	case nodeExtract:
		switch {
		case n.extract.isProperty():
			_, ok := n.extract.property(e.of)
			return ok
		case n.extract.kind == extractJSON:
			_, ok := e.field(n.extract)
			return ok
		}
		return n.extract.within(e.payload) != nil
	}
	return true
}

// field finds a field of the payload's document.
func (e *evaluation) field(x *extract) ([]byte, bool) {
	if e.document == neither {
		e.document = truthOf(json.Valid(e.payload))
	}
	if e.document == no {
		return nil, false
	}
	value, lack := stepJSON(e.payload, x.pointer)
	return value, lack.why == lackNothing
}

// number is what a node comes to as a number; ok is false where there is none.
func (c *condition) number(e *evaluation, at int32) (v numeric, ok bool) {
	n := &c.nodes[at]
	switch n.op {
	case nodeNumber:
		return n.number, true
	case nodeSize:
		return numeric{i: int64(len(e.payload))}, true
	case nodeArithmetic:
		a, ok := c.number(e, n.left)
		if !ok || a.kind != numInteger {
			return v, false
		}
		b, ok := c.number(e, n.right)
		if !ok || b.kind != numInteger {
			return v, false
		}
		i, trouble := apply(n.arith, a.i, b.i)
		return numeric{i: i}, trouble == ""
	case nodeName:
		if !e.datagram {
			i, ok := number(e.captures[n.name])
			return numeric{i: i}, ok
		}
		operands := e.arrival.operands()
		return numeric{i: operands[n.name].value}, true
	}
	if n.extract.kind == extractNumber {
		b := n.extract.within(e.payload)
		if b == nil {
			return v, false
		}
		return n.extract.integer(b), true
	}
	text, ok := c.bytes(e, at, e.a[:0])
	if !ok {
		return v, false
	}
	return readNumber(text)
}

// bytes is what a node comes to as a text, in buffer or elsewhere; ok is false where there is none.
func (c *condition) bytes(e *evaluation, at int32, buffer []byte) (text []byte, ok bool) {
	n := &c.nodes[at]
	switch n.op {
	case nodeText:
		return n.text, true
	case nodePayload:
		return e.payload, true
	case nodeTopic:
		return e.topic, true
	case nodeName:
		return e.name(n.name, buffer), true
	}
	x := n.extract
	if x.isProperty() {
		return x.property(e.of)
	}
	if x.kind != extractJSON {
		b := x.within(e.payload)
		if x.kind == extractText {
			b = trimFill(b)
		}
		return b, b != nil
	}
	value, ok := e.field(x)
	if !ok || value[0] != '"' {
		return value, ok
	}
	text, err := unquote(buffer, value)
	return text, err == nil
}

// name is what a name stands for, as a text.
func (e *evaluation) name(i int, buffer []byte) []byte {
	if !e.datagram {
		return e.captures[i]
	}
	switch datum(i) {
	case datumGroup:
		return e.arrival.To.Addr().WithZone("").AppendTo(buffer)
	case datumSource:
		return e.arrival.Source.Addr().WithZone("").AppendTo(buffer)
	case datumInterface:
		return append(buffer, e.arrival.Interface...)
	case datumName:
		return append(buffer, e.rule...)
	}
	return strconv.AppendUint(buffer, uint64(e.arrival.To.Port()), 10)
}
