package mapping_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"topicast/mapping"
)

func TestAnArrayOfNumbersBecomesBytes(t *testing.T) {
	for _, c := range []struct{ payload, message, want, wrong string }{
		{"json:/data|bytes", `{"type":"Buffer","data":[1,2,255]}`, "\x01\x02\xff", ""},
		{"json:|bytes", `{"type":"Buffer","data":[1,2,255]}`, "\x01\x02\xff", ""},
		{"json:/payload|bytes", `{"payload":{"type":"Buffer","data":[0]}}`, "\x00", ""},
		{"json:|bytes", " [ 104 ,\n105 ] ", "hi", ""},
		{"json:|bytes", "[]", "", ""},
		{"json:|bytes", `{"type":"Buffer","data":[]}`, "", ""},
		{"json:|bytes", "[256]", "", "element 0 is 256, not an integer from 0 to 255"},
		{"json:|bytes", "[1,-1]", "", "element 1 is -1,"},
		{"json:|bytes", "[-0]", "", "element 0 is -0,"},
		{"json:|bytes", "[1.0]", "", "element 0 is 1.0,"},
		{"json:|bytes", "[1e1]", "", "element 0 is 1e1,"},
		{"json:|bytes", "[[1]]", "", "element 0 is [1],"},
		{"json:|bytes", `["1"]`, "", `element 0 is "1",`},
		{"json:|bytes", "[null]", "", "element 0 is null,"},
		{"json:|bytes", "[18446744073709551617]", "", "element 0 is 18446744073709551617,"},
		{"json:|bytes", `"AQI="`, "", "is a string, not an array"},
		{"json:|bytes", "12", "", "is a number, not an array"},
		{"json:|bytes", `{"data":[1]}`, "", `is an object, and not {"type":"Buffer"`},
		{"json:|bytes", `{"type":"Buffer"}`, "", "is a Buffer without data"},
		{"json:|bytes", `{"type":"Buffer","data":"x"}`, "", "is a string, not an array"},
		{"json:|bytes", "[1,", "", "json: "},
		{"json:/data|bytes", `{}`, "", "no /data"},
	} {
		p, err := mapping.ParsePayload(c.payload)
		if err != nil {
			t.Fatal(err)
		}
		before := []byte("before")
		got, err := p.Decode(before, []byte(c.message))
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) || string(got) != "before" {
				t.Errorf("%s of %s: %q, %v; want %s", c.payload, c.message, got, err, c.wrong)
			}
			continue
		}
		if err != nil || string(got) != "before"+c.want {
			t.Errorf("%s of %s: %q, %v; want %q", c.payload, c.message, got, err, c.want)
		}
	}
	if _, err := mapping.ParsePayload("bytes"); err == nil {
		t.Error("bytes alone is taken for a codec")
	}
}

// The bytes are those that a decoder over encoding/json finds.
func FuzzJSONBytes(f *testing.F) {
	for _, s := range []string{`[1,2]`, `{"type":"Buffer","data":[1]}`, `{"type":"Buffer","type":"x","data":[1]}`, `[1.0]`, `[-0]`, `[1e1]`, `[[]]`, `{"data":[0],"type":"Buffer"}`} {
		f.Add([]byte(s))
	}
	p, _ := mapping.ParsePayload("json:|bytes")
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := p.Decode(nil, message)
		if namedTwice(message) {
			return // the table has these
		}
		want, ok := naiveBytes(message)
		if (err == nil) != ok || !bytes.Equal(got, want) {
			t.Errorf("%q: %x, %v; want %x, %v", message, got, err, want, ok)
		}
	})
}

func naiveBytes(message []byte) (all []byte, ok bool) {
	if !json.Valid(message) {
		return nil, false
	}
	var list []json.RawMessage
	message = bytes.TrimSpace(message)
	switch message[0] {
	case '{':
		var o map[string]json.RawMessage
		if json.Unmarshal(message, &o) != nil || string(o["type"]) != `"Buffer"` || len(o["data"]) == 0 || o["data"][0] != '[' {
			return nil, false
		}
		message = o["data"]
	case '[':
	default:
		return nil, false
	}
	if json.Unmarshal(message, &list) != nil {
		return nil, false
	}
	for _, e := range list {
		n, err := strconv.ParseUint(string(e), 10, 8)
		if err != nil {
			return nil, false
		}
		all = append(all, byte(n))
	}
	return all, true
}
