package mapping_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"topicast/mapping"
)

func TestTopicsFromPayloads(t *testing.T) {
	const lost, bad = "lost", "bad" // for the reasons field and bad_topic
	a := mapping.Arrival{To: netip.MustParseAddrPort("239.1.2.3:5000"), Source: netip.MustParseAddrPort("192.0.2.7:1234"), Interface: "iso0"}
	long := strings.Repeat("x", 65530)
	for _, c := range []struct{ topic, payload, want string }{
		{"meters/{u32@20}/{u16@16}", meter, "meters/1898646545/24681"},
		{"m/{u16le@16}/{i8@7}/{u8@3}", meter, "m/26976/-96/0"},
		{"m/{u64@0}", "\xff\xff\xff\xff\xff\xff\xff\xff", "m/18446744073709551615"},
		{"m/{hex@0:4}/{text@0:4}", meter, "m/534d4100/SMA"},
		{"m/{text@0:3}-{source}", meter, "m/SMA-192.0.2.7"},
		{"m/{u8@0 + 1}/{u16@16 & 0xff}", meter, "m/84/105"},
		{"m/{u8@0 + (group & 255)}", meter, "m/86"},
		{"m/{json:/id}/{json:/n}/{json:/on}/{json:/n*2}", `{"id":"pump 1","n":7,"on":true}`, "m/pump 1/7/true/14"},
		{"m/{json:/f}", `{"f":-1.5e3}`, "m/-1.5e3"},
		{"m/{json:/s+1}", `{"s":"41"}`, "m/42"},
		{"{json:/a/0}", `{"a":["\u0061b"]}`, "ab"},
		{"m/{text@0:2}", "é", "m/é"},
		// what is not there
		{"m/{u32@20}", meter[:23], lost},
		{"m/{u8@0+1}", "", lost},
		{"m/{text@0:12}", "short", lost},
		{"m/{hex@1:1}", "x", lost},
		{"m/{json:/id}", `{"ID":1}`, lost},
		{"m/{json:/id}", `{"id":null}`, lost},
		{"m/{json:/id}", `{"id":1,"id":1}`, lost},
		{"m/{json:/id}", `{"id":1`, lost},
		{"m/{json:/id+1}", `{}`, lost},
		// what is no level of a topic
		{"m/{text@0:3}", "a/b", bad},
		{"m/{text@0:3}", "a+b", bad},
		{"m/{text@0:3}", "#bc", bad},
		{"m/{text@0:3}", "a\x00b", bad},
		{"m/{text@0:3}", "\x00\x00\x00", bad},
		{"m/{text@0:3}", "a\x1bb", bad},
		{"m/{text@0:3}", "a\xffb", bad},
		{"m/{json:/id}", `{"id":""}`, bad},
		{"m/{json:/id}", `{"id":"a/b"}`, bad},
		{"m/{json:/id}", `{"id":"a\u0000"}`, bad},
		{"m/{json:/id}", `{"id":"\ud83d"}`, bad},
		{"m/{json:/id}", `{"id":{"x":1}}`, bad},
		{"m/{json:/id}", `{"id":[1]}`, bad},
		{"m/{json:/id+1}", `{"id":"x"}`, bad},
		{"m/{json:/id+1}", `{"id":1.5}`, bad},
		{"m/{u64@0+0}", "\xff\xff\xff\xff\xff\xff\xff\xff", bad},
		{"m/{u8@0/u8@1}", "\x01\x00", bad},
		{"{text@0:4}", "$SYS", bad},
		{"meters/{json:/id}", `{"id":"` + long + `"}`, bad},
	} {
		topic, err := mapping.ParseTopic(c.topic)
		if err != nil {
			t.Errorf("%s: %v", c.topic, err)
			continue
		}
		got, err := topic.AppendOf([]byte("head "), []byte(c.payload), &a, "rule")
		var why *mapping.TopicError
		switch {
		case err == nil:
			if string(got) != "head "+c.want || !topic.Matches(string(got[5:])) {
				t.Errorf("%s of %.40q: %.60q, want %q", c.topic, c.payload, got, c.want)
			}
			if allocs := testing.AllocsPerRun(10, func() { _, _ = topic.AppendOf(got[:5], []byte(c.payload), &a, "rule") }); allocs > 1 && !raced { // the payload
				t.Errorf("%s: %v allocations", c.topic, allocs)
			}
		case !errors.As(err, &why) || string(got) != "head " || why.Missing != (c.want == lost) || c.want != lost && c.want != bad:
			t.Errorf("%s of %.40q: %.60q, %.200v; want %s", c.topic, c.payload, got, err, c.want)
		}
		if !topic.VariesByPayload() || !topic.Varies() {
			t.Errorf("%s does not vary", c.topic)
		}
	}
}

func TestFieldsOfTopicsThatAreRefused(t *testing.T) {
	for topic, says := range map[string]string{
		"m/{u24@0}":          "u24@ is no field of a payload",
		"m/{text@0}":         "text@0 has no length",
		"m/{text@0:3 + 1}":   "text@0:3 is a text, with which there is no arithmetic",
		"m/{u8@0 + hex@0:3}": "hex@0:3 is a text, with which there is no arithmetic",
		"m/{text@0:70000}":   "more than the 65507 bytes",
		"m/{json:id}":        "a JSON pointer begins with /",
		"m/{json:/id id}":    "an operator should stand in place of",
		"m/{serial@20}":      "serial@ is no field of a payload",
		strings.Repeat("{u8@1}", 30) + "{u8@2}{u8@3}{u8@4}{u8@5}{u8@6}{u8@7}{u8@8}{u8@9}{u8@10}{u8@11}{u8@12}{u8@13}{u8@14}{u8@15}{u8@16}{u8@17}{u8@18}{u8@19}{u8@20}{u8@21}{u8@22}{u8@23}{u8@24}{u8@25}{u8@26}{u8@27}{u8@28}{u8@29}{u8@30}{u8@31}{u8@32}{u8@33}": "has 33 fields",
	} {
		if _, err := mapping.ParseTopic(topic); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40s: %v; want %s", topic, err, says)
		}
	}
}

// FuzzTopicFields holds that whatever a payload has: a topic comes out that a broker takes, and
// of as many levels as the template has; or an error.
func FuzzTopicFields(f *testing.F) {
	for _, s := range []string{"m/{u32@20}/{text@0:4}", "{json:/id}/{json:/n+1}", "m/{hex@0:2}{i16le@1}"} {
		f.Add(s, []byte(meter))
		f.Add(s, []byte(`{"id":"a/b","n":7}`))
	}
	f.Fuzz(func(t *testing.T, text string, payload []byte) {
		topic, err := mapping.ParseTopic(text)
		if err != nil || strings.ContainsAny(text, "/+#") && strings.Contains(text, "json:") && strings.Count(text, "{") != strings.Count(text, "json:") {
			return
		}
		got, err := topic.AppendOf(nil, payload, &mapping.Arrival{Interface: "iso0"}, "rule")
		if err != nil {
			return
		}
		if err := mapping.CheckTopic(string(got)); err != nil || !topic.Matches(string(got)) {
			t.Errorf("%q of %q: %q, %v", text, payload, got, err)
		}
	})
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		split mapping.Split
		in    string
		want  string
	}{
		{mapping.SplitLine, "a\r\nb\nc\rd", "a|b|c|d|"},
		{mapping.SplitLine, "\r\n\n a \r\n\r\n", " a |"},
		{mapping.SplitLine, "", ""},
		{mapping.SplitLine, "\n", ""},
		{mapping.SplitLine, "a\x00b", "a\x00b|"},
		{mapping.SplitNUL, "\x00a\x00\x00b\n", "a|b\n|"},
		{mapping.SplitNUL, "a", "a|"},
	} {
		var got strings.Builder
		for m, rest, ok := c.split.Next([]byte(c.in)); ok; m, rest, ok = c.split.Next(rest) {
			got.Write(append(m, '|'))
		}
		if got.String() != c.want {
			t.Errorf("%s of %q: %q, want %q", c.split, c.in, got.String(), c.want)
		}
	}
}

// FuzzSplit holds that messages hold no separator, are not empty, and are all that there is.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("a\r\nb\x00\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		for split, separators := range map[mapping.Split]string{mapping.SplitLine: "\r\n", mapping.SplitNUL: "\x00"} {
			want := strings.FieldsFunc(string(in), func(r rune) bool { return strings.ContainsRune(separators, r) })
			var got []string
			for m, rest, ok := split.Next(in); ok; m, rest, ok = split.Next(rest) {
				got = append(got, string(m))
			}
			if strings.Join(got, separators[:1]) != strings.Join(want, separators[:1]) || len(got) != len(want) {
				t.Errorf("%s of %q: %q, want %q", split, in, got, want)
			}
		}
	})
}
