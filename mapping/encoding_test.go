package mapping_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// envelopeArrival is a datagram at a time that is not in UTC.
func envelopeArrival() *mapping.Arrival {
	a := arrival("192.0.2.7:1234", "239.1.2.3:5000")
	a.At = time.Date(2026, 11, 23, 3, 40, 0, 123456789, time.FixedZone("CET", 3600))
	return a
}

func TestEncodingAppends(t *testing.T) {
	const where = `,"source":"192.0.2.7:1234","group":"239.1.2.3:5000","interface":"iso0","received_at":"2026-11-23T02:40:00.123456789Z"}`
	for _, tt := range []struct {
		encoding mapping.Encoding
		payload  string
		want     string
	}{
		{mapping.EncodingRaw, "a\x00\xff", "a\x00\xff"},
		{mapping.EncodingHex, "\x00\xabZ", "00ab5a"},
		{mapping.EncodingBase64, "\xfb\xff", "+/8="},
		{mapping.EncodingBase64, "", ""},
		{mapping.EncodingJSON, "", `{"payload":"","encoding":"utf-8"` + where},
		{mapping.EncodingJSON, "22.5 °C", `{"payload":"22.5 °C","encoding":"utf-8"` + where},
		{mapping.EncodingJSON, "<\"a\\b\">\t\r\n", `{"payload":"<\"a\\b\">\t\r\n","encoding":"utf-8"` + where},
		{mapping.EncodingJSON, "a\x00b", `{"payload":"YQBi","encoding":"base64"` + where},
		{mapping.EncodingJSON, "a\x1bb", `{"payload":"YRti","encoding":"base64"` + where},
		{mapping.EncodingJSON, "a\x7fb", `{"payload":"YX9i","encoding":"base64"` + where},
		{mapping.EncodingJSON, "\xff\xfe", `{"payload":"//4=","encoding":"base64"` + where},
		{mapping.EncodingJSON, "\xed\xa0\x80", `{"payload":"7aCA","encoding":"base64"` + where}, // half a surrogate pair
	} {
		got := tt.encoding.Append([]byte("kept "), []byte(tt.payload), envelopeArrival())
		if diff := cmp.Diff("kept "+tt.want, string(got)); diff != "" {
			t.Errorf("%s of %q (-want +got):\n%s", tt.encoding, tt.payload, diff)
		}
		if tt.encoding.Raw() != (tt.encoding == mapping.EncodingRaw) {
			t.Errorf("%s is raw: %t", tt.encoding, tt.encoding.Raw())
		}
	}
}

// The name of an interface may be any bytes but / and white space (Linux,
// dev_valid_name), and the envelope still has to be JSON.
func TestEnvelopeIsJSONWhateverTheInterface(t *testing.T) {
	for name, want := range map[string]string{"": "", "veth\"\\": "veth\"\\", "a\x01\x1f": "a\x01\x1f", "a\xffb": "a\ufffdb", "é": "é"} {
		a := envelopeArrival()
		a.Interface = name
		envelope := mapping.EncodingJSON.Append(nil, nil, a)
		var got struct{ Interface, Group, Source string }
		if err := json.Unmarshal(envelope, &got); err != nil || got.Interface != want || !utf8.Valid(envelope) {
			t.Errorf("%q: %q, %v", name, got.Interface, err)
		}
	}
	a := arrival("[2001:db8::7]:1234", "[ff18::1]:5000")
	var got struct{ Group, Source string }
	if err := json.Unmarshal(mapping.EncodingJSON.Append(nil, nil, a), &got); err != nil || got.Source != "[2001:db8::7]:1234" || got.Group != "[ff18::1]:5000" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Two topicasts, back to back, hand on the datagram as it was.
func TestEncodedPayloadsAreDecodedBySendRules(t *testing.T) {
	for _, src := range []string{"", "text", "\"\\\u2028/\t", "\x00\x01\xff", strings.Repeat("é\n", 1000)} {
		roundTrip(t, []byte(src))
	}
}

func roundTrip(t *testing.T, src []byte) {
	t.Helper()
	a := envelopeArrival()
	envelope := mapping.EncodingJSON.Append(nil, src, a)
	var parts struct{ Payload, Encoding string }
	if err := json.Unmarshal(envelope, &parts); err != nil {
		t.Fatalf("%q: %v", envelope, err)
	}
	way := map[string]string{"utf-8": "json:/payload", "base64": "json:/payload|base64"}[parts.Encoding]
	for name, encoded := range map[string][]byte{
		"raw":    mapping.EncodingRaw.Append(nil, src, a),
		"hex":    mapping.EncodingHex.Append(nil, src, a),
		"base64": mapping.EncodingBase64.Append(nil, src, a),
		way:      envelope,
	} {
		got, err := payload(t, name).Decode(nil, encoded)
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%q as %q is sent by %s as %q, %v", src, encoded, name, got, err)
		}
	}
}

func TestParseEncoding(t *testing.T) {
	for want, text := range []string{"raw", "hex", "base64", "json"} {
		var e mapping.Encoding
		if err := e.UnmarshalText([]byte(text)); err != nil || e != mapping.Encoding(want) {
			t.Errorf("%s: %v, %v", text, e, err)
		}
		if got, err := e.MarshalText(); err != nil || string(got) != text {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{
		"": `payload "": is not raw, hex, base64 or json`, "Hex": "did you mean hex", "base46": "did you mean base64",
		"json:/a": "json alone puts a datagram into an envelope", "xml": "is not raw",
	} {
		if _, err := mapping.ParseEncoding(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got := mapping.Encoding(9).String(); got != "Encoding(9)" {
		t.Error(got)
	}
}
