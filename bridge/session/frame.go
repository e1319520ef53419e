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

// Flags of the first byte of a PUBLISH, section 3.3.1.
const (
	retainFlag = 0x01
	dupFlag    = 0x08
)

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
	case b[0]&0x06 == 0x06:
		return violation("MQTT-3.3.1-4", "PUBLISH with QoS 3", b)
	case b[0]&0x0e == 0x08:
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
	if b[0]&0x06 != 0 {
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

// checkTopic holds a topic name to sections 4.7 and 1.5.3. Ordinary topics are
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

// A shape is what the fixed header of a packet type must look like when it
// comes from a broker.
type shape struct {
	name  string
	flags byte // [MQTT-2.2.2-1]
	rest  int  // remaining length; -1: an identifier and what follows
}

var shapes = [16]shape{
	typeConnack:  {"CONNACK", 0, 2},
	typePuback:   {"PUBACK", 0, 2},
	typePubrec:   {"PUBREC", 0, 2},
	typePubrel:   {"PUBREL", 2, 2}, // [MQTT-3.6.1-1]
	typePubcomp:  {"PUBCOMP", 0, 2},
	typeSuback:   {"SUBACK", 0, -1},
	typeUnsuback: {"UNSUBACK", 0, 2},
	typePingresp: {"PINGRESP", 0, 0},
}

// controlHead checks the fixed header of a frame other than PUBLISH, so that a
// frame that cannot be is never waited for.
func controlHead(first byte, rest int, frame []byte) error {
	s := shapes[first>>4]
	switch {
	case s.name == "":
		return violation("2.2.1", "packet type that a broker may not send", frame)
	case first&0x0f != s.flags:
		return violation("MQTT-2.2.2-2", s.name+" with reserved flags set", frame)
	case rest != s.rest && (s.rest >= 0 || rest < 3):
		return violation("MQTT-4.8.0-1", s.name+" of impossible length", frame)
	}
	return nil
}

// controlBody checks what follows the fixed header: a flag and a return code in
// a CONNACK, a packet identifier in every other, and return codes in a SUBACK.
func controlBody(first byte, body, frame []byte) error {
	switch first >> 4 {
	case typePingresp:
		return nil
	case typeConnack:
		switch {
		case body[0] > 1:
			return violation("3.2.2.1", "CONNACK with reserved flags set", frame)
		case body[0] == 1 && body[1] != 0:
			return violation("MQTT-3.2.2-4", "CONNACK refuses, yet says that a session is present", frame)
		case body[1] > 5:
			// paho would take such a code for success and go on with a closed connection.
			return violation("3.2.2.3", "CONNACK with a reserved return code", frame)
		}
		return nil
	}
	if binary.BigEndian.Uint16(body) == 0 {
		return violation("MQTT-2.3.1-1", shapes[first>>4].name+" with packet identifier 0", frame)
	}
	for _, code := range body[2:] { // of a SUBACK; no other is longer
		if code > 2 && code != subackFailure {
			return violation("MQTT-3.9.3-2", "SUBACK with a reserved return code", frame)
		}
	}
	return nil
}

// subackFailure is the return code of a refused filter.
const subackFailure = 0x80

// subscribeFilters counts the filters of a SUBSCRIBE frame of ours.
func subscribeFilters(body []byte) (id uint16, n int) {
	id = binary.BigEndian.Uint16(body)
	for b := body[2:]; len(b) >= 2; n++ {
		b = b[2+int(binary.BigEndian.Uint16(b))+1:]
	}
	return id, n
}
