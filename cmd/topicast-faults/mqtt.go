//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The packet types of MQTT 3.1.1, 2.2.1, with the flags that they must have.
const (
	packetConnect   = 0x10
	packetConnack   = 0x20
	packetPublish   = 0x30
	packetPuback    = 0x40
	packetSubscribe = 0x82
	packetSuback    = 0x90
)

const (
	publishQoS1 = 0x02
	publishDup  = 0x08
)

// A link is one connection of a client with the broker, as little of MQTT 3.1.1 as
// the backend and the witness need: they are not to share code with what they judge.
type link struct {
	net.Conn
	in *bufio.Reader
}

// answerWithin is how long a broker that stands still may take to accept a client.
const answerWithin = 2 * time.Second

// open introduces the client. It closes conn if that fails.
func open(conn net.Conn, id string, clean bool) (_ *link, err error) {
	l := &link{conn, bufio.NewReaderSize(conn, 64<<10)}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	flags := byte(0)
	if clean {
		flags = 2 // 3.1.2.4
	}
	body := appendString(nil, "MQTT")
	body = append(body, 4, flags, 0, 0) // level, no keep-alive
	body = appendString(body, id)
	if err := conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(appendPacket(nil, packetConnect, body)); err != nil {
		return nil, err
	}
	kind, body, err := l.read()
	switch {
	case err != nil:
		return nil, err
	case kind != packetConnack || len(body) != 2:
		return nil, fmt.Errorf("a packet %#x came instead of CONNACK", kind)
	case body[1] != 0:
		return nil, fmt.Errorf("connect refused: %d", body[1])
	}
	return l, conn.SetDeadline(time.Time{})
}

// read reads a packet. The body is good until the next call.
func (l *link) read() (kind byte, body []byte, err error) {
	if kind, err = l.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(l.in) // 2.2.3 is the same, up to four bytes
	if err != nil {
		return 0, nil, err
	}
	if size > 1<<20 {
		return 0, nil, errors.New("a packet that nobody has sent")
	}
	body = make([]byte, size)
	_, err = io.ReadFull(l.in, body)
	return kind, body, err
}

func appendPacket(dst []byte, kind byte, body []byte) []byte {
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func appendPublish(dst []byte, topic string, id uint16, dup bool, payload []byte) []byte {
	kind := byte(packetPublish | publishQoS1)
	if dup {
		kind |= publishDup
	}
	body := appendString(make([]byte, 0, len(topic)+4+len(payload)), topic)
	body = binary.BigEndian.AppendUint16(body, id)
	return appendPacket(dst, kind, append(body, payload...))
}

func appendSubscribe(dst []byte, id uint16, filter string) []byte {
	body := appendString(binary.BigEndian.AppendUint16(nil, id), filter)
	return appendPacket(dst, packetSubscribe, append(body, 1))
}

func appendPuback(dst []byte, id uint16) []byte {
	return appendPacket(dst, packetPuback, binary.BigEndian.AppendUint16(nil, id))
}

// parsePublish reads a PUBLISH of QoS 1, or of QoS 0: then id is 0.
func parsePublish(kind byte, body []byte) (topic string, id uint16, payload []byte, err error) {
	short := errors.New("a PUBLISH that is too short")
	if len(body) < 2 {
		return "", 0, nil, short
	}
	n := int(binary.BigEndian.Uint16(body))
	if body = body[2:]; len(body) < n {
		return "", 0, nil, short
	}
	topic, body = string(body[:n]), body[n:]
	if kind&0x06 == 0 {
		return topic, 0, body, nil
	}
	if len(body) < 2 {
		return "", 0, nil, short
	}
	return topic, binary.BigEndian.Uint16(body), body[2:], nil
}
