package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding/json decodes a whole document into Go values, which costs an
// allocation for each of them and loses the text of numbers and objects. Here
// it only checks the document; the steps to the one field then may rely on a
// well-formed text, and need neither recursion nor memory.

// parsePointer splits a JSON Pointer into its tokens (RFC 6901 sections 3 and 4).
func parsePointer(s string) ([]string, error) {
	if s == "" {
		return nil, nil // the whole document
	}
	if s[0] != '/' {
		return nil, fmt.Errorf("a JSON pointer begins with /, as in json:/%s", s)
	}
	tokens := strings.Split(s[1:], "/")
	for i, token := range tokens {
		if strings.Count(token, "~") != strings.Count(token, "~0")+strings.Count(token, "~1") {
			return nil, errors.New("~ in a JSON pointer stands before 0 or 1: ~0 is a ~, ~1 a / in a name (RFC 6901)")
		}
		// In this order, so that ~01 becomes ~1 and not / (section 4).
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// pointerText is the reverse of parsePointer.
func pointerText(tokens []string) string {
	if len(tokens) == 0 {
		return "the document"
	}
	var b strings.Builder
	for _, token := range tokens {
		b.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

// findJSON returns the text of the value that a pointer names in a document.
func findJSON(document []byte, pointer []string) ([]byte, error) {
	value, lack := lookJSON(document, pointer)
	if lack.why == lackNothing {
		return value, nil
	}
	return nil, lack.err(document, pointer)
}

// A lack is why there is no such value in a document. It costs nothing: most callers
// for a value only have to know that it is not there.
type lack struct {
	why   lackKind
	token int    // that which is not there, or twice
	in    []byte // the value without it
}

type lackKind uint8

const (
	lackNothing  lackKind = iota
	lackDocument          // it is no JSON
	lackMember            // there is no such field
	lackTwice             // there are two
	lackNull              // it is null
)

// err says it in words.
func (l lack) err(document []byte, pointer []string) error {
	at := pointerText(pointer[:min(l.token+1, len(pointer))])
	switch l.why {
	case lackDocument:
		var value json.RawMessage
		err := json.Unmarshal(document, &value)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			err = fmt.Errorf("%w at byte %d", err, syntax.Offset)
		}
		return fmt.Errorf("json: %w", err)
	case lackTwice:
		return fmt.Errorf("json: %s is there twice, so that nobody can tell which counts", at)
	case lackNull:
		return fmt.Errorf("json: %s is null", pointerText(pointer))
	}
	return fmt.Errorf("json: no %s: %s is %s without it", at, pointerText(pointer[:l.token]), kindOf(l.in))
}

// lookJSON is findJSON for those who need no words.
func lookJSON(document []byte, pointer []string) ([]byte, lack) {
	if !json.Valid(document) {
		return nil, lack{why: lackDocument}
	}
	return stepJSON(document, pointer)
}

// stepJSON is lookJSON in a document that is known to be one.
func stepJSON(document []byte, pointer []string) ([]byte, lack) {
	value := document[space(document):]
	value = value[:valueLength(value)]
	for i, token := range pointer {
		var found []byte
		twice := false
		switch value[0] {
		case '{':
			found, twice = member(value, token)
		case '[':
			found = element(value, token)
		}
		switch {
		case found == nil:
			return nil, lack{lackMember, i, value}
		case twice:
			return nil, lack{lackTwice, i, value}
		}
		value = found
	}
	if value[0] == 'n' {
		return nil, lack{why: lackNull, token: len(pointer)}
	}
	return value, lack{}
}

// member returns an object's member. Names should be unique (RFC 8259 section
// 4); where one is not, parsers differ in which they take, so that whoever wrote it may have
// meant either.
func member(object []byte, name string) (found []byte, twice bool) {
	each(object, func(key, value []byte) bool {
		same := string(key[1:len(key)-1]) == name
		if !same && bytes.IndexByte(key, '\\') >= 0 {
			var buffer [64]byte
			plain, err := unquote(buffer[:0], key)
			same = err == nil && string(plain) == name
		}
		if same {
			twice = found != nil
			found = value
		}
		return !twice
	})
	return found, twice
}

// element returns an array's element. Its index has no leading zeros, and "-",
// the element behind the last, is never there (RFC 6901 section 4).
func element(array []byte, token string) (found []byte) {
	index, err := strconv.ParseUint(token, 10, 31)
	if err != nil || token[0] == '0' && token != "0" {
		return nil
	}
	each(array, func(_, value []byte) bool {
		if index == 0 {
			found = value
		}
		index--
		return found == nil
	})
	return found
}

// each calls yield for the members of an object, or the elements of an array
// (key nil), until it returns false.
func each(container []byte, yield func(key, value []byte) bool) {
	object := container[0] == '{'
	rest := container[1:]
	for {
		rest = rest[space(rest):]
		if rest[0] == '}' || rest[0] == ']' {
			return
		}
		var key []byte
		if object {
			n := valueLength(rest)
			key, rest = rest[:n], rest[n:]
			rest = rest[space(rest)+1:] // the colon
			rest = rest[space(rest):]
		}
		n := valueLength(rest)
		if !yield(key, rest[:n]) {
			return
		}
		rest = rest[n:]
		rest = rest[space(rest):]
		if rest[0] == ',' {
			rest = rest[1:]
		}
	}
}

// space returns how much white space s begins with.
func space(s []byte) int {
	n := 0
	for n < len(s) && (s[n] == ' ' || s[n] == '\t' || s[n] == '\n' || s[n] == '\r') {
		n++
	}
	return n
}

// valueLength returns the length of the value that s begins with.
func valueLength(s []byte) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			i += stringLength(s[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		default:
			if depth > 0 {
				continue
			}
			return scalarLength(s)
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(s)
}

// stringLength returns the length of the string that s begins with, quotes included.
func stringLength(s []byte) int {
	i := 1
	for s[i] != '"' {
		if s[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

// scalarLength returns the length of the number, true, false or null that s begins with.
func scalarLength(s []byte) int {
	if n := bytes.IndexAny(s, ",]} \t\r\n"); n >= 0 {
		return n
	}
	return len(s)
}

func kindOf(value []byte) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// unquote appends the bytes of a JSON string. They are taken as they stand, be
// they UTF-8 or not; half of a surrogate pair alone is no character and an
// error, where encoding/json would put U+FFFD.
func unquote(dst, quoted []byte) ([]byte, error) {
	s := quoted[1 : len(quoted)-1]
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), nil
		}
		dst = append(dst, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		if c != 'u' {
			dst = append(dst, escaped(c))
			continue
		}
		r := hex4(s)
		s = s[4:]
		if utf16.IsSurrogate(r) {
			if len(s) < 6 || s[0] != '\\' || s[1] != 'u' || utf16.DecodeRune(r, hex4(s[2:])) == utf8.RuneError {
				return dst, fmt.Errorf(`\u%04x is half of a surrogate pair`, r)
			}
			r = utf16.DecodeRune(r, hex4(s[2:]))
			s = s[6:]
		}
		dst = utf8.AppendRune(dst, r)
	}
}

// escaped returns the character that \c stands for (RFC 8259 section 7).
func escaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // " \ /
}

func hex4(s []byte) (r rune) {
	for _, c := range s[:4] {
		digit, _ := hexDigit(c)
		r = r<<4 | rune(digit)
	}
	return r
}

// appendNumbers appends the bytes of an array of integers from 0 to 255, or of the
// object that Node.js makes of a Buffer: {"type":"Buffer","data":[1,2]}. A number is
// an integer as it is written: 1, not 1.0, 1e0 or -0.
func appendNumbers(dst, value []byte) ([]byte, error) {
	array := value
	if value[0] == '{' {
		if kind, twice := member(value, "type"); string(kind) != `"Buffer"` || twice {
			return dst, errors.New(`is an object, and not {"type":"Buffer","data":[...]}`)
		}
		var twice bool
		if array, twice = member(value, "data"); array == nil || twice {
			return dst, errors.New("is a Buffer without data, or with two")
		}
	}
	if array[0] != '[' {
		return dst, fmt.Errorf("is %s, not an array of integers from 0 to 255", kindOf(array))
	}
	var err error
	index := 0
	each(array, func(_, element []byte) bool {
		n := 0
		for _, c := range element {
			if n = 10*n + int(c-'0'); !isDigit(c) || n > 255 {
				err = fmt.Errorf("element %d is %s, not an integer from 0 to 255", index, short(element))
				return false
			}
		}
		dst = append(dst, byte(n))
		index++
		return true
	})
	return dst, err
}

// short is a text that fits a line.
func short(text []byte) string {
	const most = 20
	if len(text) > most {
		return string(text[:most]) + "..."
	}
	return string(text)
}
