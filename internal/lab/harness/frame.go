package harness

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A Frame is an MQTT packet as it is on the wire. Who stands between a client and a broker
// passes frames on as they came, whichever version they are of, and looks at no more of
// them than it has to.
type Frame []byte

// mostFrame is the most that a frame is read of: more than topicast ever writes.
const mostFrame = 1 << 20

// ReadFrame reads one.
func ReadFrame(r *bufio.Reader) (Frame, error) {
	for size := 2; ; size++ {
		head, err := r.Peek(size)
		if err != nil {
			return nil, err
		}
		if head[size-1] > 0x7f {
			if size == 5 {
				return nil, errors.New("a length that does not end")
			}
			continue
		}
		length, _ := binary.Uvarint(head[1:])
		if length > mostFrame {
			return nil, fmt.Errorf("a frame of %d bytes", length)
		}
		f := make(Frame, size+int(length))
		_, err = io.ReadFull(r, f)
		return f, err
	}
}

// Kind is the type of the packet.
func (f Frame) Kind() byte { return f[0] >> 4 }

// Body is what is behind the fixed header; what is written to it is written to the frame.
func (f Frame) Body() []byte {
	_, n := binary.Uvarint(f[1:])
	return f[1+n:]
}

// IsFive reports whether a CONNECT asks for MQTT 5.
func (f Frame) IsFive() bool {
	b := f.Body()
	return f.Kind() == packets.Connect && len(b) > 6 && b[6] == 5
}

// Codes are those of a SUBACK, which may be written to; nil if it cannot be read.
func (f Frame) Codes(five bool) []byte { return f.behindProperties(five) }

// Filters are those of a SUBSCRIBE or an UNSUBSCRIBE, as far as they can be read.
func (f Frame) Filters(five bool) (filters []string) {
	options := 0
	if f.Kind() == packets.Subscribe {
		options = 1
	}
	for b := f.behindProperties(five); len(b) >= 2; {
		end := 2 + int(binary.BigEndian.Uint16(b))
		if end+options > len(b) {
			break
		}
		filters = append(filters, string(b[2:end]))
		b = b[end+options:]
	}
	return filters
}

// behindProperties is what is behind the identifier, and in MQTT 5 the properties.
func (f Frame) behindProperties(five bool) []byte {
	b := f.Body()
	if len(b) < 2 {
		return nil
	}
	b = b[2:]
	if !five {
		return b
	}
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return nil
	}
	return b[n+int(length):]
}
