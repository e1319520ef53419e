//go:build linux

package main

import (
	"encoding/binary"
	"errors"
)

// The frames of MQTT 3.1.1 that the fake brokers, the publisher and the ceiling
// know (MQTT-2.2.1), by the upper four bits of their first byte.
const (
	connect     = 1
	connack     = 2
	publish     = 3
	puback      = 4
	subscribe   = 8
	suback      = 9
	unsubscribe = 10
	unsuback    = 11
	pingreq     = 12
	pingresp    = 13
	disconnect  = 14
)

var errFrame = errors.New("malformed MQTT frame")

// A frame lies in the buffer it was read into.
type frame struct {
	first byte
	body  []byte
}

func (f frame) kind() byte { return f.first >> 4 }

// cutFrame returns the first frame of b and its size; 0 where b does not hold
// all of it yet.
func cutFrame(b []byte) (f frame, size int, err error) {
	if len(b) < 2 {
		return f, 0, nil
	}
	length := 0
	for i := 1; i < len(b); i++ {
		if i > 4 {
			return f, 0, errFrame // [MQTT-2.2.3]: at most four bytes of length
		}
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			end := i + 1 + length
			if end > len(b) {
				return f, 0, nil
			}
			return frame{b[0], b[i+1 : end]}, end, nil
		}
	}
	return f, 0, nil
}

// A message is what a PUBLISH frame carries.
type message struct {
	topic, payload []byte
	qos            byte
	id             uint16
}

func (f frame) message() (m message, err error) {
	b := f.body
	m.qos = f.first >> 1 & 3
	if len(b) < 2 {
		return m, errFrame
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	head := n
	if m.qos > 0 {
		head += 2
	}
	if len(b) < head {
		return m, errFrame
	}
	m.topic, m.payload = b[2:n], b[head:]
	if m.qos > 0 {
		m.id = binary.BigEndian.Uint16(b[n:])
	}
	return m, nil
}

func appendLength(b []byte, n int) []byte {
	for n > 0x7f {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendPublish appends a PUBLISH frame without its payload, which is to follow.
func appendPublish(b []byte, topic string, qos byte, id uint16, payload int) []byte {
	n := 2 + len(topic) + payload
	if qos > 0 {
		n += 2
	}
	b = append(b, publish<<4|qos<<1)
	b = appendString(appendLength(b, n), topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return b
}

func appendPuback(b []byte, id uint16) []byte {
	return append(b, puback<<4, 2, byte(id>>8), byte(id))
}

func appendConnect(b []byte, clientID string) []byte {
	const cleanSession, keepAlive = 2, 0
	b = appendLength(append(b, connect<<4), 10+2+len(clientID))
	b = append(appendString(b, "MQTT"), 4, cleanSession, 0, keepAlive)
	return appendString(b, clientID)
}

func appendSubscribe(b []byte, filter string, qos byte) []byte {
	b = appendLength(append(b, subscribe<<4|2), 2+2+len(filter)+1)
	return append(appendString(append(b, 0, 1), filter), qos)
}

// appendAnswer appends what a broker that lets everybody do everything says to
// a frame.
func appendAnswer(b []byte, f frame) ([]byte, error) {
	switch f.kind() {
	case connect:
		return append(b, connack<<4, 2, 0, 0), nil
	case pingreq:
		return append(b, pingresp<<4, 0), nil
	case publish:
		m, err := f.message()
		if err != nil || m.qos != 1 {
			return b, err
		}
		return appendPuback(b, m.id), nil
	case unsubscribe:
		if len(f.body) < 2 {
			return b, errFrame
		}
		return append(b, unsuback<<4, 2, f.body[0], f.body[1]), nil
	case subscribe:
		return appendSuback(b, f.body)
	}
	return b, nil
}

// appendSuback grants all that was asked for.
func appendSuback(b, body []byte) ([]byte, error) {
	if len(body) < 2 {
		return b, errFrame
	}
	id, filters := body[:2], body[2:]
	var granted []byte
	for len(filters) > 0 {
		if len(filters) < 2 {
			return b, errFrame
		}
		n := 2 + int(binary.BigEndian.Uint16(filters))
		if len(filters) <= n {
			return b, errFrame
		}
		granted = append(granted, filters[n])
		filters = filters[n+1:]
	}
	b = appendLength(append(b, suback<<4), 2+len(granted))
	return append(append(b, id...), granted...), nil
}
