package mapping_test

import (
	"strings"
	"testing"

	"topicast/mapping"
)

func payload(t testing.TB, s string) mapping.Payload {
	t.Helper()
	p, err := mapping.ParsePayload(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const document = ` {
	"a": {"b": ["zero", 1, true, null, {"c": "deep"}, [1, [2, "}]"]]]},
	"text": "caf\u00e9 \ud83d\ude00 \"\\\/\b\f\n\r\t",
	"latin1": "` + "caf\xe9" + `",
	"half": "\ud83d!",
	"swapped": "\ude00\ud83d",
	"empty": "",
	"": "no name",
	" ": "a blank",
	"m~n": "tilde", "m/n": "slash", "m~1n": "tilde one",
	"a|b": "bar", "a|hex": "aBc",
	"\u0061\"scaped": "escaped name",
	"twice": 1, "twice": 2,
	"number": -12.50e+3,
	"big": 123456789012345678901234567890,
	"object": { "x" : [ 1 , "}" ] },
	"no": false, "null": null,
	"hex": "11 22\n\u00333 aA", "base64": "3q2+7w==",
	"badhex": "1g",
	"last": 7 } `

func TestPayloadDecode(t *testing.T) {
	tests := []struct{ payload, text, want string }{
		{"raw", "\x00\xff 11", "\x00\xff 11"},
		{"hex", "", ""},
		{"hex", "00ff", "\x00\xff"},
		{"hex", "aAbBcCdDeEfF", "\xaa\xbb\xcc\xdd\xee\xff"},
		{"hex", "11 22 33 44 55 66 77 88 88 AA BB CC DD", "\x11\x22\x33\x44\x55\x66\x77\x88\x88\xaa\xbb\xcc\xdd"},
		{"hex", " \t\n\v\f\r01\r\n02  03\n", "\x01\x02\x03"},
		{"base64", "", ""},
		{"base64", "AA==", "\x00"},
		{"base64", "AA", "\x00"},
		{"base64", "AAA", "\x00\x00"},
		{"base64", "3q2+7w==", "\xde\xad\xbe\xef"},
		{"base64", "3q2-7w", "\xde\xad\xbe\xef"},
		{"base64", "3q2-7w==", "\xde\xad\xbe\xef"},
		{"base64", "/+/+", "\xff\xef\xfe"},
		{"base64", "_-_-", "\xff\xef\xfe"},
		{"base64", "3q2+\r\n7w==\n", "\xde\xad\xbe\xef"},
		{"json:", ` {"a" : [1]} `, `{"a" : [1]}`},
		{"json:", `"x\n"`, "x\n"},
		{"json:", "1e5", "1e5"},
		{"json:/a/b/0", document, "zero"},
		{"json:/a/b/1", document, "1"},
		{"json:/a/b/2", document, "true"},
		{"json:/a/b/4/c", document, "deep"},
		{"json:/a/b/5/1/1", document, "}]"},
		{"json:/a/b/5", document, `[1, [2, "}]"]]`},
		{"json:/text", document, "café 😀 \"\\/\b\f\n\r\t"},
		{"json:/latin1", document, "caf\xe9"}, // as it stands, as promised
		{"json:/empty", document, ""},
		{"json:/", document, "no name"}, // RFC 6901 section 5
		{"json:/ ", document, "a blank"},
		{"json:/m~0n", document, "tilde"},
		{"json:/m~1n", document, "slash"},
		{"json:/m~01n", document, "tilde one"}, // RFC 6901 section 4: not a slash
		{"json:/a|b|raw", document, "bar"},
		{`json:/a"scaped`, document, "escaped name"},
		{"json:/number", document, "-12.50e+3"},
		{"json:/big", document, "123456789012345678901234567890"},
		{"json:/object", document, `{ "x" : [ 1 , "}" ] }`},
		{"json:/no", document, "false"},
		{"json:/last", document, "7"},
		{"json:/hex|hex", document, "\x11\x22\x33\xaa"},
		{"json:/base64|base64", document, "\xde\xad\xbe\xef"},
		{"json:/0", `["first"]`, "first"},
		{"json:/0", `{"0": "member"}`, "member"},
		{"json:/-", `{"-": "member"}`, "member"},
		{"json:/01", `{"01": "member"}`, "member"},
		{"json:/10", "[0,1,2,3,4,5,6,7,8,9,[]]", "[]"},
		{"json:/" + strings.Repeat("x", 99), `{"\u0078` + strings.Repeat("x", 98) + `": 1}`, "1"},
	}
	for _, tt := range tests {
		dst, err := payload(t, tt.payload).Decode([]byte("head"), []byte(tt.text))
		if err != nil {
			t.Errorf("%s of %.20q: %v", tt.payload, tt.text, err)
		} else if string(dst) != "head"+tt.want {
			t.Errorf("%s of %.20q: got %q, want %q", tt.payload, tt.text, dst, "head"+tt.want)
		}
	}
}

func TestPayloadDecodeRefuses(t *testing.T) {
	tests := []struct{ payload, text, says string }{
		{"hex", "1", "hex: the text of 1 bytes ends inside a byte"},
		{"hex", "11 2", "hex: the text of 4 bytes ends inside a byte"},
		{"hex", "1 1", "hex: white space inside a byte, at byte 1"},
		{"hex", "112g", `hex: "g" at byte 3 of the text is no hexadecimal digit`},
		{"hex", "0x11", `"x" at byte 1`},
		{"hex", "11:22", `":" at byte 2`},
		{"hex", "11\xff", `"\xff" at byte 2`},
		{"hex", "@A", `"@" at byte 0`},
		{"hex", "G0", `"G" at byte 0`},
		{"base64", "A", "base64: the text of 1 bytes is wrong"},
		{"base64", "AA=", "base64: the text of 3 bytes is wrong"},
		{"base64", "AB==", "base64: the text of 4 bytes is wrong"}, // RFC 4648 3.5
		{"base64", "AB", "base64: the text of 2 bytes is wrong"},
		{"base64", "_-_-_x", "base64: the text of 6 bytes is wrong"},
		{"base64", "_-_-_x==", "base64: the text of 8 bytes is wrong"},
		{"base64", "AA==AA==", "wrong at byte 4"},
		{"base64", "AA A", "wrong at byte 2"},
		{"base64", "+/-_", "wrong at byte 0"}, // both alphabets
		{"base64", "AA\xff=", "wrong at byte 2"},
		{"json:/a", "", "json: unexpected end of JSON input"},
		{"json:/a", `{"a": 1,}`, "json: invalid character '}'"},
		{"json:/a", `{"a": 1,}`, "at byte 9"},
		{"json:/a", `{"a": 1} x`, "json: invalid character 'x'"},
		{"json:/a", `{"a": 'x'}`, "json: invalid character"},
		{"json:/twice", document, "json: /twice is there twice"}, // RFC 8259 section 4: parsers differ
		{"json:/a/b/x", `{"a": {"b": {"\u0078": 1, "x": 1}}}`, "json: /a/b/x is there twice"},
		{"json:/a/b", `{"a": {"b": 1}, "c": 2, "a": {"d": 3}}`, "json: /a is there twice"},
		{"json:/data|bytes", `{"data": {"type": "Buffer", "data": [1], "data": [1]}}`, "is a Buffer without data, or with two"},
		{"json:/b", `{"a": 1}`, "json: no /b: the document is an object without it"},
		{"json:/a/b/c", `{"a": {"b": "c"}}`, "json: no /a/b/c: /a/b is a string without it"},
		{"json:/a/b", `{"a": null}`, "json: no /a/b: /a is null without it"},
		{"json:/m~0n~1/x", `{"m~n/": 1}`, "json: no /m~0n~1/x: /m~0n~1 is a number without it"},
		{"json:/A", `{"a": 1}`, "json: no /A"},
		{"json:/1", "[0]", "json: no /1: the document is an array without it"},
		{"json:/-", "[0]", "json: no /-"}, // RFC 6901 section 4
		{"json:/01", "[0,1]", "json: no /01"},
		{"json:/+1", "[0,1]", "json: no /+1"},
		{"json:/", "[0,1]", "json: no /"},
		{"json:/4294967296", "[0,1]", "json: no /4294967296"},
		{"json:/null", document, "json: /null is null"},
		{"json:", "null", "json: the document is null"},
		{"json:/half", document, `json: /half: \ud83d is half of a surrogate pair`},
		{"json:/swapped", document, `json: /swapped: \ude00 is half of a surrogate pair`},
		{"json:", `"\ud83d\n12345"`, "half of a surrogate pair"},
		{"json:", `"\ud83d"`, "half of a surrogate pair"},
		{"json:/number|hex", document, "json: /number is a number, not a string"},
		{"json:/object|base64", document, "json: /object is an object, not a string"},
		{"json:/no|hex", document, "json: /no is a boolean, not a string"},
		{"json:/a/b|hex", document, "json: /a/b is an array, not a string"},
		{"json:/badhex|hex", document, `hex: "g" at byte 1`},
		{"json:/a|hex|hex", document, "hex: the text of 3 bytes ends inside a byte"},
		{"json:/a", strings.Repeat("[", 100000), "exceeded max depth"},
	}
	for _, tt := range tests {
		p := payload(t, tt.payload)
		dst, err := p.Decode([]byte("head"), []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s of %.20q: %q, %v, want an error with: %s", tt.payload, tt.text, dst, err, tt.says)
		}
		if string(dst) != "head" {
			t.Errorf("%s of %.20q: the error left %q", tt.payload, tt.text, dst)
		}
	}
}

func TestParsePayload(t *testing.T) {
	for _, text := range []string{"raw", "hex", "base64", "json:", "json:/", "json:/a/b", "json:/a|hex", "json:/a|base64", "json:/a|bytes", "json:/a|b|raw", "json:|hex"} {
		var p mapping.Payload
		if err := p.UnmarshalText([]byte(text)); err != nil {
			t.Error(err)
		}
		if got, err := p.MarshalText(); err != nil || string(got) != text || !p.Equal(payload(t, text)) {
			t.Errorf("%s: MarshalText gave %q, %v", text, got, err)
		}
		if p.Raw() != (text == "raw") {
			t.Errorf("%s: Raw is %t", text, p.Raw())
		}
	}
	tests := map[string]string{
		"":                "is not raw, hex, base64 or json:/pointer",
		"Hex":             "did you mean hex",
		"base32":          "did you mean base64",
		"json":            "did you mean json:/",
		"text":            "is not raw, hex, base64 or json:/pointer",
		"json:a/b":        "a JSON pointer begins with /, as in json:/a/b",
		"json:/a|hexx":    `"hexx" is no codec; after | comes raw, hex, base64 or bytes`,
		"json:/a|b":       `"b" is no codec`,
		"json:/a|":        `"" is no codec`,
		"json:/a~":        "~ in a JSON pointer stands before 0 or 1",
		"json:/a~2/b":     "~ in a JSON pointer stands before 0 or 1",
		"json:/~~0":       "~ in a JSON pointer stands before 0 or 1",
		"json:/a~/1":      "~ in a JSON pointer stands before 0 or 1",
		"raw|hex":         "is not raw",
		"json:/a|HEX":     "is no codec",
		"json:/a|hex|b64": "is no codec",
	}
	for text, says := range tests {
		if p, err := mapping.ParsePayload(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v, want an error with: %s", text, p, err, says)
		}
	}
}

func TestZeroPayloadIsRaw(t *testing.T) {
	var zero mapping.Payload
	dst, err := zero.Decode([]byte("a"), []byte("b"))
	if !zero.Raw() || zero.String() != "raw" || string(dst) != "ab" || err != nil {
		t.Errorf("%s: %q, %v", zero, dst, err)
	}
}
