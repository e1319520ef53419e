package mapping_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"topicast/mapping"
)

// naiveMatch is MQTT 3.1.1 section 4.7 in ten lines.
func naiveMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if topic == "" || strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i := range f {
		if f[i] == "#" {
			return true
		}
		if i >= len(t) || f[i] != "+" && f[i] != t[i] {
			return i == len(t) && f[i] == "#"
		}
	}
	return len(f) == len(t)
}

func seeds(f *testing.F) {
	for _, s := range [][2]string{
		{"#", "a"}, {"+/#", "#"}, {"a/#", "a"}, {"a/+", "+/b"}, {"$SYS/#", "+/x"}, {"/", "+/+"}, {"a//#", "a/"},
		{"{x}/b", "a/{y}"}, {"+", "$"}, {"a/+/c/#", "a/b"}, {"#", "+/#"},
	} {
		f.Add(s[0], s[1])
	}
}

func FuzzMatch(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, filterText, topic string) {
		filter, err := mapping.ParseFilter(filterText)
		if err != nil || strings.ContainsAny(topic, "+#") {
			return
		}
		if got, want := filter.Match(topic), naiveMatch(filter.MQTT(), topic); got != want {
			t.Errorf("%q matches %q: %t, naively %t", filterText, topic, got, want)
		}
		table, err := mapping.Compile([]mapping.SendRule{rule(t, filterText, "239.1.1.1:1")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(table.Lookup(topic, nil)) == 1, filter.Match(topic); got != want {
			t.Errorf("%q is looked up for %q: %t, but Match says %t", topic, filterText, got, want)
		}
	})
}

// words are the levels that can tell filters f and g apart: theirs, one of
// neither, an empty one and one with $.
func words(f, g mapping.Filter) []string {
	words := []string{"", "neither of the two", "$neither"}
	for _, level := range strings.Split(f.MQTT()+"/"+g.MQTT(), "/") {
		if level != "+" && level != "#" {
			words = append(words, level)
		}
	}
	return words
}

// topics calls yield for topics that could tell f and g apart: all short ones
// up to a limit, then some at random.
func topics(f, g mapping.Filter, yield func(topic string)) {
	words := words(f, g)
	longest := 2 + max(strings.Count(f.MQTT(), "/"), strings.Count(g.MQTT(), "/"))
	layer := words
	for depth := 1; depth <= longest && len(layer) < 3000; depth++ {
		var next []string
		for _, topic := range layer {
			yield(topic)
			for _, w := range words {
				next = append(next, topic+"/"+w)
			}
		}
		layer = next
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		yield(instance(r, f, words))
		yield(instance(r, g, words))
	}
}

// instance returns a topic that f matches, but perhaps for a $ in front.
func instance(r *rand.Rand, f mapping.Filter, words []string) string {
	var levels []string
	for _, level := range strings.Split(f.MQTT(), "/") {
		switch level {
		case "+":
			levels = append(levels, words[r.IntN(len(words))])
		case "#":
			for range r.IntN(3) {
				levels = append(levels, words[r.IntN(len(words))])
			}
		default:
			levels = append(levels, level)
		}
	}
	return strings.Join(levels, "/")
}

// Covers and Overlaps are held to what Match says of topics, both ways: a
// filter that covers misses no topic, one that does not misses at least one.
func FuzzCoversAndOverlaps(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		f, err := mapping.ParseFilter(a)
		if err != nil {
			return
		}
		g, err := mapping.ParseFilter(b)
		if err != nil || strings.Count(a+b, "/") > 7 {
			return
		}
		covers, overlaps := true, false
		topics(f, g, func(topic string) {
			covers = covers && (f.Match(topic) || !g.Match(topic))
			overlaps = overlaps || f.Match(topic) && g.Match(topic)
		})
		if f.Covers(g) != covers {
			t.Errorf("%q covers %q: %t, by topics %t", f, g, f.Covers(g), covers)
		}
		if f.Overlaps(g) != overlaps {
			t.Errorf("%q overlaps %q: %t, by topics %t", f, g, f.Overlaps(g), overlaps)
		}
	})
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"a", "{a}/{b#}", "+/#", "a{", "$share/a/b", "\x00", "\xff", "a/{a}/{a}", "é/\u0085", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := mapping.ParseFilter(s)
		if err != nil {
			return
		}
		if filter.String() != s {
			t.Errorf("%q became %q", s, filter)
		}
		mqtt := filter.MQTT()
		again, err := mapping.ParseFilter(mqtt)
		if err != nil || again.MQTT() != mqtt || again.Captures() != nil {
			t.Errorf("%q is subscribed to as %q, which is no filter: %v", s, mqtt, err)
		}
		if !utf8.ValidString(mqtt) || len(mqtt) > 65535 || strings.ContainsFunc(mqtt, unicode.IsControl) || strings.ContainsAny(mqtt, "{}") {
			t.Errorf("%q may not be sent to a broker", mqtt)
		}
		wildcards := 0
		for i, level := range strings.Split(mqtt, "/") {
			switch {
			case level == "#" && i != strings.Count(mqtt, "/"), len(level) > 1 && strings.ContainsAny(level, "+#"):
				t.Errorf("%q is no filter of MQTT", mqtt)
			case level == "#" || level == "+":
				wildcards++
			}
		}
		if len(filter.Captures()) > wildcards {
			t.Errorf("%q has captures %q", s, filter.Captures())
		}
	})
}

// Whatever template and topic: a group comes out that is multicast, or an error.
func FuzzGroup(f *testing.F) {
	for _, s := range [][3]string{
		{"239.1.2.3:5000", "", ""}, {"239.10.{a}.{b}:{30000+b}", "3", "17"}, {"[ff15::{a}]:{b}", "10", "20"}, {"{a}:5000", "239.1.1.1", ""},
		{"[{a}]:{b}", "ff02::1%1", "1"}, {"{a}.1.1.1:{1<<b}", "240", "15"}, {"[{a}::{b}.0.0.1]:1", "65280", "255"}, {"[{a}:{a}::]:0x1", "99", ""},
		{"239.{(a-b)/3%7}.{a^b|1&2}.{a<<b>>b}:{a*b}", "9223372036854775807", "63"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, text, a, b string) {
		group, err := mapping.ParseGroup(text)
		if err != nil {
			return
		}
		if again, err := mapping.ParseGroup(group.String()); err != nil || !again.Equal(group) {
			t.Errorf("%q became %q, %v", text, again, err)
		}
		var filterText string
		for _, name := range group.Captures() {
			filterText += "{" + name + "}/"
		}
		topic := strings.ReplaceAll(a, "/", "")
		for range strings.Count(filterText, "/") {
			topic += "/" + b
		}
		for _, source := range []string{"", "172.17.0.1/32", "fd17::1/128"} {
			r := rule(t, filterText+"#", "239.1.1.1:1")
			r.Group = group
			if source != "" {
				r.Binding.Source = prefix(source)
			}
			table, err := mapping.Compile([]mapping.SendRule{r}, nil)
			if err != nil {
				continue
			}
			for _, target := range table.Lookup(topic, nil) {
				addr := target.To.Addr()
				switch {
				case target.Err != nil && target.To.IsValid(), target.Err == nil && !target.To.IsValid():
					t.Errorf("%q for %q: group %s and error %v", text, topic, target.To, target.Err)
				case target.Err != nil:
				case !addr.IsMulticast() || addr.Is4In6() || addr.Zone() != "" || target.To.Port() == 0:
					t.Errorf("%q for %q: %s is no group", text, topic, target.To)
				case addr.Is6() != table.Send()[0].Binding.IPv6:
					t.Errorf("%q for %q: %s is not of the rule's family", text, topic, target.To)
				}
			}
		}
	})
}

func FuzzHex(f *testing.F) {
	for _, s := range []string{"", "00ff", "AA bb\n", "1", "1 1", "zz", " ", "0x11"} {
		f.Add([]byte(s))
	}
	p := payload(f, "hex")
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := p.Decode(nil, src)
		// encoding/hex knows no white space: between bytes means outside every pair.
		var plain []byte
		for i := 0; i < len(src); i++ {
			if len(plain)%2 == 1 || !strings.ContainsRune(" \t\n\v\f\r", rune(src[i])) {
				plain = append(plain, src[i])
			}
		}
		want, wantErr := hex.DecodeString(string(plain))
		if (err != nil) != (wantErr != nil) || err == nil && string(got) != string(want) {
			t.Errorf("%q: %x, %v, want %x, %v", src, got, err, want, wantErr)
		}
	})
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "AA==", "AA", "3q2+7w==", "_-_-", "A\nA", "====", "+-"} {
		f.Add([]byte(s))
	}
	p := payload(f, "base64")
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := p.Decode(nil, src)
		accepted := false
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			want, wantErr := encoding.Strict().DecodeString(string(src))
			if wantErr != nil {
				continue
			}
			accepted = true
			if err != nil || string(got) != string(want) {
				t.Errorf("%q: %x, %v, want %x", src, got, err, want)
			}
		}
		if err == nil && !accepted {
			t.Errorf("%q: %x, which no encoding gives", src, got)
		}
	})
}

// A field is what encoding/json finds there, unless it cannot be told apart
// from what is not UTF-8 or half a surrogate pair.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{document, `{"a":[1,{"b":"\u0061"}]}`, `[[],{},"",-0.1e-1]`, `"x"`, "null", "1E700", `{"a":1,"a":[2]}`, "{", `{"/~":{"":0}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		root, decodeErr := unmarshal(src)
		if got, err := payload(t, "json:").Decode(nil, src); decodeErr != nil && err == nil {
			t.Fatalf("%q: %q, but: %v", src, got, decodeErr)
		}
		// A long one has too many values, to be looked up one by one.
		if decodeErr != nil || len(src) > 1000 || !utf8.Valid(src) || strings.Contains(strings.ToLower(string(src)), `\ud`) {
			return
		}
		walk(root, "", func(pointer string, value any) {
			if strings.Contains(pointer, "|") {
				return
			}
			got, err := payload(t, "json:"+pointer).Decode(nil, src)
			if err != nil && strings.Contains(err.Error(), "twice") && namedTwice(src) {
				return
			}
			if text, ok := value.(string); ok {
				if err != nil || string(got) != text {
					t.Errorf("%s of %q: %q, %v, want %q", pointer, src, got, err, text)
				}
				return
			}
			same, sameErr := unmarshal(got)
			switch {
			case value == nil && err == nil:
				t.Errorf("%s of %q: null gave %q", pointer, src, got)
			case value == nil:
			case err != nil:
				t.Errorf("%s of %q: %v", pointer, src, err)
			case sameErr != nil || fmt.Sprint(same) != fmt.Sprint(value):
				t.Errorf("%s of %q: %q, want %v", pointer, src, got, value)
			}
		})
	})
}

// namedTwice reports whether an object of the document has a name twice.
func namedTwice(document []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var open []map[string]bool // of an array nil
	name := false              // a name comes next, if it is an object that is open
	for {
		token, err := decoder.Token()
		if err != nil {
			return false
		}
		switch top := len(open) - 1; token {
		case json.Delim('{'):
			open, name = append(open, map[string]bool{}), true
			continue
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
		default:
			if text, is := token.(string); is && name && top >= 0 && open[top] != nil {
				if open[top][text] {
					return true
				}
				open[top][text], name = true, false
				continue
			}
		}
		name = true
	}
}

// unmarshal keeps numbers as they are written: not all fit a float64.
func unmarshal(src []byte) (v any, err error) {
	if err = json.Unmarshal(src, new(json.RawMessage)); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(src))
	decoder.UseNumber()
	return v, decoder.Decode(&v)
}

// walk calls yield for each value below v and its JSON Pointer.
func walk(v any, pointer string, yield func(pointer string, value any)) {
	yield(pointer, v)
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			walk(member, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), yield)
		}
	case []any:
		for i, element := range v {
			walk(element, fmt.Sprint(pointer, "/", i), yield)
		}
	}
}

// Whatever template, name and interface: a topic comes out that a broker takes,
// and that the topic says it matches, or an error.
func FuzzTopic(f *testing.F) {
	for _, s := range [][3]string{
		{"meters/{source}/raw", "", "iso0"}, {"{interface}/{name}", "a/b", "$SYS"}, {"{group&65535}{port}", "", ""}, {"{1/0}", "+", "#"},
		{"{group>>(port&63)}/{source_port*source}", "\xff", "é"}, {"{name}{name}", "$share", "\x00"}, {"{(source-group)%port}", "", ""},
	} {
		f.Add(s[0], s[1], s[2], []byte{192, 0, 2, 7}, uint16(5000))
		f.Add(s[0], s[1], s[2], []byte("\xfd\x17\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), uint16(1))
	}
	f.Fuzz(func(t *testing.T, text, name, iface string, source []byte, port uint16) {
		to, err := mapping.ParseTopic(text)
		if err != nil {
			return
		}
		if again, err := mapping.ParseTopic(to.String()); err != nil || !again.Equal(to) {
			t.Errorf("%q became %q, %v", text, again, err)
		}
		from, _ := netip.AddrFromSlice(source)
		a := &mapping.Arrival{Source: netip.AddrPortFrom(from, port), To: netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 1, byte(port)}), port), Interface: iface}
		for _, list := range []string{"", name} {
			r := mapping.ReceiveRule{Name: name, Groups: []mapping.GroupRange{groupRange(t, "239.1.1.1:1")}, Interface: iface, Topic: to}
			if list == "" {
				r.Interface = "192.0.2.1"
			}
			table, err := mapping.Compile(nil, []mapping.ReceiveRule{r})
			if err != nil {
				continue
			}
			compiled := table.Receive()[0]
			got, err := compiled.Topic.Append(nil, a, compiled.Name)
			if err != nil {
				if len(got) != 0 {
					t.Errorf("%q gave %q and %v", text, got, err)
				}
				continue
			}
			if err := mapping.CheckTopic(string(got)); err != nil || got[0] == '$' {
				t.Errorf("%q gave %q: %v", text, got, err)
			}
			if !compiled.Topic.Matches(string(got)) {
				t.Errorf("%q gave %q, which it does not match", text, got)
			}
			if plain, err := to.Append(nil, a, compiled.Name); err != nil || string(plain) != string(got) {
				t.Errorf("%q gives %q, %v, but in a table %q", text, plain, err, got)
			}
		}
	})
}

func FuzzGroupRange(f *testing.F) {
	for _, s := range []string{"239.1.2.3:5000", "239.1.2.3-239.1.2.9:1", "[ff18::1]:2", "[ff18::1-ff18::f]:65535", "[ff02::1%1]:1", "-:1", "[]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := mapping.ParseGroupRange(s)
		if err != nil {
			return
		}
		if again, err := mapping.ParseGroupRange(g.String()); err != nil || again != g {
			t.Errorf("%q became %s, %v", s, g, err)
		}
		n, last := 0, netip.AddrPort{}
		for group := range g.All() {
			if n++; n > 5000 {
				break
			}
			if !group.Addr().IsMulticast() || group.Addr().Zone() != "" || group.Port() == 0 || last.IsValid() && !last.Addr().Less(group.Addr()) {
				t.Errorf("%q yields %s after %s", s, group, last)
			}
			last = group
		}
		if n <= 5000 && (n != g.Len() || last.Addr() != g.Last) || g.Len() < 1 {
			t.Errorf("%q yields %d up to %s, Len says %d", s, n, last, g.Len())
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{"", "text", "\"\\/\u2028", "\x00", "\xff", "é\n", "\x7f"} {
		f.Add([]byte(s))
	}
	f.Fuzz(roundTrip)
}
