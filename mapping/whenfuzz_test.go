package mapping_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"topicast/mapping"
)

// Whatever stands there: a condition comes out that agrees with itself, or an error that says where.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{
		"u16@16 == 0x6069 && size > 20", `json:/type == "alarm" || json:/level >= 3`, `!(payload begins "$GP") && has(i32le@4)`,
		`hex@0:2 == "0d0a"`, `text@0:4 != "SMA"`, `json:"/a b" < -1.5`, "u8@0 & 0x80 >> 1 != 0", `topic contains hex:2f`, "id + 1 == id", "((1 == 1))",
		"size < 0 || u8@0 > 255", "!(i16le@1 >= -32768) && 2 <= size", "u64@0 >= 18446744073709551615", "i64@0 < -9223372036854775808", "1.5 == size",
	} {
		f.Add(s, []byte(`{"type":"alarm","level":3.5,"a b":-2}`))
		f.Add(s, []byte("SMA\x00\r\n"))
	}
	f.Fuzz(func(t *testing.T, text string, payload []byte) {
		c, err := mapping.ParseMessageCondition(text)
		if err != nil {
			if !strings.Contains(err.Error(), ": column ") {
				t.Errorf("%q: no column in %v", text, err)
			}
			return
		}
		if text == "" {
			return
		}
		before := bytes.Clone(payload)
		got := takes(c, payload)
		if got && c.Never() || !got && c.Always() {
			t.Errorf("%q of %q: %t, which it never is", text, payload, got)
		}
		for _, o := range []struct {
			text string
			may  bool
		}{{"!(%s)", !got}, {"(%s) && (%[1]s)", got}, {"(%s) || (%[1]s)", got}, {"!!(%s)", got}} {
			text := fmt.Sprintf(o.text, text)
			other, err := mapping.ParseMessageCondition(text)
			if err != nil {
				if !strings.Contains(err.Error(), "nested") && !strings.Contains(err.Error(), "may have 4096") {
					t.Errorf("%q, but %v", text, err)
				}
				continue
			}
			if is := takes(other, payload); is != o.may && (o.text != "!(%s)" || is) {
				t.Errorf("%q of %q: %t, and %q: %t", text, payload, is, c, got)
			}
		}
		if !bytes.Equal(payload, before) {
			t.Errorf("%q has changed the payload", text)
		}
		d, err := mapping.ParseDatagramCondition(text)
		if err == nil {
			d.Matches(payload, new(mapping.Arrival), "rule")
		}
	})
}

func takes(c mapping.MessageCondition, payload []byte) bool {
	captures := make([][]byte, len(c.Captures()))
	for i := range captures {
		captures[i] = []byte("7")
	}
	return c.Matches([]byte("a/7"), captures, payload, nil)
}

// A field is what its bytes say, read one by one; behind the end of the payload there is none.
func FuzzField(f *testing.F) {
	f.Add(uint8(2), false, false, uint16(16), uint8(3), []byte("0123456789abcdefgh"))
	f.Add(uint8(3), true, true, uint16(0), uint8(8), []byte("\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\x00"))
	f.Fuzz(func(t *testing.T, width uint8, signed, little bool, offset uint16, length uint8, payload []byte) {
		size := 1 << (width % 4)
		word := "u"
		if signed {
			word = "i"
		}
		word += fmt.Sprint(8 * size)
		if little && size > 1 {
			word += "le"
		}
		number := fmt.Sprintf("%s@%d", word, offset)
		check(t, number, payload, int(offset), size, func(b []byte) string {
			if little {
				slices.Reverse(b)
			}
			v := new(big.Int).SetBytes(b)
			if signed && b[0] >= 0x80 {
				v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
			}
			return v.String()
		})
		if length == 0 {
			return
		}
		check(t, fmt.Sprintf("hex@%d:%d", offset, length), payload, int(offset), int(length), func(b []byte) string {
			return `"` + hex.EncodeToString(b) + `"`
		})
		check(t, fmt.Sprintf("text@%d:%d", offset, length), payload, int(offset), int(length), func(b []byte) string {
			if b = bytes.TrimRight(b, "\x00"); len(b) == 0 {
				return `""`
			}
			return "hex:" + hex.EncodeToString(b)
		})
	})
}

// check holds that a field is there, and equal to what literal makes of its bytes.
func check(t *testing.T, field string, payload []byte, offset, length int, literal func(b []byte) string) {
	t.Helper()
	value, there := "0", offset+length <= len(payload)
	switch {
	case there:
		value = literal(bytes.Clone(payload[offset : offset+length]))
	case !strings.HasPrefix(field, "u") && !strings.HasPrefix(field, "i"):
		value = "hex:" + strings.Repeat("00", length)
	}
	for text, want := range map[string]bool{
		field + " == " + value: there, field + " != " + value: false, "has(" + field + ")": there,
	} {
		c, err := mapping.ParseMessageCondition(text)
		if err != nil {
			if offset+length > 65507 {
				return
			}
			t.Fatalf("%s: %v", text, err)
		}
		if got := takes(c, payload); got != want {
			t.Errorf("%s of %q: %t", text, payload, got)
		}
	}
}
