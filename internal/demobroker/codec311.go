package demobroker

import (
	"bytes"
	"fmt"
	"io"

	"github.com/eclipse/paho.golang/packets"
	old "github.com/eclipse/paho.mqtt.golang/packets"
)

// codec311 is the codec of MQTT 3.1.1.
type codec311 struct{}

func (codec311) connect(frame []byte) (*packets.Connect, error) {
	p, err := old.ReadPacket(bytes.NewReader(frame))
	c, ok := p.(*old.ConnectPacket)
	if !ok {
		return nil, errNotConnect
	}
	// The version stands first, so it is known of a packet that another version
	// made and that cannot be read to its end.
	switch code := c.Validate(); {
	case code == old.Accepted && c.ProtocolVersion == 4:
	case code == old.Accepted, code == old.ErrRefusedBadProtocolVersion:
		return nil, &fault{badVersion, "another version of MQTT"}
	case code == old.ErrRefusedIDRejected:
		return nil, &fault{badIdentifier, "no client identifier, and a session [MQTT-3.1.3-8]"}
	default:
		return nil, &fault{protocolError, "CONNECT breaks the protocol"}
	}
	if err != nil {
		return nil, err
	}
	return &packets.Connect{
		ProtocolName: c.ProtocolName, ProtocolVersion: c.ProtocolVersion, Properties: new(packets.Properties),
		CleanStart: c.CleanSession, ClientID: c.ClientIdentifier, KeepAlive: c.Keepalive,
		WillFlag: c.WillFlag, WillTopic: c.WillTopic, WillMessage: c.WillMessage, WillQOS: c.WillQos, WillRetain: c.WillRetain,
	}, nil
}

func (codec311) read(frame []byte) (packets.Packet, error) {
	p, err := old.ReadPacket(bytes.NewReader(frame))
	if err != nil {
		return nil, err
	}
	none := new(packets.Properties)
	switch p := p.(type) {
	case *old.PublishPacket:
		return &packets.Publish{Topic: p.TopicName, Payload: p.Payload, QoS: p.Qos, Retain: p.Retain, Duplicate: p.Dup, PacketID: p.MessageID, Properties: none}, nil
	case *old.PubackPacket:
		return &packets.Puback{PacketID: p.MessageID}, nil
	case *old.PubrecPacket:
		return &packets.Pubrec{PacketID: p.MessageID}, nil
	case *old.PubrelPacket:
		return &packets.Pubrel{PacketID: p.MessageID}, nil
	case *old.PubcompPacket:
		return &packets.Pubcomp{PacketID: p.MessageID}, nil
	case *old.SubscribePacket:
		s := &packets.Subscribe{PacketID: p.MessageID, Properties: none}
		for i, filter := range p.Topics {
			s.Subscriptions = append(s.Subscriptions, packets.SubOptions{Topic: filter, QoS: p.Qoss[i]})
		}
		return s, nil
	case *old.UnsubscribePacket:
		return &packets.Unsubscribe{PacketID: p.MessageID, Topics: p.Topics}, nil
	case *old.PingreqPacket:
		return new(packets.Pingreq), nil
	case *old.DisconnectPacket:
		return new(packets.Disconnect), nil
	}
	return nil, fmt.Errorf("unexpected %s", p)
}

func (codec311) write(w io.Writer, p packets.Packet) error {
	var out old.ControlPacket
	switch p := p.(type) {
	case *packets.Connack:
		code := map[byte]byte{0: old.Accepted, badVersion: old.ErrRefusedBadProtocolVersion, badIdentifier: old.ErrRefusedIDRejected}
		answer, known := code[p.ReasonCode]
		if !known {
			return nil // 3.1.1 closes the connection without a word [MQTT-3.1.4-1]
		}
		out = &old.ConnackPacket{FixedHeader: header(old.Connack), ReturnCode: answer}
	case *packets.Publish:
		m := &old.PublishPacket{FixedHeader: header(old.Publish), TopicName: p.Topic, Payload: p.Payload, MessageID: p.PacketID}
		m.Qos, m.Retain = p.QoS, p.Retain
		out = m
	case *packets.Puback:
		out = &old.PubackPacket{FixedHeader: header(old.Puback), MessageID: p.PacketID}
	case *packets.Pubrec:
		out = &old.PubrecPacket{FixedHeader: header(old.Pubrec), MessageID: p.PacketID}
	case *packets.Pubrel:
		rel := &old.PubrelPacket{FixedHeader: header(old.Pubrel), MessageID: p.PacketID}
		rel.Qos = 1 // the flags of a PUBREL [MQTT-3.6.1-1]
		out = rel
	case *packets.Pubcomp:
		out = &old.PubcompPacket{FixedHeader: header(old.Pubcomp), MessageID: p.PacketID}
	case *packets.Suback:
		codes := bytes.Clone(p.Reasons)
		for i, code := range codes {
			codes[i] = min(code, refusesFrom)
		}
		out = &old.SubackPacket{FixedHeader: header(old.Suback), MessageID: p.PacketID, ReturnCodes: codes}
	case *packets.Unsuback:
		out = &old.UnsubackPacket{FixedHeader: header(old.Unsuback), MessageID: p.PacketID}
	case *packets.Pingresp:
		out = &old.PingrespPacket{FixedHeader: header(old.Pingresp)}
	case *packets.Disconnect:
		return nil // brokers of 3.1.1 do not say goodbye
	}
	return out.Write(w)
}

func header(kind byte) old.FixedHeader { return old.FixedHeader{MessageType: kind} }
