package mapping_test

import (
	"fmt"
	"testing"

	"topicast/mapping"
)

func TestCountersAreReadAndWritten(t *testing.T) {
	for text, want := range map[string]string{
		"u8@2": "0000040000000000", "u16@1": "0003040000000000", "u16le@1": "0004030000000000",
		"u32@0": "0102030400000000", "u32le@4": "0000000004030201", "": "0000000000000000",
	} {
		c, err := mapping.ParseCounter(text)
		payload := make([]byte, 8)
		c.Put(payload, 0x01020304)
		if got := fmt.Sprintf("%x", payload); err != nil || got != want || c.String() != text || c.IsZero() != (text == "") {
			t.Errorf("%q is %q and gives %s, want %s: %v", text, c, got, want, err)
		}
	}
	if c, err := mapping.ParseCounter("u8@65506"); err != nil || c.End() != 65507 {
		t.Errorf("%v ends at %d: %v", c, c.End(), err)
	}
	for _, text := range []string{"u8", "u8@", "u8@-1", "u8@+1", "u8@01", "u8@65507", "u32@65504", "u8le@1", "u64@1", "@1", "111", "u8@1 ", "u8@99999999"} {
		if c, err := mapping.ParseCounter(text); err == nil {
			t.Errorf("%q is %v", text, c)
		}
	}
}
