//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync/atomic"

	packets5 "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// PUBLISH and PUBACK are read and written here and not by paho's codec, which reads a
// packet byte by byte and allocates several times for each: the load has to be faster
// than any bridge, and the ceiling is to show the least that a bridge can cost. All
// other packets come once a connection, and are paho's.

var errFrame = errors.New("malformed MQTT frame")

// A dialect is the version of MQTT that the client of a connection speaks, which its CONNECT says:
// 3.1.1 or 5.
type dialect struct{ five atomic.Bool }

// A frame is a packet in the buffer it was read into.
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

func (f frame) message(d *dialect) (m message, err error) {
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
	if d.five.Load() {
		length, size := binary.Uvarint(m.payload) // of the properties
		if size <= 0 || length > uint64(len(m.payload)-size) {
			return m, errFrame
		}
		m.payload = m.payload[size+int(length):]
	}
	if m.qos > 0 {
		m.id = binary.BigEndian.Uint16(b[n:])
	}
	return m, nil
}

// appendPublish appends a PUBLISH frame without its payload, which is to follow.
func (d *dialect) appendPublish(b []byte, topic string, qos byte, id uint16, payload int) []byte {
	n := 2 + len(topic) + payload
	if d.five.Load() {
		n++
	}
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
	if d.five.Load() {
		b = append(b, 0) // no properties
	}
	return b
}

func appendPuback(b []byte, id uint16) []byte {
	return append(b, packets.Puback<<4, 2, byte(id>>8), byte(id))
}

// appendAnswer appends what a broker that allows everything answers
// to a frame.
func (d *dialect) appendAnswer(b []byte, f frame) ([]byte, error) {
	switch f.kind() {
	case packets.Publish:
		m, err := f.message(d)
		if err != nil || m.qos != 1 {
			return b, err
		}
		return appendPuback(b, m.id), nil
	case packets.Puback, packets.Disconnect: // paho.golang reads no DISCONNECT without a reason code
		return b, nil
	case packets.Connect: // [MQTT-3.1.2-1]: the level is behind the name
		d.five.Store(len(f.body) > 6 && f.body[6] == 5)
	}
	if d.five.Load() {
		return appendAnswer5(b, f)
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

// appendAnswer5 is that in MQTT 5.
func appendAnswer5(b []byte, f frame) ([]byte, error) {
	p, err := packets5.ReadPacket(bytes.NewReader(f.whole))
	if err != nil {
		return b, err
	}
	out := bytes.NewBuffer(b)
	switch p := p.Content.(type) {
	case *packets5.Connect:
		_, err = packets5.NewControlPacket(packets5.CONNACK).WriteTo(out)
	case *packets5.Pingreq:
		_, err = packets5.NewControlPacket(packets5.PINGRESP).WriteTo(out)
	case *packets5.Subscribe:
		granted := &packets5.Suback{PacketID: p.PacketID, Properties: new(packets5.Properties)}
		for _, s := range p.Subscriptions {
			granted.Reasons = append(granted.Reasons, s.QoS)
		}
		_, err = granted.WriteTo(out)
	case *packets5.Unsubscribe:
		_, err = (&packets5.Unsuback{PacketID: p.PacketID, Properties: new(packets5.Properties), Reasons: make([]byte, len(p.Topics))}).WriteTo(out)
	}
	return out.Bytes(), err
}
