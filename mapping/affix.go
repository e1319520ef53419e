package mapping

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// An Affix is what stands before or behind the payload of each datagram: a text as it is, or
// bytes as hex:0d0a. The zero Affix is nothing. An immutable value.
type Affix struct{ *affix } // a pointer, as most of many rules have none

type affix struct{ text, bytes string }

// maxAffix is how many bytes of each datagram an Affix may be.
const maxAffix = 1024

// ParseAffix reads a text, or bytes behind hex:, two hexadecimal digits each and nothing between
// them. Errors do not say which key it is about.
func ParseAffix(s string) (Affix, error) {
	if s == "" {
		return Affix{}, nil
	}
	a := affix{s, s}
	if digits, ok := strings.CutPrefix(s, "hex:"); ok {
		b, err := hex.DecodeString(digits)
		switch {
		case err != nil:
			return Affix{}, fmt.Errorf("%s: behind hex: stand bytes of two hexadecimal digits each, as in hex:0d0a", quote(s))
		case len(b) == 0:
			return Affix{}, errors.New("hex: is no bytes; leave the key out for none")
		}
		a.bytes = string(b)
	}
	if len(a.bytes) > maxAffix {
		return Affix{}, fmt.Errorf("%d bytes are more than the %d that may stand before or behind a payload", len(a.bytes), maxAffix)
	}
	return Affix{&a}, nil
}

// Bytes returns the bytes themselves.
func (a Affix) Bytes() string {
	if a.affix == nil {
		return ""
	}
	return a.bytes
}

// String returns it as written; "" for the zero Affix.
func (a Affix) String() string {
	if a.affix == nil {
		return ""
	}
	return a.text
}

// Equal reports whether two are written alike.
func (a Affix) Equal(other Affix) bool { return a.String() == other.String() }

// MarshalText returns it as written.
func (a Affix) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is ParseAffix.
func (a *Affix) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAffix(strings.Clone(string(text)))
	return err
}
