package session

import (
	"bytes"
	"encoding/binary"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// The control packets of MQTT 3.1.1 other than PUBLISH and its acknowledgements: how those of ours
// are written, and what is demanded of the broker's before they are decoded.

// level311 is the protocol level of MQTT 3.1.1, section 3.1.2.2.
const level311 = 4

// packetID reads the packet identifier that begins the body of a frame.
func packetID(body []byte) uint16 { return binary.BigEndian.Uint16(body) }

// subackFailure is the return code of a refused filter.
const subackFailure = 0x80

// codec311 is the codec of MQTT 3.1.1.
type codec311 struct{}

func (codec311) protocol() Protocol { return Protocol311 }

// These are the same in both versions.
var (
	pingreqFrame    = encode(packets.NewControlPacket(packets.Pingreq))
	disconnectFrame = encode(packets.NewControlPacket(packets.Disconnect))
)

// disconnect is DISCONNECT, which has no code.
func (codec311) disconnect(ReasonCode) []byte { return disconnectFrame }

// encode is a packet as it is written.
func encode(p packets.ControlPacket) []byte {
	var b bytes.Buffer
	_ = p.Write(&b) // a Buffer takes all
	return b.Bytes()
}

func (codec311) connect(o *Options, will *Status, password string) []byte {
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", level311
	p.CleanSession, p.ClientIdentifier = o.Clean, o.ClientID
	p.Keepalive = uint16(o.KeepAlive.Seconds())
	p.Username, p.UsernameFlag = o.Username, o.Username != ""
	p.Password, p.PasswordFlag = []byte(password), password != ""
	if will != nil {
		p.WillFlag, p.WillQos, p.WillRetain = true, 1, true
		p.WillTopic, p.WillMessage = will.Topic, []byte(statusOffline)
	}
	return encode(p)
}

// subscribeSize and unsubscribeSize are what a filter takes in a SUBSCRIBE and in an
// UNSUBSCRIBE.
func subscribeSize(filter string) int   { return 2 + len(filter) + 1 }
func unsubscribeSize(filter string) int { return 2 + len(filter) }

func (codec311) subscribe(id uint16, filters []string, options []subscribeOptions, _ uint32) []byte {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics = id, filters
	for _, o := range options {
		p.Qoss = append(p.Qoss, o.qos)
	}
	return encode(p)
}

func (codec311) unsubscribe(id uint16, filters []string) []byte {
	p := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
	p.MessageID, p.Topics = id, filters
	return encode(p)
}

// codes311 are the reason codes for the return codes of a CONNACK, section 3.2.2.3.
var codes311 = [...]ReasonCode{0, reasonVersion, reasonClientID, reasonUnavailable, reasonLogin, reasonNotAuthorized}

func (codec311) readConnack(frame []byte) (connAck, error) {
	p, err := decode[*packets.ConnackPacket](frame)
	if err != nil {
		return connAck{}, err
	}
	return connAck{present: p.SessionPresent, code: codes311[p.ReturnCode]}, nil
}

func (codec311) readSuback(frame []byte) (a subAck, err error) {
	p, err := decode[*packets.SubackPacket](frame)
	if err != nil {
		return a, err
	}
	for _, code := range p.ReturnCodes {
		a.codes = append(a.codes, ReasonCode(code))
	}
	a.id = p.MessageID
	return a, nil
}

func (codec311) readUnsuback(frame []byte) (subAck, error) {
	p, err := decode[*packets.UnsubackPacket](frame)
	if err != nil {
		return subAck{}, err
	}
	return subAck{id: p.MessageID}, nil
}

// decode reads a packet of one type, and keeps nothing of the frame.
func decode[T packets.ControlPacket](frame []byte) (p T, err error) {
	read, err := packets.ReadPacket(bytes.NewReader(frame))
	p, ok := read.(T)
	if err != nil || !ok {
		return p, violation("MQTT-4.8.0-1", shapes[frame[0]>>4].name+" that cannot be read", frame)
	}
	return p, nil
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

// checkHeader checks the fixed header of a frame other than PUBLISH.
func (codec311) checkHeader(first byte, rest int, frame []byte) error {
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

// checkSuback checks the length of the SUBACK at the front of b, which is known from its
// SUBSCRIBE: one that is too long is not waited for. more reports that b is too short.
func checkSuback(b []byte, head, rest int, filters func(id uint16) int) (more bool, err error) {
	if len(b) < head+2 {
		return true, nil
	}
	switch filters(packetID(b[head:])) {
	case 0:
		return false, violation("MQTT-3.8.4-2", "SUBACK for a SUBSCRIBE that was not sent", b)
	case rest - 2:
		return false, nil
	}
	return false, violation("MQTT-3.8.4-5", "SUBACK with more or fewer return codes than filters were asked for", b)
}

// checkBody checks what follows the fixed header: a flag and a return code in
// a CONNACK, a packet identifier in every other, and return codes in a SUBACK.
func (codec311) checkBody(first byte, body, frame []byte) error {
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
			return violation("3.2.2.3", "CONNACK with a reserved return code", frame)
		}
		return nil
	}
	if packetID(body) == 0 {
		return violation("MQTT-2.3.1-1", shapes[first>>4].name+" with packet identifier 0", frame)
	}
	for _, code := range body[2:] { // of a SUBACK; no other is longer
		if code > 2 && code != subackFailure {
			return violation("MQTT-3.9.3-2", "SUBACK with a reserved return code", frame)
		}
	}
	return nil
}
