package session

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// Properties, MQTT 5, section 2.2.2. They are checked here before paho's packets read them, which
// does not see what is sent twice or in the wrong packet; those of a PUBLISH are read in place.

// propertyKind is the type of a property's value, section 1.5.
type propertyKind byte

const (
	noProperty propertyKind = iota
	propertyByte
	propertyTwo
	propertyFour
	propertyVariable
	propertyString
	propertyBinary
	propertyPair
)

// A property is what is known of one: in which packets of a broker it may be, by the bits of
// their types, and its kind.
type property struct {
	kind propertyKind
	in   uint16
	flag bool // a byte that is 0 or 1
	some bool // a number that is not 0
	many bool // it may be there more than once
}

const (
	inPublish    = 1 << typePublish
	inConnack    = 1 << typeConnack
	inDisconnect = 1 << typeDisconnect
	inAcks       = 1<<typePuback | 1<<typePubrec | 1<<typePubrel | 1<<typePubcomp | 1<<typeSuback | 1<<typeUnsuback
)

// The properties that a PUBLISH is asked for.
const (
	messageExpiry          = 0x02
	contentType            = 0x03
	responseTopic          = 0x08
	correlationData        = 0x09
	subscriptionIdentifier = 0x0b
	reasonString           = 0x1f
	topicAlias             = 0x23
	userProperty           = 0x26
)

// properties are those that a broker may send, table 2-4.
var properties = [256]property{
	// The Payload Format Indicator may be 0 or 1. It is for who reads the payload, brokers pass on any
	// (mosquitto 2.0.11 and mochi do), and its publisher is not to end this connection with it.
	0x01:                   {kind: propertyByte, in: inPublish},
	messageExpiry:          {kind: propertyFour, in: inPublish},
	contentType:            {kind: propertyString, in: inPublish},
	responseTopic:          {kind: propertyString, in: inPublish},
	correlationData:        {kind: propertyBinary, in: inPublish},
	subscriptionIdentifier: {kind: propertyVariable, in: inPublish, some: true, many: true}, // Subscription Identifier
	0x11:                   {kind: propertyFour, in: inConnack},                             // Session Expiry Interval
	0x12:                   {kind: propertyString, in: inConnack},                           // Assigned Client Identifier
	0x13:                   {kind: propertyTwo, in: inConnack},                              // Server Keep Alive
	0x15:                   {kind: propertyString, in: inConnack},                           // Authentication Method
	0x16:                   {kind: propertyBinary, in: inConnack},                           // Authentication Data
	0x1a:                   {kind: propertyString, in: inConnack},                           // Response Information
	0x1c:                   {kind: propertyString, in: inConnack | inDisconnect},            // Server Reference
	reasonString:           {kind: propertyString, in: inConnack | inDisconnect | inAcks},
	0x21:                   {kind: propertyTwo, in: inConnack, some: true}, // Receive Maximum
	0x22:                   {kind: propertyTwo, in: inConnack},             // Topic Alias Maximum
	topicAlias:             {kind: propertyTwo, in: inPublish, some: true},
	0x24:                   {kind: propertyByte, in: inConnack, flag: true}, // Maximum QoS
	0x25:                   {kind: propertyByte, in: inConnack, flag: true}, // Retain Available
	userProperty:           {kind: propertyPair, in: inPublish | inConnack | inDisconnect | inAcks, many: true},
	0x27:                   {kind: propertyFour, in: inConnack, some: true}, // Maximum Packet Size
	0x28:                   {kind: propertyByte, in: inConnack, flag: true}, // Wildcard Subscription Available
	0x29:                   {kind: propertyByte, in: inConnack, flag: true}, // Subscription Identifiers Available
	0x2a:                   {kind: propertyByte, in: inConnack, flag: true}, // Shared Subscription Available
}

// variableInteger reads the one of section 1.5.5 at the front of b: size is how many bytes it
// has, 0 while some are missing. It is false where it cannot be one.
func variableInteger(b []byte) (n, size int, ok bool) {
	for i, c := range b[:min(len(b), 4)] {
		n |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			return n, i + 1, i == 0 || c != 0 // the shortest form [MQTT-1.5.5-1]
		}
	}
	return 0, 0, len(b) < 4
}

// cutProperties takes the properties off the front of a body that is whole.
func cutProperties(kind byte, body, frame []byte) (props, rest []byte, err error) {
	n, size, ok := variableInteger(body)
	if !ok || size == 0 || n > len(body)-size {
		return nil, nil, malformedPacket("2.2.2.1", shapes5[kind].name+" whose properties do not fit it", frame)
	}
	props, rest = body[size:size+n], body[size+n:]
	if n == 0 {
		return nil, rest, nil
	}
	return props, rest, checkProperties(kind, props, frame)
}

// checkProperties checks the properties of a packet of a broker.
func checkProperties(kind byte, b, frame []byte) error {
	var seen [256 / 64]uint64
	for len(b) > 0 {
		id := b[0]
		p := &properties[id]
		switch name := shapes5[kind].name; {
		case p.kind == noProperty || p.in&(1<<kind) == 0:
			return malformedPacket("2.2.2.2", fmt.Sprintf("%s with property 0x%02X, which it may not have", name, id), frame)
		case !p.many && seen[id/64]&(1<<(id%64)) != 0:
			return violation("2.2.2.2", fmt.Sprintf("%s with property 0x%02X twice", name, id), frame)
		}
		seen[id/64] |= 1 << (id % 64)
		value, rest, ok := p.cut(b[1:])
		if !ok {
			return malformedPacket("2.2.2.2", fmt.Sprintf("%s with a property 0x%02X that cannot be read", shapes5[kind].name, id), frame)
		}
		if err := p.check(value); err != "" {
			return violation("2.2.2.2", fmt.Sprintf("%s with a property 0x%02X that %s", shapes5[kind].name, id, err), frame)
		}
		b = rest
	}
	return nil
}

// cut takes the value off the front of b: of a string or binary data without its length, of a
// pair with both. It is false where there is none.
func (p *property) cut(b []byte) (value, rest []byte, ok bool) {
	from, to := 0, 0
	switch p.kind {
	case propertyByte:
		to = 1
	case propertyTwo:
		to = 2
	case propertyFour:
		to = 4
	case propertyVariable:
		_, to, ok = variableInteger(b)
		if !ok || to == 0 {
			return nil, nil, false
		}
	case propertyString, propertyBinary:
		if from, to, ok = cutData(b, 0); !ok {
			return nil, nil, false
		}
		if p.kind == propertyString && !isText(b[from:to]) {
			return nil, nil, false
		}
	case propertyPair:
		_, key, ok := cutData(b, 0)
		if !ok {
			return nil, nil, false
		}
		at, end, ok := cutData(b, key)
		if !ok || !isText(b[2:key]) || !isText(b[at:end]) {
			return nil, nil, false
		}
		to = end
	}
	if to > len(b) {
		return nil, nil, false
	}
	return b[from:to], b[to:], true
}

// cutData gives where the data lies whose length stands at b[at:].
func cutData(b []byte, at int) (from, to int, ok bool) {
	if len(b) < at+2 {
		return 0, 0, false
	}
	from = at + 2
	to = from + int(binary.BigEndian.Uint16(b[at:]))
	return from, to, to <= len(b)
}

// isText reports whether b is a string of MQTT, section 1.5.4.
func isText(b []byte) bool {
	for _, c := range b {
		if c == 0 {
			return false
		}
	}
	return utf8.Valid(b)
}

// check says what is wrong with a value; "": nothing.
func (p *property) check(value []byte) string {
	switch {
	case p.flag && value[0] > 1:
		return "is neither 0 nor 1"
	case p.some && isZero(value):
		return "is 0"
	}
	return ""
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// findProperty gives the first value of a property among those that were checked; nil: it is
// not there.
func findProperty(b []byte, id byte) []byte {
	for len(b) > 0 {
		at := b[0]
		value, rest, ok := properties[at].cut(b[1:])
		switch {
		case !ok:
			return nil
		case at == id && value == nil:
			return []byte{}
		case at == id:
			return value
		}
		b = rest
	}
	return nil
}

// maxControl bounds a packet of a broker other than PUBLISH, in bytes: it waits in the buffer
// until it is whole.
const maxControl = math.MaxUint16
