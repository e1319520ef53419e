package mapping

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// A Payload is the way from a message's payload to a datagram's:
//
//	raw               as it is
//	hex               hexadecimal text to bytes
//	base64            base64 text to bytes
//	json:/a/b         the field a JSON Pointer (RFC 6901) names
//	json:/a/b|hex     the same, a string that is hexadecimal text, to bytes
//	json:/a/b|base64  the same with base64
//	json:/a/b|bytes   the same, an array of integers from 0 to 255, to those bytes;
//	                  or a Buffer as Node.js writes it, {"type":"Buffer","data":[1,2]}
//
// The zero Payload is raw. An immutable value.
type Payload struct {
	text    string
	codec   codec
	json    bool
	pointer []string // the pointer's tokens, unescaped
}

type codec uint8

const (
	codecRaw codec = iota
	codecHex
	codecBase64
	codecBytes // of JSON only
)

var codecNames = wordList{"raw", "hex", "base64", "bytes"}

// ParsePayload reads the name of a way.
func ParsePayload(s string) (Payload, error) {
	p := Payload{text: s}
	name := s
	pointer, ok := strings.CutPrefix(s, "json:")
	if ok {
		p.json, name = true, "raw"
		// A | in the pointer itself is possible if a codec stands behind it: /a|b|raw.
		if i := strings.LastIndexByte(pointer, '|'); i >= 0 {
			pointer, name = pointer[:i], pointer[i+1:]
		}
		var err error
		if p.pointer, err = parsePointer(pointer); err != nil {
			return Payload{}, fmt.Errorf("payload %s: %w", quote(s), err)
		}
	}
	for i, known := range codecNames {
		if name == known && (p.json || codec(i) != codecBytes) {
			p.codec = codec(i)
			return p, nil
		}
	}
	if p.json {
		return Payload{}, fmt.Errorf("payload %s: %s is no codec; after | comes %s", quote(s), quote(name), codecNames)
	}
	return Payload{}, notOneOf("payload", s, append(codecNames[:codecBytes:codecBytes], "json:/pointer"))
}

// String returns the way as written; "raw" for the zero Payload.
func (p Payload) String() string {
	if p.text == "" {
		return "raw"
	}
	return p.text
}

// Raw reports whether Decode changes nothing.
func (p Payload) Raw() bool { return p.codec == codecRaw && !p.json }

// Equal reports whether two ways are written alike.
func (p Payload) Equal(other Payload) bool { return p.String() == other.String() }

// MarshalText returns the way as written.
func (p Payload) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePayload.
func (p *Payload) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePayload(string(text))
	return err
}

// Decode appends to dst what src, a message's payload, becomes. On error it
// returns dst as it was. It keeps nothing of src.
func (p Payload) Decode(dst, src []byte) ([]byte, error) {
	start := len(dst)
	if p.json {
		value, err := findJSON(src, p.pointer)
		if err != nil {
			return dst, err
		}
		if p.codec == codecBytes {
			if dst, err = appendNumbers(dst, value); err != nil {
				return dst[:start], fmt.Errorf("json: %s: %w", pointerText(p.pointer), err)
			}
			return dst, nil
		}
		if p.codec != codecRaw && value[0] != '"' {
			return dst, fmt.Errorf("json: %s is %s, not a string", pointerText(p.pointer), kindOf(value))
		}
		src = value
		if value[0] == '"' {
			// The string goes to the end of dst first, to be decoded from there.
			if dst, err = unquote(dst, value); err != nil {
				return dst[:start], fmt.Errorf("json: %s: %w", pointerText(p.pointer), err)
			}
			if p.codec == codecRaw {
				return dst, nil
			}
			src = dst[start:]
		}
	}
	end := len(dst)
	var err error
	switch p.codec {
	case codecRaw:
		dst = append(dst, src...)
	case codecHex:
		dst, err = appendHex(dst, src)
	case codecBase64:
		dst, err = appendBase64(dst, src)
	}
	if err != nil {
		return dst[:start], err
	}
	return append(dst[:start], dst[end:]...), nil
}

// appendHex decodes hexadecimal text: two digits a byte in either case, ASCII
// white space between bytes.
func appendHex(dst, src []byte) ([]byte, error) {
	high, pending := byte(0), false
	for i, c := range src {
		digit, ok := hexDigit(c)
		switch {
		case ok && pending:
			dst, pending = append(dst, high<<4|digit), false
		case ok:
			high, pending = digit, true
		case isSpace(c) && pending:
			return dst, fmt.Errorf("hex: white space inside a byte, at byte %d of the text; a byte is two digits", i)
		case !isSpace(c):
			return dst, fmt.Errorf("hex: %s at byte %d of the text is no hexadecimal digit", quote(string([]byte{c})), i)
		}
	}
	if pending {
		return dst, fmt.Errorf("hex: the text of %d bytes ends inside a byte; a byte is two digits", len(src))
	}
	return dst, nil
}

func hexDigit(c byte) (value byte, ok bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

var (
	stdBase64    = base64.StdEncoding.Strict()
	urlBase64    = base64.URLEncoding.Strict()
	rawStdBase64 = base64.RawStdEncoding.Strict()
	rawURLBase64 = base64.RawURLEncoding.Strict()
)

// appendBase64 decodes base64 text (RFC 4648): either alphabet, though not both
// in one text; padding whole or none; line ends allowed. Bits behind the last
// byte must be zero (section 3.5), so that a cut text does not pass for a whole one.
func appendBase64(dst, src []byte) ([]byte, error) {
	url, padded := bytes.ContainsAny(src, "-_"), bytes.IndexByte(src, '=') >= 0
	var encoding *base64.Encoding
	switch {
	case url && padded:
		encoding = urlBase64
	case url:
		encoding = rawURLBase64
	case padded:
		encoding = stdBase64
	default:
		encoding = rawStdBase64
	}
	dst, err := encoding.AppendDecode(dst, src)
	if corrupt, ok := errors.AsType[base64.CorruptInputError](err); ok {
		err = fmt.Errorf("base64: the text of %d bytes is wrong at byte %d", len(src), int64(corrupt))
	}
	return dst, err
}
