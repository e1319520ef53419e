package session

import (
	"encoding/binary"
	"unicode/utf8"
)

// Control packet types, MQTT 3.1.1 section 2.2.1.
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
)

// The first byte of a PUBLISH, section 3.3.1.
const (
	retainFlag = 0x01
	qosBits    = 0x06
	dupFlag    = 0x08
)

// maxRest is the largest remaining length of a frame, section 2.2.3.
const maxRest = 1<<28 - 1

// ackSize is the length of a PUBACK, PUBREC, PUBREL or PUBCOMP.
const ackSize = 4

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP.
func appendAck(b []byte, kind byte, id uint16) []byte {
	return append(b, kind<<4|shapes[kind].flags, 2, byte(id>>8), byte(id))
}

// appendPublish appends the PUBLISH of a publication. The packet identifier is left out
// for QoS 0.
func appendPublish(b []byte, p *Publication, id uint16) []byte {
	first := byte(typePublish<<4) | p.QoS<<1
	if p.Retain {
		first |= retainFlag
	}
	b = append(b, first)
	n := publishRest(p)
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	b = append(b, byte(n), byte(len(p.Topic)>>8), byte(len(p.Topic)))
	b = append(b, p.Topic...)
	if p.QoS > 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	return append(b, p.Payload...)
}

// publishRest is the remaining length of the PUBLISH of a publication.
func publishRest(p *Publication) int {
	n := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	return n
}

// publishSize is the length of the PUBLISH of a publication.
func publishSize(p *Publication) int {
	n := publishRest(p)
	size := 2 + n
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// publishParts gives the PUBLISH at the front of b, which is one of ours: whole and
// valid.
func publishParts(b []byte) (frame, topic, payload []byte) {
	head, rest, _ := fixedHeader(b)
	frame = b[:head+rest]
	from := head + 2
	end := from + int(binary.BigEndian.Uint16(b[head:]))
	topic, payload = frame[from:end], frame[end:]
	if b[0]&qosBits != 0 {
		payload = payload[2:]
	}
	return frame, topic, payload
}

// identify gives a PUBLISH of ours, of QoS 1 or 2, its packet identifier.
func identify(frame []byte, id uint16) {
	head, _, _ := fixedHeader(frame)
	topic := int(binary.BigEndian.Uint16(frame[head:]))
	binary.BigEndian.PutUint16(frame[head+2+topic:], id)
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
			return 0, 0, violation("2.2.3", "remaining length longer than four bytes", b)
		}
	}
	return 0, 0, nil
}

// publishFlags checks the first byte of a PUBLISH.
func publishFlags(b []byte) error {
	switch {
	case b[0]&qosBits == qosBits:
		return violation("MQTT-3.3.1-4", "PUBLISH with QoS 3", b)
	case b[0]&(dupFlag|qosBits) == dupFlag:
		return violation("MQTT-3.3.1-2", "PUBLISH with DUP and QoS 0", b)
	}
	return nil
}

// publishHead reads the topic and the packet identifier of the PUBLISH at the
// front of b, whose fixed header says head and rest. The payload begins at
// b[payload]; payload is 0 while bytes before it are missing.
func publishHead(b []byte, head, rest int) (topic []byte, id uint16, payload int, err error) {
	if rest < 2 {
		return nil, 0, 0, violation("3.3.2.1", "PUBLISH too short for a topic", b)
	}
	if len(b) < head+2 {
		return nil, 0, 0, nil
	}
	end := head + 2 + int(binary.BigEndian.Uint16(b[head:]))
	payload = end
	if b[0]&qosBits != 0 {
		payload += 2
	}
	if payload > head+rest {
		return nil, 0, 0, violation("3.3.2.1", "topic of PUBLISH longer than its frame", b)
	}
	if payload > len(b) {
		return nil, 0, 0, nil
	}
	topic = b[head+2 : end : end]
	if len(topic) == 0 {
		return nil, 0, 0, violation("MQTT-4.7.3-1", "PUBLISH with an empty topic", b)
	}
	if err := checkTopic(topic); err != nil {
		return nil, 0, 0, err
	}
	if payload > end {
		if id = binary.BigEndian.Uint16(b[end:]); id == 0 {
			return nil, 0, 0, violation("MQTT-2.3.1-1", "PUBLISH with packet identifier 0", b)
		}
	}
	return topic, id, payload, nil
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
				return violation("MQTT-4.7.3-2", "NUL in the topic of a PUBLISH", topic)
			case '#', '+':
				return violation("MQTT-3.3.2-2", "wildcard in the topic of a PUBLISH", topic)
			}
		}
	}
	// utf8.Valid refuses surrogates and overlong forms too, as the clause asks.
	if !utf8.Valid(topic) {
		return violation("MQTT-1.5.3-1", "topic of PUBLISH is not UTF-8", topic)
	}
	return nil
}
