package session

import (
	"encoding/binary"
	"unicode/utf8"
)

// The bytes of PUBLISH and its acknowledgements, in both versions of MQTT. What MQTT 5 adds to a
// PUBLISH are its properties, between the packet identifier and the payload.

// Control packet types, MQTT 3.1.1 section 2.2.1, MQTT 5 section 2.1.2.
const (
	typeConnect     = 1
	typeConnack     = 2
	typePublish     = 3
	typePuback      = 4
	typePubrec      = 5
	typePubrel      = 6
	typePubcomp     = 7
	typeSubscribe   = 8
	typeSuback      = 9
	typeUnsubscribe = 10
	typeUnsuback    = 11
	typePingreq     = 12
	typePingresp    = 13
	typeDisconnect  = 14
	typeAuth        = 15 // MQTT 5
)

// The first byte of a PUBLISH, section 3.3.1.
const (
	retainFlag = 0x01
	qosBits    = 0x06
	dupFlag    = 0x08
)

// maxRest is the largest remaining length of a frame, section 2.2.3.
const maxRest = 1<<28 - 1

// ackSize is the length of a PUBACK, PUBREC, PUBREL or PUBCOMP of ours. In MQTT 5 that is one
// with reason code 0 and without properties, section 3.4.2.1.
const ackSize = 4

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP.
func appendAck(b []byte, kind byte, id uint16) []byte {
	return append(b, kind<<4|shapes[kind].flags, 2, byte(id>>8), byte(id))
}

// appendPublish appends the PUBLISH of a publication. The packet identifier is left out
// for QoS 0.
func appendPublish(b []byte, p *Publication, id uint16, f *form) []byte {
	qos := f.qos(p.QoS)
	first := byte(typePublish<<4) | qos<<1
	if p.Retain && !f.noRetain {
		first |= retainFlag
	}
	b = append(b, first)
	n := publishRest(p, f)
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	b = append(b, byte(n), byte(len(p.Topic)>>8), byte(len(p.Topic)))
	b = append(b, p.Topic...)
	if qos > 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	if f.protocol == Protocol5 {
		b = binary.AppendUvarint(b, uint64(len(p.Properties))) // as section 1.5.5 has it, up to four bytes
		b = append(b, p.Properties...)
	}
	return append(b, p.Payload...)
}

// qos is the quality of service that a broker takes a publication with.
func (f *form) qos(asked byte) byte {
	if f.qos1Most {
		return min(asked, 1)
	}
	return asked
}

// publishRest is the remaining length of the PUBLISH of a publication.
func publishRest(p *Publication, f *form) int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if f.protocol == Protocol5 {
		n++
		for l := len(p.Properties); l >= 0x80; l >>= 7 {
			n++
		}
		n += len(p.Properties)
	}
	return n
}

// publishSize is the length of the PUBLISH of a publication.
func publishSize(p *Publication, f *form) int {
	n := publishRest(p, f)
	size := 2 + n
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// publishParts gives the PUBLISH at the front of b, which is one of ours: whole and
// valid.
func publishParts(b []byte, f *form) (frame, topic, props, payload []byte) {
	head, rest, _ := fixedHeader(b)
	frame = b[:head+rest]
	from := head + 2
	end := from + int(binary.BigEndian.Uint16(b[head:]))
	topic, payload = frame[from:end], frame[end:]
	if b[0]&qosBits != 0 {
		payload = payload[2:]
	}
	if f.protocol == Protocol5 {
		n, size, _ := variableInteger(payload)
		props, payload = payload[size:size+n], payload[size+n:]
	}
	return frame, topic, props, payload
}

// identify gives a PUBLISH of ours, of QoS 1 or 2, its packet identifier.
func identify(frame []byte, id uint16) {
	head, _, _ := fixedHeader(frame)
	topic := int(binary.BigEndian.Uint16(frame[head:]))
	binary.BigEndian.PutUint16(frame[head+2+topic:], id)
}

// frameID is the packet identifier of a PUBLISH of ours, of QoS 1 or 2.
func frameID(frame []byte) uint16 {
	head, _, _ := fixedHeader(frame)
	topic := int(binary.BigEndian.Uint16(frame[head:]))
	return binary.BigEndian.Uint16(frame[head+2+topic:])
}

// fixedHeader reads the two to five bytes that open a frame: head is their
// number, rest the number of bytes that follow. head is 0 while some are missing.
func fixedHeader(b []byte) (head, rest int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	if b[1] < 0x80 {
		return 2, int(b[1]), nil
	}
	for i := 1; i < len(b); i++ {
		rest |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return i + 1, rest, nil
		}
		if i == 4 {
			return 0, 0, malformedPacket("2.2.3", "remaining length longer than four bytes", b)
		}
	}
	return 0, 0, nil
}

// publishFlags checks the first byte of a PUBLISH.
func publishFlags(b []byte) error {
	switch {
	case b[0]&qosBits == qosBits:
		return malformedPacket("MQTT-3.3.1-4", "PUBLISH with QoS 3", b)
	case b[0]&(dupFlag|qosBits) == dupFlag:
		return malformedPacket("MQTT-3.3.1-2", "PUBLISH with DUP and QoS 0", b)
	}
	return nil
}

// publishHead reads what stands before the payload of the PUBLISH at the front of b, whose fixed
// header says head and rest: the topic, the packet identifier and, in MQTT 5, the properties. The
// payload begins at b[payload]; payload is 0 while bytes before it are missing.
func (c *mqttConn) publishHead(b []byte, head, rest int) (topic, props []byte, id uint16, payload int, err error) {
	topic, id, payload, err = publishHead(b, head, rest)
	if payload == 0 || err != nil {
		return nil, nil, 0, 0, err
	}
	if c.terms.protocol != Protocol5 {
		return topic, nil, id, payload, checkTopicNotEmpty(topic, b)
	}
	props, payload, err = publishProperties(b, head+rest, payload)
	if payload > 0 && err == nil && len(topic) == 0 {
		err = violation("MQTT-4.7.3-1", "PUBLISH with an empty topic, and no topic alias is allowed", b)
	}
	return topic, props, id, payload, err
}

func checkTopicNotEmpty(topic, frame []byte) error {
	if len(topic) == 0 {
		return violation("MQTT-4.7.3-1", "PUBLISH with an empty topic", frame)
	}
	return nil
}

// maxProperties bounds the properties, in bytes, that are read of a PUBLISH which is larger than
// MaxMessage: what stands before its payload waits in the buffer until it is whole. More of them are
// skipped with the payload: whoever publishes such a message is not to end the connection, again
// each time that the broker repeats it.
const maxProperties = MaxMessage / 2

// publishProperties gives the properties, and where the payload begins, of a PUBLISH of MQTT 5 which is end bytes long
// and whose properties begin at b[at]; 0: more of it is needed.
func publishProperties(b []byte, end, at int) (props []byte, payload int, err error) {
	n, size, ok := variableInteger(b[at:min(len(b), end)])
	switch {
	case !ok, size == 0 && end <= len(b), size > 0 && at+size+n > end:
		return nil, 0, malformedPacket("3.3.2.3", "PUBLISH whose properties do not fit it", b)
	case n > maxProperties && end > MaxMessage:
		return nil, at + size + n, nil
	case size == 0, len(b) < at+size+n:
		return nil, 0, nil
	case n == 0:
		return nil, at + size, nil
	}
	props = b[at+size : at+size+n : at+size+n]
	if err := checkProperties(typePublish, props, b); err != nil {
		return nil, 0, err
	}
	if findProperty(props, topicAlias) != nil {
		return nil, 0, violate(reasonTopicAlias, "MQTT-3.3.2-9", "PUBLISH with a topic alias, and none is allowed", b)
	}
	return props, at + size + n, nil
}

// publishHead reads the topic and the packet identifier. What follows begins at b[next]; next is
// 0 while bytes before it are missing.
func publishHead(b []byte, head, rest int) (topic []byte, id uint16, next int, err error) {
	if rest < 2 {
		return nil, 0, 0, malformedPacket("3.3.2.1", "PUBLISH too short for a topic", b)
	}
	if len(b) < head+2 {
		return nil, 0, 0, nil
	}
	end := head + 2 + int(binary.BigEndian.Uint16(b[head:]))
	next = end
	if b[0]&qosBits != 0 {
		next += 2
	}
	if next > head+rest {
		return nil, 0, 0, malformedPacket("3.3.2.1", "topic of PUBLISH longer than its frame", b)
	}
	if next > len(b) {
		return nil, 0, 0, nil
	}
	topic = b[head+2 : end : end]
	if err := checkTopic(topic); err != nil {
		return nil, 0, 0, err
	}
	if next > end {
		if id = binary.BigEndian.Uint16(b[end:]); id == 0 {
			return nil, 0, 0, violation("MQTT-2.3.1-1", "PUBLISH with packet identifier 0", b)
		}
	}
	return topic, id, next, nil
}

// message is what the first byte of a PUBLISH and its parts say.
func message(first byte, topic, payload []byte, id uint16) Message {
	return Message{
		Topic:   topic,
		Payload: payload,
		Size:    len(payload),
		QoS:     (first & qosBits) >> 1,
		Retain:  first&retainFlag != 0,
		Dup:     first&dupFlag != 0,
		id:      id,
	}
}

// A byte of a topic name is fine, or part of a longer UTF-8 sequence, or forbidden.
const (
	byteMulti  = 1
	byteForbid = 2
)

var topicBytes = func() (class [256]byte) {
	class['#'], class['+'], class[0] = byteForbid, byteForbid, byteForbid
	for c := utf8.RuneSelf; c < 256; c++ {
		class[c] = byteMulti
	}
	return class
}()

// checkTopic checks a topic name against sections 4.7 and 1.5.3. Ordinary topics are
// ASCII and cost one table look-up per byte.
func checkTopic(topic []byte) error {
	var seen byte
	for _, c := range topic {
		seen |= topicBytes[c]
	}
	if seen == 0 {
		return nil
	}
	if seen&byteForbid != 0 {
		for _, c := range topic {
			switch c {
			case 0:
				return malformedPacket("MQTT-4.7.3-2", "NUL in the topic of a PUBLISH", topic)
			case '#', '+':
				return violate(reasonTopic, "MQTT-3.3.2-2", "wildcard in the topic of a PUBLISH", topic)
			}
		}
	}
	// utf8.Valid refuses surrogates and overlong forms too, as the clause asks.
	if !utf8.Valid(topic) {
		return malformedPacket("MQTT-1.5.3-1", "topic of PUBLISH is not UTF-8", topic)
	}
	return nil
}
