package mapping

import "slices"

// A condition tells by the payload, and by what is known beside it, whether a rule is for a
// message or a datagram:
//
//	u16@16 == 0x6069 && size > 20
//	json:/type == "alarm" || json:/level >= 3
//	!(payload begins "$GP") && source_port != 5353
//
// It has comparisons == != < <= > >= and contains begins ends; && || ! and parentheses; of
// numbers the arithmetic that expressions have everywhere, with Go's precedence. Values are
// the extracts of a payload, and property.name of a message; payload and size, all of it and its
// number of bytes; names; numbers in decimal, hexadecimal or with a fraction, "text", and hex:0d0a, bytes.
//
// A value may not be there: a field behind the end of the payload, or not in its document, or
// text where a number is wanted. A comparison with it is neither true nor false, and what is
// made of that with ! && || is neither as long as the other values do not decide it (Kleene's
// logic): so a short payload satisfies neither x nor !x. has(x) asks whether it is there.
type condition struct {
	text  string
	names []string   // used, in the order in which they come
	nodes []whenNode // what is computed first stands first; the last is the whole
}

// A whenNode computes a value from those of others.
type whenNode struct {
	op          nodeOp
	arith       opcode // of nodeArithmetic
	left, right int32
	number      numeric
	text        []byte // of a literal
	extract     *extract
	name        int // index
}

type nodeOp uint8

const (
	nodeNumber      nodeOp = iota // a literal
	nodeText                      // likewise, or bytes
	nodeExtract                   //
	nodeName                      //
	nodePayload                   // all of it
	nodeSize                      // how many bytes
	nodeTopic                     // of a message
	nodeArithmetic                //
	nodeEqual                     // of what the types of both sides say
	nodeUnequal                   //
	nodeLess                      // of numbers
	nodeAtMost                    //
	nodeMore                      //
	nodeAtLeast                   //
	nodeEqualText                 //
	nodeUnequalText               //
	nodeContains                  // of texts
	nodeBegins                    //
	nodeEnds                      //
	nodeNot                       //
	nodeAnd                       //
	nodeOr                        //
	nodeHas                       // whether it is there
)

// A MessageCondition is a condition over the messages of a filter. Its names are the captures,
// and topic. The zero MessageCondition takes every message. An immutable value.
type MessageCondition struct{ *condition }

// ParseMessageCondition reads a condition; "" is the zero MessageCondition. That its names are
// captures is for Compile to say.
func ParseMessageCondition(s string) (MessageCondition, error) {
	c, err := parseCondition(s, false)
	return MessageCondition{c}, err
}

// Matches reports whether a message satisfies the condition. captures are those of its topic, in
// the order of Captures; of are its properties, nil where it has none. It allocates nothing, unless a string of a document is long and has
// escapes, or the payload is none.
func (c MessageCondition) Matches(topic []byte, captures [][]byte, payload []byte, of Properties) bool {
	if c.condition == nil {
		return true
	}
	return c.decide(&evaluation{payload: payload, topic: topic, captures: captures, of: of})
}

// Captures returns the names of the captures that it asks for, each once.
func (c MessageCondition) Captures() []string { return c.condition.usedNames() }

// String returns the condition as written; "" for the zero MessageCondition.
func (c MessageCondition) String() string { return c.condition.String() }

// IsZero reports whether c is the zero MessageCondition.
func (c MessageCondition) IsZero() bool { return c.condition == nil }

// Equal reports whether two conditions are written alike.
func (c MessageCondition) Equal(other MessageCondition) bool { return c.String() == other.String() }

// MarshalText returns the condition as written.
func (c MessageCondition) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseMessageCondition.
func (c *MessageCondition) UnmarshalText(text []byte) (err error) {
	*c, err = ParseMessageCondition(string(text))
	return err
}

// A DatagramCondition is a condition over datagrams, or the messages in them. Its names are
// those of a Topic. The zero DatagramCondition takes every datagram. An immutable value.
type DatagramCondition struct{ *condition }

// ParseDatagramCondition reads a condition; "" is the zero DatagramCondition.
func ParseDatagramCondition(s string) (DatagramCondition, error) {
	c, err := parseCondition(s, true)
	return DatagramCondition{c}, err
}

// Matches reports whether a datagram satisfies the condition; payload is its own, or that of one
// of the messages in it, and name the rule's. It allocates as MessageCondition.Takes does.
func (c DatagramCondition) Matches(payload []byte, a *Arrival, name string) bool {
	if c.condition == nil {
		return true
	}
	return c.decide(&evaluation{payload: payload, datagram: true, arrival: *a, rule: name})
}

// String returns the condition as written; "" for the zero DatagramCondition.
func (c DatagramCondition) String() string { return c.condition.String() }

// IsZero reports whether c is the zero DatagramCondition.
func (c DatagramCondition) IsZero() bool { return c.condition == nil }

// Equal reports whether two conditions are written alike.
func (c DatagramCondition) Equal(other DatagramCondition) bool { return c.String() == other.String() }

// MarshalText returns the condition as written.
func (c DatagramCondition) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseDatagramCondition.
func (c *DatagramCondition) UnmarshalText(text []byte) (err error) {
	*c, err = ParseDatagramCondition(string(text))
	return err
}

// String returns the condition as written.
func (c *condition) String() string {
	if c == nil {
		return ""
	}
	return c.text
}

func (c *condition) usedNames() []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.names)
}
