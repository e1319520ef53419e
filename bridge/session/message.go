package session

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// MaxMessage is the size in bytes of the largest PUBLISH frame whose payload is
// handed on. It has room for the largest datagram (65,507 bytes) written in hex,
// with the longest topic (65,535 bytes). A larger frame costs no memory: its
// payload is skipped as it streams in, and the message arrives with Oversize set.
const MaxMessage = 256 << 10

// Message is one MQTT application message. Topic and Payload lie in the buffer
// of the connection: they are valid until Handle returns, then overwritten.
//
// A message of QoS 1 that was not acknowledged when its connection ended comes again
// on the next, and is handed on again. One of QoS 2 is not, even while it is held,
// as long as the broker remembers the session and repeats it on the very next
// connection, unless it was let go (Ack.Redeliver). To another process it is handed on
// again: this one keeps nothing on disk, so that both are at-least-once.
type Message struct {
	Topic   []byte // well-formed UTF-8 without wildcards or NUL
	Payload []byte // nil where Oversize is set
	Size    int    // bytes of payload on the wire; more than len(Payload) only where Oversize is set
	QoS     byte   // 0, 1 or 2
	Retain  bool   // the broker had kept it and hands it out for a new subscription
	Dup     bool   // the broker may have sent it before

	Oversize bool // the frame was larger than MaxMessage; there is no payload

	// Properties are those of MQTT 5; nil: there are none. Expiry, Reply and Meant read them.
	Properties Properties

	Hold bool // set by Handle: not done yet, Ack.Done will be called later
	Ack  Ack  // releases a held message; may be copied and kept

	id uint16 // packet identifier; 0 for QoS 0

}

// Properties are those of a message as they came, checked.
type Properties []byte

// User is the value of a user property, of several of one name the first. It is valid as long as p.
func (p *Properties) User(name string) (value []byte, ok bool) {
	for rest := []byte(*p); len(rest) > 0; {
		id := rest[0]
		pair, next, ok := properties[id].cut(rest[1:])
		if !ok {
			break
		}
		if rest = next; id != userProperty {
			continue
		}
		_, end, _ := cutData(pair, 0)
		if string(pair[2:end]) == name {
			return pair[end+2:], true
		}
	}
	return nil, false
}

// ContentType is what the payload is said to be. It is valid as long as p.
func (p *Properties) ContentType() (value []byte, ok bool) {
	value = findProperty(*p, contentType)
	return value, value != nil
}

// OnlyUser is a copy of the user properties with these names, of several of one name the first; nil: there
// are none.
func (p *Properties) OnlyUser(names []string) (few Properties) {
	for _, name := range names {
		if value, ok := p.User(name); ok {
			few = AppendUserProperty(few, name, value)
		}
	}
	return few
}

// AppendUserProperty appends a user property as it is written. Both texts are UTF-8 without NUL, of up to
// 65,535 bytes.
func AppendUserProperty[T ~[]byte](dst T, name string, value []byte) T {
	dst = append(dst, userProperty, byte(len(name)>>8), byte(len(name)))
	dst = append(dst, name...)
	dst = append(dst, byte(len(value)>>8), byte(len(value)))
	return append(dst, value...)
}

// AppendContentType appends a content type as it is written: UTF-8 without NUL, of up to 65,535 bytes.
func AppendContentType(dst []byte, text string) []byte {
	dst = append(dst, contentType, byte(len(text)>>8), byte(len(text)))
	return append(dst, text...)
}

// ReadProperties checks properties that were kept elsewhere; nil: they are none of a message.
func ReadProperties(b []byte) Properties {
	if checkProperties(typePublish, b, nil) != nil {
		return nil
	}
	return b
}

// Expiry is for how long a message is good from when it came, as its publisher has said with MQTT 5,
// in whole seconds; the broker has taken off what it waited there. It is false where nobody has.
func (m *Message) Expiry() (d time.Duration, said bool) {
	if len(m.Properties) == 0 {
		return 0, false
	}
	value := findProperty(m.Properties, messageExpiry)
	if value == nil {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint32(value)) * time.Second, true
}

// Reply is where the publisher of a message wants the answer to it, and what is to come with that (Response
// Topic and Correlation Data, MQTT 5, section 4.10); "": nobody asks. Both are the caller's.
func (m *Message) Reply() (topic string, data []byte) {
	if len(m.Properties) == 0 {
		return "", nil
	}
	if topic = string(findProperty(m.Properties, responseTopic)); topic == "" {
		return "", nil
	}
	return topic, bytes.Clone(findProperty(m.Properties, correlationData))
}

// ReplyProperties are those of an answer to a message that came with this correlation data; nil: with none.
func ReplyProperties(data []byte) []byte {
	if data == nil {
		return nil
	}
	b := []byte{correlationData, byte(len(data) >> 8), byte(len(data))}
	return append(b, data...)
}

// ValidTopic reports whether a text can be a topic name.
func ValidTopic(s string) bool { return validTopic(s) }

// Meant reports whether a message is for whom the subscriptions with these identifiers cover, the
// first of which that the broker has granted is the one that counts. Where filters overlap, a broker
// may deliver a message once for each of them, and says by the identifiers for which. What bears none,
// or none that is known, is for everybody.
func (m *Message) Meant(ids []uint32, granted func(id uint32) bool) bool {
	if len(ids) == 0 || len(m.Properties) == 0 {
		return true
	}
	known := false
	for rest := m.Properties; len(rest) > 0; {
		id := rest[0]
		value, next, ok := properties[id].cut(rest[1:])
		if !ok {
			break
		}
		if rest = next; id != subscriptionIdentifier {
			continue
		}
		n, _, _ := variableInteger(value)
		if granted(uint32(n)) {
			known = true
			if first := slices.IndexFunc(ids, granted); first < 0 || ids[first] == uint32(n) {
				return true
			}
		}
	}
	return !known
}
