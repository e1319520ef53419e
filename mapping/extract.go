package mapping

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An extract is a value that stands at a fixed place of a payload:
//
//	u8@N u16@N u32@N u64@N   an unsigned number, high byte first, from byte N on, the first byte being 0
//	i8@N i16@N i32@N i64@N   a signed one
//	u16le@N i32le@N …        the same, low byte first
//	hex@N:L                  the L bytes from byte N on, as hexadecimal text in lower case
//	text@N:L                 the same as they are, without the NUL bytes that fill them up at the end
//	json:/a/b                the field of a JSON document that a pointer (RFC 6901) names
//	property.name            not of the payload, but a user property of the message (property.go)
type extract struct {
	text   string // as written
	kind   extractKind
	signed bool
	little bool
	offset int
	length int
	// pointer is of json, unescaped.
	pointer []string
	name    string // of a property
}

type extractKind uint8

const (
	extractNumber extractKind = iota
	extractHex
	extractText
	extractJSON
	extractProperty
	extractContentType // in a condition of messages
	extractCapture     // in an AnswerTopic, a capture of the filter: its text is the name
)

// maxPayload is the most bytes of a datagram (IPv4).
const maxPayload = 65507

// extractWords are what stands before an @, for errors.
const extractWords = "u8 u16 u32 u64 and i8 i16 i32 i64, the longer ones with le for the low byte first, hex and text"

// lexExtract reads the extract that s begins with, and says how long it is: 0 where s
// begins with another thing.
func lexExtract(s string) (e extract, n int, err error) {
	if strings.HasPrefix(s, "json:") {
		return lexPointer(s)
	}
	if e, n, err = lexProperty(s); n > 0 || err != nil {
		return e, n, err
	}
	n = nameLength(s)
	if n == 0 || n == len(s) || s[n] != '@' {
		return e, 0, nil
	}
	word, rest := s[:n], s[n+1:]
	if e, err = extractOf(word); err != nil {
		return e, 0, err
	}
	var digits int
	if e.offset, digits, err = lexPlace(rest, word+"@"); err != nil {
		return e, 0, err
	}
	n += 1 + digits
	if e.kind != extractNumber {
		rest = rest[digits:]
		if !strings.HasPrefix(rest, ":") {
			return e, 0, fmt.Errorf("%s has no length; write %s:8 for 8 bytes", s[:n], s[:n])
		}
		if e.length, digits, err = lexPlace(rest[1:], s[:n]+":"); err != nil {
			return e, 0, err
		}
		if n += 1 + digits; e.length == 0 {
			return e, 0, fmt.Errorf("%s is of no bytes", s[:n])
		}
	}
	e.text = s[:n]
	if e.offset+e.length > maxPayload {
		return e, 0, fmt.Errorf("%s ends behind the %d bytes of the largest datagram", e.text, maxPayload)
	}
	return e, n, nil
}

// extractOf is what the word before an @ says.
func extractOf(word string) (e extract, err error) {
	switch word {
	case "hex":
		return extract{kind: extractHex}, nil
	case "text":
		return extract{kind: extractText}, nil
	}
	bits, little := strings.CutSuffix(word[1:], "le")
	e = extract{kind: extractNumber, signed: word[0] == 'i', little: little}
	switch bits {
	case "8":
		e.length = 1
	case "16":
		e.length = 2
	case "32":
		e.length = 4
	case "64":
		e.length = 8
	}
	if e.length == 0 || e.length == 1 && little || word[0] != 'u' && word[0] != 'i' {
		return e, fmt.Errorf("%s@ is no field of a payload; before the @ stand %s", word, extractWords)
	}
	return e, nil
}

// lexPlace reads an offset or a length, in decimal.
func lexPlace(s, before string) (value, n int, err error) {
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n == 0 {
		return 0, 0, fmt.Errorf("%s is followed by no number of bytes, as in u16@16 or text@0:12", before)
	}
	if value, err = strconv.Atoi(s[:n]); err != nil || value > maxPayload {
		return 0, 0, fmt.Errorf("%s%s is more than the %d bytes of the largest datagram", before, s[:n], maxPayload)
	}
	return value, n, nil
}

// lexPointer reads json: and its pointer, which ends at a blank or at what can be an operator;
// in quotes it may hold these too.
func lexPointer(s string) (e extract, n int, err error) {
	n = len("json:")
	var pointer string
	if strings.HasPrefix(s[n:], `"`) {
		quoted, err := strconv.QuotedPrefix(s[n:])
		if err == nil {
			pointer, err = strconv.Unquote(quoted)
		}
		if err != nil {
			return e, 0, errors.New(`json:" is followed by no text that ends in "`)
		}
		n += len(quoted)
	} else {
		end := strings.IndexAny(s[n:], " \t()!=<>&|+*%^\"{},")
		if end < 0 {
			end = len(s) - n
		}
		pointer = s[n : n+end]
		n += end
	}
	if pointer == "" {
		return e, 0, errors.New("json: names no field, as json:/id does")
	}
	tokens, err := parsePointer(pointer)
	return extract{kind: extractJSON, text: s[:n], pointer: tokens}, n, err
}

// within returns the bytes of the payload that the extract is about, or nil where the
// payload ends before.
func (e *extract) within(payload []byte) []byte {
	if len(payload) < e.offset+e.length {
		return nil
	}
	return payload[e.offset : e.offset+e.length]
}

// A numeric is a number of an expression: an integer, or of JSON one with a fraction.
type numeric struct {
	kind numericKind
	i    int64 // of an integer; above the greatest int64, the same bits
	f    float64
}

type numericKind uint8

const (
	numInteger numericKind = iota
	numBig                 // an integer above the greatest int64
	numFloat
)

// integer reads the number at its place, which is there.
func (e *extract) integer(b []byte) numeric {
	var u uint64
	switch {
	case e.length == 1:
		u = uint64(b[0])
	case e.length == 2 && e.little:
		u = uint64(binary.LittleEndian.Uint16(b))
	case e.length == 2:
		u = uint64(binary.BigEndian.Uint16(b))
	case e.length == 4 && e.little:
		u = uint64(binary.LittleEndian.Uint32(b))
	case e.length == 4:
		u = uint64(binary.BigEndian.Uint32(b))
	case e.little:
		u = binary.LittleEndian.Uint64(b)
	default:
		u = binary.BigEndian.Uint64(b)
	}
	if e.signed {
		unused := 64 - 8*e.length
		return numeric{i: int64(u<<unused) >> unused}
	}
	return unsigned(u)
}

func unsigned(u uint64) numeric {
	if u > math.MaxInt64 {
		return numeric{kind: numBig, i: int64(u)}
	}
	return numeric{i: int64(u)}
}

// readNumber reads a number as JSON writes it, or as a text says it.
func readNumber(s []byte) (v numeric, ok bool) {
	if len(s) == 0 || len(s) > maxNumber || !isDigit(s[0]) && s[0] != '-' {
		return v, false // not what ParseFloat takes beside numbers: inf, 0x1p-2
	}
	whole := true
	for i, c := range s {
		if !isDigit(c) && (c != '-' || i > 0) {
			whole = false
			if c != '.' && c != '-' && c != '+' && c|0x20 != 'e' {
				return v, false
			}
		}
	}
	if whole {
		if s[0] != '-' {
			if u, err := strconv.ParseUint(string(s), 10, 64); err == nil {
				return unsigned(u), true
			}
		} else if i, err := strconv.ParseInt(string(s), 10, 64); err == nil {
			return numeric{i: i}, true
		}
	}
	f, err := strconv.ParseFloat(string(s), 64)
	return numeric{kind: numFloat, f: f}, err == nil
}

// maxNumber is how long a number of a document may be: as many digits as no float64 needs.
const maxNumber = 32

// compare returns below 0, 0 or above 0.
func (v numeric) compare(w numeric) int {
	if v.kind == numFloat || w.kind == numFloat {
		switch a, b := v.float(), w.float(); {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	}
	if v.kind != w.kind {
		return int(v.kind) - int(w.kind)
	}
	switch { // of two big ones too: both would be negative
	case v.i < w.i:
		return -1
	case v.i > w.i:
		return 1
	}
	return 0
}

func (v numeric) float() float64 {
	switch v.kind {
	case numFloat:
		return v.f
	case numBig:
		return float64(uint64(v.i))
	}
	return float64(v.i)
}

// trimFill takes off the NUL bytes that fill up a text.
func trimFill(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// operand is the value for arithmetic, or why there is none.
func (e *extract) operand(payload []byte) (operand, *TopicError) {
	if e.kind == extractNumber {
		b := e.within(payload)
		if b == nil {
			return operand{}, e.missing(payload)
		}
		v := e.integer(b)
		return e.whole(v, v.kind == numInteger, nil)
	}
	if e.kind == extractText {
		b := e.within(payload)
		if b == nil {
			return operand{}, e.missing(payload)
		}
		i, ok := number(trimFill(b))
		return e.whole(numeric{i: i}, ok, b)
	}
	value, lack := lookJSON(payload, e.pointer)
	if lack.why != lackNothing {
		return operand{}, e.missing(payload)
	}
	if value[0] == '"' {
		value = value[1 : len(value)-1] // a number in quotes has no escapes
	}
	v, ok := readNumber(value)
	return e.whole(v, ok && v.kind == numInteger, value)
}

// whole is a number as an operand, if it is a whole one; text is what says it, nil for bytes.
func (e *extract) whole(v numeric, ok bool, text []byte) (operand, *TopicError) {
	if !ok {
		value := "a larger number"
		if text != nil {
			value = quote(short(text))
		}
		return operand{}, &TopicError{Part: "{" + e.text + "}", Value: value, Want: "a whole number of 63 bits"}
	}
	return operand{v.i, true}, nil
}

// missing says why the payload has no such field.
func (e *extract) missing(payload []byte) *TopicError {
	err := &TopicError{Part: "{" + e.text + "}", Missing: true, Want: "there"}
	if e.kind != extractJSON {
		err.Value = fmt.Sprintf("behind the end of a payload of %d bytes", len(payload))
		return err
	}
	_, lack := lookJSON(payload, e.pointer)
	err.Value = fmt.Sprintf("no field (%v)", lack.err(payload, e.pointer))
	return err
}

// appendLevel appends the value to a topic, within one level, or says why that cannot be.
func (e *extract) appendLevel(dst, payload []byte) ([]byte, *TopicError) {
	start := len(dst)
	var value []byte
	if e.kind == extractJSON {
		var lack lack
		if value, lack = lookJSON(payload, e.pointer); lack.why != lackNothing {
			return dst, e.missing(payload)
		}
	} else if value = e.within(payload); value == nil {
		return dst, e.missing(payload)
	}
	switch {
	case e.kind == extractNumber:
		v := e.integer(value)
		if v.kind == numBig {
			return strconv.AppendUint(dst, uint64(v.i), 10), nil
		}
		return strconv.AppendInt(dst, v.i, 10), nil
	case e.kind == extractHex:
		return hex.AppendEncode(dst, value), nil
	case e.kind == extractText:
		dst = append(dst, trimFill(value)...)
	case value[0] == '{' || value[0] == '[':
		return dst, &TopicError{Part: "{" + e.text + "}", Value: kindOf(value), Want: "a text, a number, true or false"}
	case value[0] == '"':
		var err error
		if dst, err = unquote(dst, value); err != nil {
			return dst[:start], &TopicError{Part: "{" + e.text + "}", Value: err.Error(), Want: "UTF-8"}
		}
	default:
		dst = append(dst, value...)
	}
	if level := dst[start:]; !isLevel(level) {
		return dst[:start], &TopicError{Part: "{" + e.text + "}", Value: quote(string(level[:min(len(level), 200)])),
			Want: "a level of a topic: UTF-8, not empty, without control characters and any of / + #"}
	}
	return dst, nil
}

// isLevel reports whether bytes can be a level of a topic that somebody else's bytes fill.
func isLevel(b []byte) bool {
	if len(b) == 0 || bytes.ContainsAny(b, "/+#") {
		return false
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || awkward(r) {
			return false
		}
		i += n
	}
	return true
}
