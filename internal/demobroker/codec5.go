package demobroker

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"

	"topicast/mapping"
)

// codec5 is the codec of MQTT 5. What paho's packets do not look at is checked here: what
// is passed on to other clients must be such that they can read it.
type codec5 struct{}

func (codec5) connect(frame []byte) (*packets.Connect, error) {
	b := body(frame)
	if frame[0]>>4 != packets.CONNECT {
		return nil, errNotConnect
	}
	p, err := codec5{}.read(frame)
	if err != nil {
		return nil, err
	}
	c := p.(*packets.Connect)
	flags := b[2+len(c.ProtocolName)+1]
	switch {
	case c.ProtocolName != "MQTT":
		return nil, fmt.Errorf("protocol %q [MQTT-3.1.2-1]", c.ProtocolName)
	case flags&1 != 0:
		return nil, &fault{malformed, "CONNECT with its reserved flag set [MQTT-3.1.2-3]"}
	case !c.WillFlag && flags&0x38 != 0, c.WillQOS == 3:
		return nil, &fault{malformed, "CONNECT with flags of a will that there is not [MQTT-3.1.2-11]"}
	case c.Properties.AuthMethod != "":
		return nil, &fault{badAuth, "CONNECT with an authentication method"}
	case c.Properties.ReceiveMaximum != nil && *c.Properties.ReceiveMaximum == 0,
		c.Properties.MaximumPacketSize != nil && *c.Properties.MaximumPacketSize == 0:
		return nil, &fault{protocolError, "CONNECT with a limit of 0"}
	}
	if c.WillFlag {
		return c, checkMessage(c.WillProperties)
	}
	return c, nil
}

func (codec5) read(frame []byte) (packets.Packet, error) {
	kind, b := frame[0]>>4, body(frame)
	if kind == packets.DISCONNECT && len(b) == 0 { // paho reads none without a reason code
		return new(packets.Disconnect), nil
	}
	if !propertiesFit(frame[0], b) {
		return nil, &fault{malformed, "properties that do not fit their packet [MQTT-2.2.2-1]"}
	}
	p, err := packets.ReadPacket(bytes.NewReader(frame))
	if err != nil {
		return nil, &fault{malformed, err.Error()}
	}
	if m, ok := p.Content.(*packets.Publish); ok {
		switch {
		case m.Properties.TopicAlias != nil:
			return nil, &fault{badAlias, "a topic alias, of which none are allowed [MQTT-3.3.2-9]"}
		case m.Properties.SubscriptionIdentifier != nil:
			return nil, &fault{protocolError, "PUBLISH with a subscription identifier [MQTT-3.3.4-6]"}
		}
		return m, checkMessage(m.Properties)
	}
	return p.Content, nil
}

func (codec5) write(w io.Writer, p packets.Packet) error {
	_, err := p.WriteTo(w)
	return err
}

// propertiesFit reports whether the properties of a packet end where it does, or before.
func propertiesFit(first byte, b []byte) bool {
	at := 0
	switch first >> 4 {
	case packets.CONNECT: // the name, the level, the flags and the keep-alive
		at = lengthAt(b) + 4
	case packets.PUBLISH:
		at = lengthAt(b)
		if first>>1&3 > 0 {
			at += 2
		}
	case packets.SUBSCRIBE, packets.UNSUBSCRIBE:
		at = 2
	case packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP:
		if len(b) == 2 || len(b) == 3 {
			return true
		}
		at = 3
	case packets.DISCONNECT:
		if len(b) == 1 {
			return true
		}
		at = 1
	default:
		return true
	}
	for i, length := 0, 0; i < 4 && at+i < len(b); i++ {
		length |= int(b[at+i]&0x7f) << (7 * i)
		if b[at+i] <= 0x7f {
			return length <= len(b)-at-i-1
		}
	}
	return false
}

// lengthAt is how long the text is that b begins with, with its length.
func lengthAt(b []byte) int {
	if len(b) < 2 {
		return len(b)
	}
	return 2 + int(b[0])<<8 + int(b[1])
}

// checkMessage checks the properties of a message, which others are to read.
func checkMessage(p *packets.Properties) error {
	if p.PayloadFormat != nil && *p.PayloadFormat > 1 {
		return &fault{badPayloadForm, "a payload format other than 0 and 1"}
	}
	if p.ResponseTopic != "" && mapping.CheckTopic(p.ResponseTopic) != nil {
		return &fault{badTopic, "a response topic that is no topic [MQTT-3.3.2-14]"}
	}
	texts := []string{p.ContentType}
	for _, u := range p.User {
		texts = append(texts, u.Key, u.Value)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			return &fault{malformed, "a property that is no UTF-8 text [MQTT-1.5.4-1]"}
		}
	}
	return nil
}
