package mapping

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// An Encoding is the way from a datagram's payload to a message's, the reverse
// of a Payload:
//
//	raw     as it is
//	hex     bytes to hexadecimal text, in lower case
//	base64  bytes to base64 text (RFC 4648 section 4, padded)
//	json    an envelope, which tells where the datagram came from as well
//
// An envelope is one JSON object of these members, in this order:
//
//	payload      the payload, as encoding says
//	encoding     "utf-8": payload is the datagram's text; "base64": its bytes in base64
//	source       the sender, "192.0.2.7:1234" or "[2001:db8::7]:1234"
//	group        the group it was sent to, "239.1.2.3:5000"; of a datagram that came to the host
//	             itself it is destination, the address it was sent to, "192.0.2.1:5000"
//	interface    name of the interface it arrived on
//	received_at  when it did, in UTC and up to the nanosecond (RFC 3339)
//
// Text is a payload that is UTF-8 without control characters other than tab,
// line feed and carriage return; base64 carries every other. So a payload that
// is text by chance is still the same bytes when decoded as encoding says.
type Encoding uint8

const (
	EncodingRaw Encoding = iota
	EncodingHex
	EncodingBase64
	EncodingJSON
)

var encodingNames = wordList{"raw", "hex", "base64", "json"}

// ParseEncoding reads raw, hex, base64 or json.
func ParseEncoding(s string) (Encoding, error) {
	if strings.HasPrefix(s, "json:") {
		return 0, fmt.Errorf("payload %s: is not %s; json alone puts a datagram into an envelope, a pointer takes a field from a message that is to be sent", quote(s), encodingNames)
	}
	i, err := parseName("payload", s, encodingNames)
	return Encoding(i), err
}

// String returns raw, hex, base64 or json.
func (e Encoding) String() string {
	return encodingNames.word(int(e), int(e), "Encoding")
}

// MarshalText is String.
func (e Encoding) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText is ParseEncoding.
func (e *Encoding) UnmarshalText(text []byte) (err error) {
	*e, err = ParseEncoding(string(text))
	return err
}

// Raw reports whether Append changes nothing.
func (e Encoding) Raw() bool { return e == EncodingRaw }

// Empties reports whether an empty datagram makes an empty message.
func (e Encoding) Empties() bool { return e != EncodingJSON }

// Append appends to dst what a datagram's payload becomes. It allocates nothing
// unless dst grows, and keeps nothing of payload.
func (e Encoding) Append(dst, payload []byte, a *Arrival) []byte {
	switch e {
	case EncodingHex:
		return hex.AppendEncode(dst, payload)
	case EncodingBase64:
		return base64.StdEncoding.AppendEncode(dst, payload)
	case EncodingJSON:
		return appendEnvelope(dst, payload, a)
	}
	return append(dst, payload...)
}

// envelopeSize is about what an envelope takes beside its payload.
const envelopeSize = 200

func appendEnvelope(dst, payload []byte, a *Arrival) []byte {
	dst = slices.Grow(dst, envelopeSize+base64.StdEncoding.EncodedLen(len(payload)))
	if isText(payload) {
		dst = append(dst, `{"payload":`...)
		dst = appendQuoted(dst, payload)
		dst = append(dst, `,"encoding":"utf-8"`...)
	} else {
		dst = append(dst, `{"payload":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, payload)
		dst = append(dst, `","encoding":"base64"`...)
	}
	dst = append(dst, `,"source":"`...)
	dst = a.Source.AppendTo(dst)
	if a.To.Addr().IsMulticast() {
		dst = append(dst, `","group":"`...)
	} else {
		dst = append(dst, `","destination":"`...)
	}
	dst = a.To.AppendTo(dst)
	dst = append(dst, `","interface":`...)
	dst = appendQuoted(dst, strings.ToValidUTF8(a.Interface, "\ufffd")) // Linux takes any bytes for a name
	dst = append(dst, `,"received_at":"`...)
	dst = a.At.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, `"}`...)
}

// isText reports whether a payload goes into an envelope as it is.
func isText(payload []byte) bool {
	for _, c := range payload {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(payload)
}

// appendQuoted appends a JSON string (RFC 8259 section 7) of a text in UTF-8.
func appendQuoted[T string | []byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i := range len(text) {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(dst, text[done:]...), '"')
}
