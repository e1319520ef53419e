package mapping_test

import (
	"net/netip"
	"strings"
	"testing"

	"topicast/mapping"
)

// meter begins as a reading of an SMA meter does.
const meter = "SMA\x00\x00\x04\x02\xa0\x00\x00\x00\x01\x02\x44\x00\x10\x60\x69\x01\x5d\x71\x2b\x0c\x11"

func TestConditionsOfMessages(t *testing.T) {
	const notJSON = `{"a":1}x` // encoding/json tells of it in an error
	const big = "\xff\xff\xff\xff\xff\xff\xff\xff"
	for _, c := range []struct {
		when, payload string
		want          bool
	}{
		{"", "", true},
		// numbers at their places
		{"u16@16 == 0x6069 && size > 20", meter, true},
		{"u16@16 == 0x6065", meter, false},
		{"u32@20 == 1898646545", meter, true},
		{"u16le@16 == 0x6960", meter, true},
		{"u8@0 == 83 && u8@3 == 0", meter, true},
		{"i8@7 == -96", meter, true},
		{"u8@7 == 160", meter, true},
		{"i16@0 == -2 && i16le@0 == -257", "\xff\xfe", true},
		{"i32@0 == -1 && i64@0 == -1 && u64@0 == 0xffffffffffffffff && u64le@0 == 18446744073709551615", big, true},
		{"u64@0 > 9223372036854775807 && u64@0 >= i64@0 && i64@0 < u64@0", big, true},
		{"u32le@0 == 1", "\x01\x00\x00\x00", true},
		// arithmetic, with Go's precedence
		{"u8@0 & 0x80 != 0", "\x81", true},
		{"u8@0 & 0x80 == 0 || u8@0 >> 4 == 8", "\x81", true},
		{"1 + 2 * 3 == 7 && (1 + 2) * 3 == 9", "", true},
		{"u8@0 - 2 == -1", "\x01", true},
		{"u8@0 / u8@1 == 1", "\x01\x00", false},
		{"!(u8@0 / u8@1 == 1)", "\x01\x00", false},
		{"u64@0 + 1 > 0", big, false}, // beyond 64 bits
		// texts and bytes
		{`hex@0:4 == "534d4100"`, meter, true},
		{`hex@0:4 == "534D4100" && hex@0:4 == hex:534d4100`, meter, true},
		{`hex@0:2 == hex@2:2`, "abab", true},
		{`text@0:4 == "SMA"`, meter, true}, // it is filled up
		{`text@0:3 != "SMB"`, meter, true},
		{`payload begins "SMA\x00" && payload ends hex:0c11 && payload contains "\x60\x69"`, meter, true},
		{`payload contains "GGA"`, "$GPGGA,1", true},
		{`payload == "on"`, "on", true},
		{`payload == ""`, "", true},
		// what is not there
		{"u16@16 == 0x6069", meter[:17], false},
		{"!(u16@16 == 0x6069)", meter[:17], false},
		{"u16@16 != 0x6069", meter[:17], false},
		{"u16@16 == 0x6069 || size < 18", meter[:17], true},
		{"size < 18 || u16@16 == 0x6069", meter[:17], true},
		{"!(u16@16 == 1 && size > 18)", meter[:17], true},
		{"!(u16@16 == 1 || size > 18)", meter[:17], false},
		{"u16@15 == 0x1060", meter[:17], true}, // it ends with the payload
		{"has(u16@15) && !has(u16@16)", meter[:17], true},
		{"has(u8@0 / u8@1)", "\x01\x00", false},
		// documents
		{`json:/type == "alarm"`, `{"type":"alarm"}`, true},
		{`json:/type == "al\u0061rm"`, `{"type":"al\u0061rm"}`, true},
		{"json:/a/level >= 3", `{"a":{"level":3}}`, true},
		{"json:/t > 20 && json:/t < 21.75 && json:/t == 21.5", `{"t":21.5}`, true},
		{"json:/t > 20", `{"t":"21"}`, true},
		{"json:/t > 20", `{"t":"warm"}`, false},
		{"json:/t <= 20 || json:/t > 20", `{"t":[30]}`, false},
		{"json:/t == 1000", `{"t":1e3}`, true},
		{"json:/on == true && json:/off != true", `{"on":true,"off":false}`, true},
		{"json:/a == json:/b", `{"a":"x","b":"x"}`, true},
		{"json:/a < json:/b", `{"a":9,"b":10}`, true},
		{`json:"/a b" == 1 && json:/x-y==2`, `{"a b":1,"x-y":2}`, true},
		{"json:/a%2==1", `{"a":7}`, true},
		{"has(json:/a) && !has(json:/b) && !has(json:/n)", `{"a":0,"n":null}`, true},
		{"has(json:/a)", `{"a":1,"a":1}`, false}, // which of the two?
		{"json:/a == 1 || json:/a != 1", `{"a":1,"a":1}`, false},
		{"json:/a == 1", notJSON, false},
		{"json:/big == 123456789012345678", `{"big":123456789012345678}`, true},
		{"json:/big == 123456789012345678", `{"big":123456789012345679}`, false},
		// topic and captures: a/7/lamp by a/{id}/{kind}
		{`topic == "a/7/lamp"`, "", true},
		{`id == 7 && id == "7" && kind == "lamp"`, "", true},
		{"kind > 3 || kind <= 3", "", false},
		{"id + 1 == 8", "", true},
		{"id == u8@0", "\x07", true},
		{`kind begins "la" && id != kind`, "", true},
		// no parentheses needed
		{"size == 1 && u8@0 == 1 || size == 0", "", true},
		{"!(size == 1) && !!(size == 0)", "", true},
		{"size\n == \n0", "", true},
	} {
		when, err := mapping.ParseMessageCondition(c.when)
		if err != nil {
			t.Errorf("%s: %v", c.when, err)
			continue
		}
		f := filter(t, "a/{id}/{kind}")
		var captures [][]byte
		for _, name := range when.Captures() {
			captures = append(captures, []byte(f.Capture(name, "a/7/lamp")))
		}
		topic, payload := []byte("a/7/lamp"), []byte(c.payload)
		if got := when.Matches(topic, captures, payload, nil); got != c.want {
			t.Errorf("%s takes %q: %t", c.when, c.payload, got)
		}
		if when.String() != c.when {
			t.Errorf("%q is shown as %q", c.when, when)
		}
		allocs := testing.AllocsPerRun(10, func() { when.Matches(topic, captures, payload, nil) })
		if allocs > 0 && !raced && c.payload != notJSON {
			t.Errorf("%s of %q: %v allocations", c.when, c.payload, allocs)
		}
	}
}

func TestConditionsOfDatagrams(t *testing.T) {
	a := mapping.Arrival{To: netip.MustParseAddrPort("239.1.2.3:5000"), Source: netip.MustParseAddrPort("192.0.2.7:1234"), Interface: "iso0"}
	for when, want := range map[string]bool{
		`source == "192.0.2.7" && source_port == 1234`: true,
		`source != "192.0.2.7"`:                        false,
		`source == "2001:db8::7"`:                      false,
		"group & 0xffff == 515 && port == 5000":        true,
		"source >> 24 == 192":                          true,
		`interface == "iso0" && name begins "me"`:      true,
		"port != source_port":                          true,
		"u8@0 == port":                                 false,
	} {
		c, err := mapping.ParseDatagramCondition(when)
		if err != nil {
			t.Errorf("%s: %v", when, err)
		} else if got := c.Matches([]byte("x"), &a, "meters"); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	var all mapping.DatagramCondition
	if !all.Matches(nil, &a, "") || !all.IsZero() {
		t.Error("the zero condition does not take every datagram")
	}
}

func TestConditionsThatAreRefused(t *testing.T) {
	deep := strings.Repeat("(", 16) + "1 == 1" + strings.Repeat(")", 16)
	for _, c := range []struct{ when, says string }{
		{"u16@16 = 0x6069", "column 8: = is no operator; == compares"},
		{"u16@16", "column 1: is a number; compare it with something"},
		{"u16@16 == 1 and size > 3", "column 13: and is written &&"},
		{"u16@16 == 1 OR size > 3", "column 13: OR is written ||"},
		{"not size == 3", "column 1: not is written !"},
		{"u16@16 == 'x'", "column 11: a text stands between \", not '"},
		{"{id} == 3", "column 1: in when, names and fields stand without braces"},
		{`u16@16 == "x"`, "is between values of one kind, and this is a number"},
		{`payload < "x"`, "column 1: < is between numbers, and this is a text"},
		{`size contains "x"`, "column 1: contains is between texts, and this is a number"},
		{"size == 1 == 1", "column 1: == is between values, and this is a comparison"},
		{"size && size", "column 1: && stands between conditions, and this is a number"},
		{"!size == 1", "! stands before a condition, and this is a number"},
		{"payload + 1 == 2", "column 1: + is between numbers, and this is a text"},
		{`hex@0:2 == "xyz"`, "two hexadecimal digits for each byte"},
		{`hex@0:2 == "0d"`, "compares 2 bytes with 1, which never are the same"},
		{`text@0:2 == "abc"`, "compares 2 bytes with a text of 3"},
		{"hex@0:2 == json:/a", "hex@ is compared with its digits"},
		{"hex@0 == 1", "column 1: hex@0 has no length"},
		{"hex@0:0 == hex:00", "is of no bytes"},
		{"u24@0 == 1", "column 1: u24@ is no field of a payload"},
		{"u8le@0 == 1", "u8le@ is no field of a payload"},
		{"u16@x == 1", "column 1: u16@ is followed by no number of bytes"},
		{"u16@65506 == 1", "ends behind the 65507 bytes of the largest datagram"},
		{"text@0:70000 == payload", "more than the 65507 bytes"},
		{"u16@99999999999999999999 == 1", "more than the 65507 bytes"},
		{"json:a == 1", "a JSON pointer begins with /"},
		{"json: == 1", "json: names no field"},
		{"json:/a~2 == 1", "~ in a JSON pointer"},
		{`json:"/a == 1`, "is followed by no text that ends"},
		{"size == 007", "begins with 0, which some read as octal"},
		{"size == 0x", "is not a number of 64 bits"},
		{"size == 18446744073709551616x", "is not a number of 64 bits"},
		{"size == 1.", "is not a number of 64 bits"},
		{"payload == hex:0", "is followed by no bytes of two hexadecimal digits"},
		{`payload == "x`, "the text has no"},
		{"size ==", "column 8: ends where a value should follow"},
		{"(size == 1", "column 11: ends where a ) should follow"},
		{"size == 1)", "column 10: nothing that can stand here"},
		{"has size", "has asks whether a field is there, as in has(json:/id)"},
		{"has(size == 1)", "column 4: has asks whether a field is there, and this is a condition"},
		{deep, "nested more than 15 deep"},
		{strings.Repeat("!", 99) + "(1 == 1)", "nested more than 15 deep"},
		{"size == 1" + strings.Repeat(" ", 5000), "has 5009 bytes, and may have 4096"},
		{"size == 1\x00", "column 10: a control character"},
	} {
		_, err := mapping.ParseMessageCondition(c.when)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.40s: %v; want %s", c.when, err, c.says)
		}
	}
	for when, says := range map[string]string{
		`topic == "a"`:          "column 1: a datagram has no topic yet",
		"id == 1":               "column 1: id is none of group",
		"soruce == 1":           "did you mean source",
		`source == "host"`:      "an address is compared with one",
		`source begins "192."`:  "an address is compared with one",
		`interface == 3`:        "this is a number, beside a text",
		`port == "5000"`:        "this is a number, beside a text",
		"interface + 1 == port": "+ is between numbers, and this is a text",
	} {
		_, err := mapping.ParseDatagramCondition(when)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %s", when, err, says)
		}
	}
}

func TestAConditionAsksForCapturesOfTheFilter(t *testing.T) {
	r := rule(t, "a/{floor}", "239.1.1.1:5000")
	r.When = mustCondition(t, "flor == 1")
	_, err := mapping.Compile([]mapping.SendRule{r}, nil)
	if err == nil || !strings.Contains(err.Error(), "send[0].when: {flor} is not a capture of the filter a/{floor}") {
		t.Errorf("%v", err)
	}
	r.When = mustCondition(t, "floor == 1 && u8@0 == 1")
	if _, err := mapping.Compile([]mapping.SendRule{r}, nil); err != nil {
		t.Error(err)
	}
}

func mustCondition(t testing.TB, s string) mapping.MessageCondition {
	t.Helper()
	c, err := mapping.ParseMessageCondition(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
