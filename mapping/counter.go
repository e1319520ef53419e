package mapping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// A Counter is bytes of a datagram that count up with each datagram for a target. The zero
// Counter is none.
type Counter struct {
	at     uint16
	size   uint8 // 1, 2 or 4 bytes; 0: none
	little bool
}

// ParseCounter reads a kind and the byte it begins at, from 0: u8@111, u16@4, u32le@0; "" is none.
func ParseCounter(s string) (Counter, error) {
	if s == "" {
		return Counter{}, nil
	}
	e, _, err := lexExtract(s)
	c := Counter{uint16(e.offset), uint8(e.length), e.little}
	if err == nil && (e.kind != extractNumber || e.signed || e.length > 4 || c.String() != s) {
		err = errors.New("is not u8, u16, u32, u16le or u32le, @ and the byte it begins at, such as u8@111")
	}
	if err != nil {
		return Counter{}, fmt.Errorf("counter %s: %w", quote(s), err)
	}
	return c, nil
}

// IsZero reports whether there is none.
func (c Counter) IsZero() bool { return c.size == 0 }

// End is how long a payload must be at least to hold it, in bytes; 0: there is none.
func (c Counter) End() int { return int(c.at) + int(c.size) }

// Put writes the low bytes of a number into a payload of End bytes at least.
func (c Counter) Put(payload []byte, n uint32) {
	var order binary.ByteOrder = binary.BigEndian
	if c.little {
		order = binary.LittleEndian
	}
	switch to := payload[c.at:]; c.size {
	case 1:
		to[0] = byte(n)
	case 2:
		order.PutUint16(to, uint16(n))
	case 4:
		order.PutUint32(to, n)
	}
}

// String returns the counter as written; "" for the zero Counter.
func (c Counter) String() string {
	if c.size == 0 {
		return ""
	}
	text := "u" + strconv.Itoa(8*int(c.size))
	if c.little {
		text += "le"
	}
	return text + "@" + strconv.Itoa(int(c.at))
}

// MarshalText is String.
func (c Counter) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseCounter.
func (c *Counter) UnmarshalText(text []byte) (err error) {
	*c, err = ParseCounter(string(text))
	return err
}
