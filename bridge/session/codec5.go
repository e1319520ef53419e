package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/eclipse/paho.golang/packets"
)

// The control packets of MQTT 5 other than PUBLISH, as codec311.go has those of 3.1.1. Of their
// properties those are read that say something to us; all are checked.

// level5 is the protocol level of MQTT 5, section 3.1.2.2.
const level5 = 5

// neverExpires keeps a session at the broker for good, section 3.1.2.11.2.
const neverExpires = math.MaxUint32

// codec5 is the codec of MQTT 5.
type codec5 struct{}

func (codec5) protocol() Protocol { return Protocol5 }

// written is a packet as it is written.
func written(p *packets.ControlPacket) []byte {
	var b bytes.Buffer
	_, _ = p.WriteTo(&b) // a Buffer takes all
	return b.Bytes()
}

func (codec5) connect(o *Options, will *Status, password string) []byte {
	p := packets.NewControlPacket(packets.CONNECT)
	c := p.Content.(*packets.Connect)
	c.ProtocolName, c.ProtocolVersion = "MQTT", level5
	c.CleanStart, c.ClientID = o.Clean, o.ClientID
	c.KeepAlive = uint16(o.KeepAlive.Seconds())
	c.Username, c.UsernameFlag = o.Username, o.Username != ""
	c.Password, c.PasswordFlag = []byte(password), password != ""
	c.Properties = new(packets.Properties)
	if !o.Clean {
		expiry := uint32(neverExpires)
		if o.SessionExpiry > 0 {
			expiry = uint32(o.SessionExpiry.Seconds())
		}
		c.Properties.SessionExpiryInterval = &expiry
	}
	if will != nil {
		c.WillFlag, c.WillQOS, c.WillRetain = true, 1, true
		c.WillTopic, c.WillMessage = will.Topic, []byte(statusOffline)
		c.WillProperties = new(packets.Properties)
	}
	return written(p)
}

func (codec5) subscribe(id uint16, filters []string, options []subscribeOptions, identifier uint32) []byte {
	p := packets.NewControlPacket(packets.SUBSCRIBE)
	s := p.Content.(*packets.Subscribe)
	s.PacketID, s.Properties = id, new(packets.Properties)
	if identifier > 0 {
		s.Properties.SubscriptionIdentifier = new(int(identifier))
	}
	for i, filter := range filters {
		o := packets.SubOptions{Topic: filter, QoS: options[i].qos, NoLocal: options[i].noLocal}
		if options[i].noRetained {
			o.RetainHandling = 2
		}
		s.Subscriptions = append(s.Subscriptions, o)
	}
	return written(p)
}

func (codec5) unsubscribe(id uint16, filters []string) []byte {
	p := packets.NewControlPacket(packets.UNSUBSCRIBE)
	u := p.Content.(*packets.Unsubscribe)
	u.PacketID, u.Properties, u.Topics = id, new(packets.Properties), filters
	return written(p)
}

// disconnect is DISCONNECT. With code 0 it is that of MQTT 3.1.1 too.
func (codec5) disconnect(code ReasonCode) []byte {
	if code == 0 {
		return disconnectFrame
	}
	return []byte{typeDisconnect << 4, 1, byte(code)}
}

// A shape5 is what the fixed header of a packet type must look like when it comes from a broker
// of MQTT 5.
type shape5 struct {
	name  string
	flags byte
	least int // remaining length
}

var shapes5 = [16]shape5{
	typePublish:    {name: "PUBLISH"}, // see publishHead
	typeConnack:    {"CONNACK", 0, 2}, // in MQTT 5 it has 3; this is to read a broker of 3.1.1
	typePuback:     {"PUBACK", 0, 2},
	typePubrec:     {"PUBREC", 0, 2},
	typePubrel:     {"PUBREL", 2, 2},
	typePubcomp:    {"PUBCOMP", 0, 2},
	typeSuback:     {"SUBACK", 0, 4},
	typeUnsuback:   {"UNSUBACK", 0, 4},
	typePingresp:   {"PINGRESP", 0, 0},
	typeDisconnect: {"DISCONNECT", 0, 0},
}

func (codec5) checkHeader(first byte, rest int, frame []byte) error {
	kind := first >> 4
	s := &shapes5[kind]
	switch {
	case kind == typeAuth:
		return violation("MQTT-4.12.0-6", "AUTH, and no authentication method was agreed on", frame)
	case s.name == "":
		return violation("2.1.2", "packet type that a broker may not send", frame)
	case first&0x0f != s.flags:
		return malformedPacket("MQTT-2.1.3-1", s.name+" with reserved flags set", frame)
	case rest < s.least, kind == typePingresp && rest > 0:
		return malformedPacket("2.1.4", s.name+" of impossible length", frame)
	case rest > maxControl:
		return violate(reasonTooLarge, "3.1.2.11.4", s.name+" of more than 64 KB", frame)
	}
	return nil
}

func (codec5) checkBody(first byte, body, frame []byte) error {
	switch kind := first >> 4; kind {
	case typePingresp:
		return nil
	case typeConnack:
		return checkConnack5(body, frame)
	case typeDisconnect:
		if len(body) < 2 {
			return nil
		}
		return wholeProperties(kind, body[1:], frame)
	case typeSuback, typeUnsuback:
		_, codes, err := cutProperties(kind, body[2:], frame)
		if err != nil {
			return err
		}
		if packetID(body) == 0 {
			return violation("MQTT-2.2.1-3", shapes5[kind].name+" with packet identifier 0", frame)
		}
		for _, code := range codes {
			if known := code <= 2 || kind == typeUnsuback && code == 0x11; !known && code < 0x80 {
				return violation("MQTT-3.9.3-2", shapes5[kind].name+" with a reserved reason code", frame)
			}
		}
		return nil
	default: // PUBACK, PUBREC, PUBREL, PUBCOMP
		if packetID(body) == 0 {
			return violation("MQTT-2.2.1-3", shapes5[kind].name+" with packet identifier 0", frame)
		}
		if len(body) < 4 {
			return nil
		}
		return wholeProperties(kind, body[3:], frame)
	}
}

// wholeProperties checks properties that end a packet.
func wholeProperties(kind byte, b, frame []byte) error {
	_, rest, err := cutProperties(kind, b, frame)
	if err == nil && len(rest) > 0 {
		err = malformedPacket("2.2.2.1", shapes5[kind].name+" with something after its properties", frame)
	}
	return err
}

func checkConnack5(body, frame []byte) error {
	code := ReasonCode(body[1])
	switch {
	case body[0] > 1:
		return malformedPacket("MQTT-3.2.2-1", "CONNACK with reserved flags set", frame)
	case body[0] == 1 && code != 0:
		return violation("MQTT-3.2.2-6", "CONNACK refuses, yet says that a session is present", frame)
	case len(body) == 2:
		return nil // a broker of MQTT 3.1.1; see oldConnack
	case code != 0 && !code.refuses():
		return violation("MQTT-3.2.2-8", "CONNACK with a reserved reason code", frame)
	}
	return wholeProperties(typeConnack, body[2:], frame)
}

// oldConnack reports whether a CONNACK is that of a broker of MQTT 3.1.1.
func oldConnack(frame []byte) bool { return len(frame) == 4 }

// errOldBroker is for a broker that answers a CONNECT of MQTT 5 as one of 3.1.1.
var errOldBroker = &RefusedError{Protocol: Protocol5, Code: reasonVersion}

func (codec5) readConnack(frame []byte) (a connAck, err error) {
	if oldConnack(frame) {
		return a, errOldBroker
	}
	p, err := decode5[*packets.Connack](frame)
	if err != nil {
		return a, err
	}
	a = connAck{present: p.SessionPresent, code: ReasonCode(p.ReasonCode), reason: p.Properties.ReasonString}
	if server := p.Properties.ServerReference; server != "" {
		a.reason = fmt.Sprintf("%s %s", a.reason, server)
	}
	props := p.Properties
	a.terms = terms{protocol: Protocol5, clientID: props.AssignedClientID}
	if v := props.ReceiveMaximum; v != nil {
		a.terms.inFlight = int(*v)
	}
	if v := props.MaximumQOS; v != nil {
		if a.terms.qos1Most = true; *v == 0 && a.code == 0 {
			return a, errQoS0Only
		}
	}
	if v := props.RetainAvailable; v != nil {
		a.terms.noRetain = *v == 0
	}
	if v := props.MaximumPacketSize; v != nil {
		a.terms.maxPacket = int(*v)
	}
	if v := props.TopicAliasMaximum; v != nil {
		a.terms.aliases = int(*v)
	}
	if v := props.ServerKeepAlive; v != nil {
		a.terms.keepAlive = int(*v)
	}
	if v := props.SessionExpiryInterval; v != nil {
		a.terms.expires, a.terms.expiry = true, *v
	}
	if v := props.SubIDAvailable; v != nil {
		a.terms.noIDs = *v == 0
	}
	if v := props.WildcardSubAvailable; v != nil {
		a.terms.noWild = *v == 0
	}
	if v := props.SharedSubAvailable; v != nil {
		a.terms.noShared = *v == 0
	}
	return a, nil
}

var errQoS0Only = fmt.Errorf("the broker takes messages of QoS 0 alone (Maximum QoS), and topicast publishes its status with QoS 1: use another listener of it, or set broker.protocol: 3.1.1")

func (codec5) readSuback(frame []byte) (a subAck, err error) {
	p, err := decode5[*packets.Suback](frame)
	if err != nil {
		return a, err
	}
	return subAck{p.PacketID, reasonCodes(p.Reasons), p.Properties.ReasonString}, nil
}

func (codec5) readUnsuback(frame []byte) (a subAck, err error) {
	p, err := decode5[*packets.Unsuback](frame)
	if err != nil {
		return a, err
	}
	return subAck{p.PacketID, reasonCodes(p.Reasons), p.Properties.ReasonString}, nil
}

func reasonCodes(b []byte) (codes []ReasonCode) {
	for _, c := range b {
		codes = append(codes, ReasonCode(c))
	}
	return codes
}

// readAck reads the body of a PUBACK, PUBREC, PUBREL or PUBCOMP that was checked. Those of 3.1.1
// are the identifier alone.
func readAck(body []byte) (id uint16, code ReasonCode, reason string) {
	if id = binary.BigEndian.Uint16(body); len(body) == 2 {
		return id, 0, ""
	}
	if code = ReasonCode(body[2]); len(body) > 4 {
		_, size, _ := variableInteger(body[3:])
		reason = string(findProperty(body[3+size:], reasonString))
	}
	return id, code, reason
}

// readDisconnect reads the body of a DISCONNECT that was checked.
func readDisconnect(body []byte) *DisconnectError {
	e := new(DisconnectError)
	if len(body) > 0 {
		e.Code = ReasonCode(body[0])
	}
	if len(body) > 1 {
		const serverReference = 0x1c
		_, size, _ := variableInteger(body[1:])
		props := body[1+size:]
		e.Reason, e.Server = string(findProperty(props, reasonString)), string(findProperty(props, serverReference))
	}
	return e
}

// decode5 reads a packet of one type, and keeps nothing of the frame.
func decode5[T packets.Packet](frame []byte) (p T, err error) {
	read, err := packets.ReadPacket(bytes.NewReader(frame))
	if err != nil {
		return p, malformedPacket("2.2.2", shapes5[frame[0]>>4].name+" that cannot be read", frame)
	}
	p, ok := read.Content.(T)
	if !ok {
		return p, malformedPacket("2.1.2", shapes5[frame[0]>>4].name+" that cannot be read", frame)
	}
	return p, nil
}
