//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// PUBLISH and PUBACK are read and written here and not by paho's codec, which reads a
// packet byte by byte and allocates several times for each: the load has to be faster
// than any bridge, and the ceiling is to show the least that a bridge can cost. All
// other packets come once a connection, and are paho's.

var errFrame = errors.New("malformed MQTT frame")

// A frame is a packet of MQTT 3.1.1 in the buffer it was read into.
type frame struct {
	whole []byte
	body  []byte // behind the fixed header
}

func (f frame) kind() byte { return f.whole[0] >> 4 }

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
			return frame{b[:end], b[i+1 : end]}, end, nil
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
	m.qos = f.whole[0] >> 1 & 3
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

// appendPublish appends a PUBLISH frame without its payload, which is to follow.
func appendPublish(b []byte, topic string, qos byte, id uint16, payload int) []byte {
	n := 2 + len(topic) + payload
	if qos > 0 {
		n += 2
	}
	b = append(b, packets.Publish<<4|qos<<1)
	b = binary.AppendUvarint(b, uint64(n)) // the same as 2.2.3, up to four bytes
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return b
}

func appendPuback(b []byte, id uint16) []byte {
	return append(b, packets.Puback<<4, 2, byte(id>>8), byte(id))
}

// appendAnswer appends what a broker that allows everything answers
// to a frame.
func appendAnswer(b []byte, f frame) ([]byte, error) {
	switch f.kind() {
	case packets.Publish:
		m, err := f.message()
		if err != nil || m.qos != 1 {
			return b, err
		}
		return appendPuback(b, m.id), nil
	case packets.Puback:
		return b, nil
	}
	p, err := packets.ReadPacket(bytes.NewReader(f.whole))
	if err != nil {
		return b, err
	}
	out := bytes.NewBuffer(b)
	switch p := p.(type) {
	case *packets.ConnectPacket:
		err = packets.NewControlPacket(packets.Connack).Write(out)
	case *packets.PingreqPacket:
		err = packets.NewControlPacket(packets.Pingresp).Write(out)
	case *packets.SubscribePacket:
		granted := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		granted.MessageID, granted.ReturnCodes = p.MessageID, p.Qoss
		err = granted.Write(out)
	case *packets.UnsubscribePacket:
		done := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
		done.MessageID = p.MessageID
		err = done.Write(out)
	}
	return out.Bytes(), err
}
