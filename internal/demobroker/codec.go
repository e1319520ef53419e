package demobroker

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/eclipse/paho.golang/packets"
)

// The broker knows the packets of MQTT 5 alone. A client of 3.1.1 has a codec that makes
// them of its own packets, and back, and leaves out what only MQTT 5 has: properties and
// reason codes.

// A codec reads and writes the packets of one version.
type codec interface {
	// connect reads a CONNECT. Some error is a *fault, whose code refuses the client.
	connect(frame []byte) (*packets.Connect, error)
	// read reads what comes behind it. Some error is a *fault.
	read(frame []byte) (packets.Packet, error)
	write(w io.Writer, p packets.Packet) error
}

// A fault is what a client did that ends its connection, with the reason code of MQTT 5.
type fault struct {
	code byte
	what string
}

func (f *fault) Error() string { return f.what }

// Reason codes, section 2.4.
const (
	noSubscribers   = 0x10
	noSubscription  = 0x11
	malformed       = 0x81
	protocolError   = 0x82
	badVersion      = 0x84
	badIdentifier   = 0x85
	badAuth         = 0x8c
	keepAliveOver   = 0x8d
	takenOver       = 0x8e
	badFilter       = 0x8f
	badTopic        = 0x90
	unknownID       = 0x92
	badAlias        = 0x94
	tooLarge        = 0x95
	quotaExceeded   = 0x97
	badPayloadForm  = 0x99
	noShared        = 0x9e
	refusesFrom     = 0x80 // codes from here on are refusals
	withWillMessage = 0x04 // of a DISCONNECT
)

// readFrame reads a packet, once its fixed header is found in order: paho's packets look
// at neither flags nor size.
func readFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	flags := head[0] & 0x0f
	switch kind := head[0] >> 4; kind {
	case packets.PUBLISH:
		if qos := flags >> 1 & 3; qos == 3 {
			return nil, &fault{malformed, "QoS 3 [MQTT-3.3.1-4]"}
		}
	case packets.PUBREL, packets.SUBSCRIBE, packets.UNSUBSCRIBE:
		flags ^= 2
		fallthrough
	default:
		if flags != 0 {
			return nil, &fault{malformed, fmt.Sprintf("flags of packet type %d [MQTT-2.1.3-1]", kind)}
		}
	}
	length := 0
	for i := 1; ; i++ {
		if head, err = r.Peek(i + 1); err != nil {
			return nil, err
		}
		length |= int(head[i]&0x7f) << (7 * (i - 1))
		if length > maxPacket || i == 4 && head[i] > 0x7f {
			return nil, &fault{tooLarge, fmt.Sprintf("packet of more than %d bytes", maxPacket)}
		}
		if head[i] <= 0x7f {
			frame := make([]byte, i+1+length)
			_, err := io.ReadFull(r, frame)
			return frame, err
		}
	}
}

// body is what is behind the fixed header of a frame.
func body(frame []byte) []byte {
	for i, b := range frame[1:] {
		if b <= 0x7f {
			return frame[i+2:]
		}
	}
	return nil
}

// codecOf is that of the version that a CONNECT asks for: 3.1.1 for all but 5, which
// refuses the others.
func codecOf(frame []byte) codec {
	b := body(frame)
	if len(b) >= 2 {
		if level := 2 + int(b[0])<<8 + int(b[1]); level < len(b) && b[level] == 5 {
			return codec5{}
		}
	}
	return codec311{}
}

var errNotConnect = errors.New("no CONNECT [MQTT-3.1.0-1]")
