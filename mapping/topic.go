package mapping

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Topic is a topic template: a topic name in which {…} stands for what is known
// of a datagram, or for an expression over it:
//
//	meters/{source}/raw
//	dmx/{group&65535}      of 239.255.1.2 it is 258
//	site/{(group>>8)&255}/{group&255}
//
// The names are group and source, addresses without port and zone; destination, where the
// datagram was sent to: the group, or the address of this host or a broadcast; port and
// source_port; interface, the name of the interface the datagram arrived on; and
// name, that of the rule. In an expression an address is a number, its 32 bits
// or, with IPv6, its last 32; interface and name are no numbers.
//
// The zero Topic is no topic. An immutable value.
type Topic struct {
	text   string
	parts  []part
	fields []extract // of the payload; expressions know them by their index, behind the names
}

// A part is a piece of the topic: of the text as it stands, or one {…}.
type part struct {
	kind  datum
	text  string // as written; a {…} with its braces
	code  program
	field int // index in fields
}

// A datum is what is known of a datagram; of the names, the index in datumNames
// and the operand of expressions.
type datum uint8

const (
	datumGroup datum = iota
	datumPort
	datumSource
	datumSourcePort
	datumDestination
	datumInterface
	datumName
	datumNumber // what an expression comes to
	datumText   // as written
	datumField  // a field of the payload
)

var datumNames = []string{"group", "port", "source", "source_port", "destination", "interface", "name"}

// ParseTopic reads a topic template. What can never be a topic is an error here;
// what depends on the rule is left to Compile, what depends on datagrams to Append.
func ParseTopic(s string) (Topic, error) {
	t, err := parseTopic(s, false)
	if err != nil {
		return Topic{}, fmt.Errorf("topic %s: %w", quote(s), err)
	}
	return t, nil
}

// String returns the template as written.
func (t Topic) String() string { return t.text }

// IsZero reports whether t is the zero Topic.
func (t Topic) IsZero() bool { return t.text == "" }

// Varies reports whether the topic depends on the datagram.
func (t Topic) Varies() bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.kind != datumText && p.kind != datumName })
}

// VariesBySender reports whether the topic depends on the address of a datagram's sender, and
// on its port.
func (t Topic) VariesBySender() (address, port bool) {
	return t.uses(datumSource), t.uses(datumSourcePort)
}

// VariesByDestination reports whether the topic depends on where a datagram was sent to.
func (t Topic) VariesByDestination() bool { return t.uses(datumDestination) }

// VariesByPayload reports whether the topic depends on the payload of a datagram.
func (t Topic) VariesByPayload() bool {
	return slices.ContainsFunc(t.fields, func(e extract) bool { return e.kind != extractCapture })
}

// AppendArrival appends to dst what of an arrival, the payload aside, the topic depends on: equal
// payloads of arrivals that do not differ in it have one topic.
func (t Topic) AppendArrival(dst []byte, a *Arrival) []byte {
	for _, of := range []struct {
		is   bool
		text string
	}{
		{t.uses(datumGroup) || t.uses(datumDestination), a.To.Addr().String()},
		{t.uses(datumPort), strconv.Itoa(int(a.To.Port()))},
		{t.uses(datumSource), a.Source.Addr().String()},
		{t.uses(datumSourcePort), strconv.Itoa(int(a.Source.Port()))},
		{t.uses(datumInterface), a.Interface},
	} {
		if of.is {
			dst = append(append(dst, of.text...), ' ')
		}
	}
	return dst
}

// Equal reports whether two templates are written alike.
func (t Topic) Equal(other Topic) bool { return t.text == other.text }

// MarshalText returns the template as written.
func (t Topic) MarshalText() ([]byte, error) { return []byte(t.text), nil }

// UnmarshalText is ParseTopic.
func (t *Topic) UnmarshalText(text []byte) (err error) {
	*t, err = ParseTopic(string(text))
	return err
}

// A TopicError says why a datagram gives no topic: a value does not fit into a
// topic name, or an expression has none.
type TopicError struct {
	Topic string // the rule's template
	Part  string // the part of the template it is about, "" for all of it
	Value string // what that came to
	Want  string // what it may be
	// Missing: the payload has no such field.
	Missing bool
}

func (e *TopicError) Error() string {
	part := e.Part
	if part == "" {
		part = "it"
	}
	return fmt.Sprintf("topic %s: %s is %s, not %s", quote(e.Topic), part, e.Value, e.Want)
}

// Append appends to dst the topic that a datagram is published on by the rule of
// this name, which the topics of a Table know already. It allocates nothing unless dst grows or there is an error, and
// keeps nothing of a. The error is a *TopicError, drop(bad_topic), and then dst
// is returned as it was.
//
// Where the topic depends on the payload, AppendOf does it.
func (t Topic) Append(dst []byte, a *Arrival, name string) ([]byte, error) {
	return t.AppendOf(dst, nil, a, name)
}

// AppendOf is Append for a payload, which is that of the datagram, or of one of the messages
// in it. A *TopicError with Missing set is drop(field). It keeps nothing of payload.
func (t Topic) AppendOf(dst, payload []byte, a *Arrival, name string) ([]byte, error) {
	start := len(dst)
	for i := range t.parts {
		p := &t.parts[i]
		var err *TopicError
		if p.kind == datumField && t.fields[p.field].kind == extractCapture {
			dst = append(dst, a.captured[t.fields[p.field].offset]...)
		} else if p.kind == datumField {
			dst, err = t.fields[p.field].appendLevel(dst, payload)
		} else {
			dst, err = p.append(dst, payload, t.fields, a, name)
		}
		if err != nil {
			err.Topic = t.text
			return dst[:start], err
		}
	}
	topic := dst[start:]
	switch {
	case len(topic) == 0:
		return dst[:start], &TopicError{Topic: t.text, Value: "empty", Want: "a topic [MQTT-4.7.3-1]"}
	case len(topic) > maxTopic:
		return dst[:start], &TopicError{Topic: t.text, Value: fmt.Sprintf("%d bytes long", len(topic)),
			Want: fmt.Sprintf("at most %d [MQTT-4.7.3-3]", maxTopic)}
	case topic[0] == '$':
		return dst[:start], &TopicError{Topic: t.text, Value: quote(string(topic)), Want: "a topic that begins without $, as those are the broker's"}
	}
	return dst, nil
}

func (p *part) append(dst, payload []byte, fields []extract, a *Arrival, name string) ([]byte, *TopicError) {
	switch p.kind {
	case datumText:
		return append(dst, p.text...), nil
	case datumGroup, datumDestination:
		return a.To.Addr().WithZone("").AppendTo(dst), nil
	case datumPort:
		return strconv.AppendUint(dst, uint64(a.To.Port()), 10), nil
	case datumSource:
		return a.Source.Addr().WithZone("").AppendTo(dst), nil
	case datumSourcePort:
		return strconv.AppendUint(dst, uint64(a.Source.Port()), 10), nil
	case datumInterface:
		// A / would move the levels behind it, and Compile counts on these.
		return appendText(dst, p.text, a.Interface, "+#/")
	case datumName:
		return appendText(dst, p.text, name, "+#")
	}
	var buffer [16]operand
	known := a.operands()
	operands := append(buffer[:0], known[:]...)
	if len(fields) > 0 {
		operands = append(operands, operand{}, operand{}) // of interface and name
		for i := range fields {
			var o operand
			if p.code.uses(datum(len(datumNames) + i)) {
				var err *TopicError
				if fields[i].kind == extractCapture {
					o.value, o.number = number(a.captured[fields[i].offset])
				} else if o, err = fields[i].operand(payload); err != nil {
					return dst, err
				}
			}
			operands = append(operands, o)
		}
	}
	value, _, trouble := p.code.run(operands)
	if trouble != "" {
		return dst, &TopicError{Part: p.text, Value: trouble, Want: "a number"}
	}
	return strconv.AppendInt(dst, value, 10), nil
}

// appendText appends a value that somebody else wrote.
func appendText(dst []byte, part, value, without string) ([]byte, *TopicError) {
	if value != "" && (strings.ContainsAny(value, without) || checkText(value) != nil) {
		return dst, &TopicError{Part: part, Value: quote(value),
			Want: "UTF-8 without control characters and any of " + without}
	}
	return append(dst, value...), nil
}

// operands are the numbers that expressions know by their index.
func (a *Arrival) operands() [datumDestination + 1]operand {
	return [...]operand{
		datumGroup:       {addressNumber(a.To.Addr()), true},
		datumPort:        {int64(a.To.Port()), true},
		datumSource:      {addressNumber(a.Source.Addr()), true},
		datumSourcePort:  {int64(a.Source.Port()), true},
		datumDestination: {addressNumber(a.To.Addr()), true},
	}
}

// addressNumber returns the last 32 bits of an address, which are all of IPv4.
func addressNumber(a netip.Addr) int64 {
	if !a.IsValid() { // of a request that has no target
		return 0
	}
	bytes := a.As16()
	return int64(binary.BigEndian.Uint32(bytes[12:]))
}
