package session

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// peer5 is the broker's end of one connection of MQTT 5.
type peer5 struct {
	*peer
	in5 chan *packets.ControlPacket // closed at the end of the stream
}

// accept5 waits for the next connection, which is to be one of MQTT 5.
func (b *broker) accept5() *peer5 {
	b.t.Helper()
	p := &peer5{peer: b.acceptSilent(), in5: make(chan *packets.ControlPacket, 1<<14)}
	go func() {
		defer close(p.in5)
		for {
			cp, err := packets.ReadPacket(p.Conn)
			if err != nil {
				return
			}
			if cp.Type == packets.PINGREQ && !p.mute {
				go func() { _, _ = p.Write(pingResponse) }()
			}
			p.in5 <- cp
		}
	}()
	return p
}

// expect5 waits for a packet of one type, letting PINGREQ pass.
func expect5[T packets.Packet](p *peer5) T {
	p.t.Helper()
	for {
		select {
		case cp := <-p.in5:
			var want T
			if cp == nil {
				p.t.Fatalf("the connection has ended, want %T", want)
			}
			if got, ok := cp.Content.(T); ok {
				return got
			}
			if cp.Type != packets.PINGREQ {
				p.t.Fatalf("got %v, want %T", cp, want)
			}
		case <-time.After(patience):
			p.t.Fatal("no packet")
		}
	}
}

// ended waits for the end of the connection, and gives the code of the DISCONNECT that was last; -1:
// there was none.
func (p *peer5) ended() (code int) {
	p.t.Helper()
	code = -1
	for {
		select {
		case cp := <-p.in5:
			if cp == nil {
				return code
			}
			if d, ok := cp.Content.(*packets.Disconnect); ok {
				code = int(d.ReasonCode)
			}
		case <-time.After(patience):
			p.t.Fatal("the connection does not end")
		}
	}
}

// greet5 accepts a connection and its CONNECT, with a CONNACK that has these properties.
func (b *broker) greet5(props ...byte) *peer5 {
	b.t.Helper()
	p := b.accept5()
	expect5[*packets.Connect](p)
	p.send(connack5(false, 0, props...))
	return p
}

// suback5 answers a SUBSCRIBE with a code for each filter.
func (p *peer5) suback5(code byte, props ...byte) *packets.Subscribe {
	p.t.Helper()
	s := expect5[*packets.Subscribe](p)
	body := append(binary.BigEndian.AppendUint16(nil, s.PacketID), withLength(props)...)
	for range s.Subscriptions {
		body = append(body, code)
	}
	p.send(frame(0x90, body...))
	return s
}

// withLength is properties with their length before them.
func withLength(props []byte) []byte {
	return append(frame(0, props...)[1:], []byte(nil)...)
}

func connack5(present bool, code byte, props ...byte) []byte {
	return frame(0x20, append([]byte{map[bool]byte{true: 1}[present], code}, withLength(props)...)...)
}

// ack5 is a PUBACK, PUBREC, PUBREL or PUBCOMP with a code.
func ack5(first byte, id uint16, code byte, props ...byte) []byte {
	return frame(first, append([]byte{byte(id >> 8), byte(id), code}, withLength(props)...)...)
}

// publish5 builds a PUBLISH with properties.
func publish5(flags byte, topic string, id uint16, props []byte, payload string) []byte {
	body := append(binary.BigEndian.AppendUint16(nil, uint16(len(topic))), topic...)
	if flags&0x06 != 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	return frame(0x30|flags, append(append(body, withLength(props)...), payload...)...)
}

// text5 is a property that is a string.
func text5(id byte, text string) []byte {
	return append([]byte{id, byte(len(text) >> 8), byte(len(text))}, text...)
}

// five has a session speak MQTT 5.
func five(o Options) Options {
	o.Protocol = Protocol5
	return o
}

func start5(t testing.TB, b *broker, o Options) *client {
	t.Helper()
	o.URLs = []string{b.url()}
	return start(t, five(o), b.use)
}
