package mapping_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

func topic(t testing.TB, s string) mapping.Topic {
	t.Helper()
	to, err := mapping.ParseTopic(s)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// arrival is a datagram from one address and port to another on iso0.
func arrival(source, group string) *mapping.Arrival {
	return &mapping.Arrival{Source: netip.MustParseAddrPort(source), To: netip.MustParseAddrPort(group), Interface: "iso0"}
}

func TestTopicIsMadeOfTheDatagram(t *testing.T) {
	four := arrival("192.0.2.7:40000", "239.255.1.2:5568")
	six := arrival("[2001:db8::1:2]:40001", "[ff18::a:b]:5000")
	for _, tt := range []struct {
		text string
		a    *mapping.Arrival
		want string
	}{
		{"meters", four, "meters"},
		{"/", four, "/"},
		{"a//b/", four, "a//b/"},
		{"meters/{source}/raw", four, "meters/192.0.2.7/raw"},
		{"{group}", four, "239.255.1.2"},
		{"{ group }", four, "239.255.1.2"},
		{"{(group)}", four, "239.255.1.2"},
		{"{group}:{port}", four, "239.255.1.2:5568"},
		{"{source}-{source_port}", four, "192.0.2.7-40000"},
		{"{interface}/{name}", four, "iso0/rule 1"},
		{"{source}{source}", four, "192.0.2.7192.0.2.7"},
		{"dmx/{group&65535}", four, "dmx/258"},
		{"dmx/{group & 0xff}/{(group>>8)&255}", four, "dmx/2/1"},
		{"{source}/{group/65536}", four, "192.0.2.7/61439"},
		{"{port-source_port}", four, "-34432"},
		{"{source>>24}.{port%10}", four, "192.8"},
		{"{group+0}", four, "4026466562"},
		{"{1+2*3}/x", four, "7/x"},
		{"a{4/2}b", four, "a2b"},
		{"température/{port}", four, "température/5568"},
		{"{source}/{group}", six, "2001:db8::1:2/ff18::a:b"},
		{"{source&65535}/{group}", six, "2/ff18::a:b"},
		{"{group+0}/{source+0}", six, "655371/65538"}, // the last 32 bits
		{"{source}", arrival("[fe80::1%eth0]:1", "[ff02::1]:2"), "fe80::1"},
		{"{group}", arrival("[fe80::1]:1", "[ff02::1%7]:2"), "ff02::1"},
	} {
		got, err := topic(t, tt.text).Append([]byte("kept "), tt.a, "rule 1")
		if err != nil || string(got) != "kept "+tt.want {
			t.Errorf("%s of %v: %q, %v, want %q", tt.text, tt.a, got, err, tt.want)
		}
	}
}

func TestTopicIsWrittenAsItWas(t *testing.T) {
	for _, text := range []string{"a/{ group & 0x0f }/{name}", "{1+1}", "a"} {
		var to mapping.Topic
		if err := to.UnmarshalText([]byte(text)); err != nil || to.String() != text {
			t.Errorf("%s became %s, %v", text, to, err)
		}
		if got, err := to.MarshalText(); err != nil || string(got) != text {
			t.Errorf("%s is marshalled as %s, %v", text, got, err)
		}
		if to.IsZero() || !to.Equal(topic(t, text)) || to.Equal(topic(t, "b")) {
			t.Errorf("%s is not equal to itself alone", text)
		}
	}
	if !(mapping.Topic{}).IsZero() {
		t.Error("the zero topic is one")
	}
}

func TestTopicRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"":                         "at least one character [MQTT-4.7.3-1]",
		"a/+":                      "holds no wildcards + and # [MQTT-3.3.2-2]",
		"a/#":                      "holds no wildcards",
		"a+b/{source}":             "holds no wildcards",
		"a\x00b":                   "U+0000",
		"a/\n":                     "U+000A",
		"{source}\xff":             "not valid UTF-8",
		strings.Repeat("a", 65536): "65536 bytes are more than a topic may have",
		"a/{source":                "{ without }",
		"a/source}":                "} without {",
		"{}":                       "ends where a name, a number or ( should follow",
		"{sources}":                "{sources} is none of {group}, {port}, {source}, {source_port}, {destination}, {interface}, {name}; did you mean {source}",
		"{id}":                     "{id} is none of",
		"{source+id}":              "{id} is none of",
		"{Source}":                 "did you mean {source}",
		"{name+1}":                 "{name+1}: interface and name are texts",
		"{1<<interface}":           "interface and name are texts",
		"{1/0}":                    "{1/0} is a division by zero, not a number",
		"{0x7fffffffffffffff+1}":   "a number beyond 64 bits",
		"{source+}":                "should follow",
		"{source#}":                "an operator should stand",
	} {
		to, err := mapping.ParseTopic(text)
		if err == nil || !strings.Contains(err.Error(), says) || !to.IsZero() {
			t.Errorf("%.40q: %q, %v, want: %s", text, to, err, says)
		}
	}
}

// What is published must be a topic: else the broker closes the connection.
func TestTopicOfADatagramThatIsNone(t *testing.T) {
	on := func(name string) *mapping.Arrival {
		a := arrival("192.0.2.7:40000", "239.255.1.2:5568")
		a.Interface = name
		return a
	}
	long := strings.Repeat("n", 60000)
	for _, tt := range []struct{ text, iface, name, want string }{
		{"a/{interface}", "a+b", "", `topic "a/{interface}": {interface} is "a+b", not UTF-8 without control characters and any of +#/`},
		{"a/{interface}", "#", "", `{interface} is "#", not`},
		{"a/{interface}", "a/b", "", `{interface} is "a/b", not`},
		{"a/{interface}", "\x00", "", `{interface} is "\x00", not`},
		{"a/{interface}", "\u0085", "", `{interface} is "\u0085", not`},
		{"a/{interface}", "\xff", "", `{interface} is "\xff", not`},
		{"a/{name}", "", "x+", `{name} is "x+", not UTF-8 without control characters and any of +#`},
		{"{interface}", "", "", `topic "{interface}": it is empty, not a topic [MQTT-4.7.3-1]`},
		{"{interface}{name}", "", "", "it is empty"},
		{"{interface}/x", "$SYS", "", `it is "$SYS/x", not a topic that begins without $`},
		{"{name}", "", "$SYS/x", `it is "$SYS/x", not a topic`},
		{"{name}/{name}", "", long, "it is 120001 bytes long, not at most 65535 [MQTT-4.7.3-3]"},
		{"a/{1/(port-5568)}", "", "", "{1/(port-5568)} is a division by zero, not a number"},
		{"{1<<(source_port-39936)}", "", "", "is a shift by less than 0 or more than 63, not a number"},
		{"{group*group*group}", "", "", "is a number beyond 64 bits, not a number"},
	} {
		got, err := topic(t, tt.text).Append([]byte("kept"), on(tt.iface), tt.name)
		var topicError *mapping.TopicError
		if !errors.As(err, &topicError) || !strings.Contains(err.Error(), tt.want) || string(got) != "kept" || topicError.Topic != tt.text {
			t.Errorf("%s with %q: %q, %v, want: %s", tt.text, tt.iface, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ text, iface, name, want string }{
		{"a/{interface}/b", "", "", "a//b"},
		{"a/{interface}", "$x", "", "a/$x"},
		{"a/{name}", "", "b/c", "a/b/c"},
	} {
		if got, err := topic(t, tt.text).Append(nil, on(tt.iface), tt.name); err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %s", tt.text, got, err, tt.want)
		}
	}
}

func TestTopicErrorKeepsNothingOfTheArrival(t *testing.T) {
	name := []byte("eth+")
	a := arrival("192.0.2.7:40000", "239.255.1.2:5568")
	a.Interface = unsafeString(name)
	_, err := topic(t, "{interface}").Append(nil, a, "")
	before := err.Error()
	copy(name, "xxxx")
	if diff := cmp.Diff(before, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestTopicMatchesWhatADatagramCanMakeOfIt(t *testing.T) {
	for _, tt := range []struct {
		text, topic string
		want        bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/c", false},
		{"a/{source}/c", "a/192.0.2.7/c", true},
		{"a/{source}/c", "a/b/c", false},
		{"a/{source}/c", "a/b/c/d", false},
		{"a/{source}/c", "a/c", false},
		{"a/x{port}y/c", "a/x1y/c", true},
		{"{group/2}/{(group>>8)/2}", "1/2", true},
		{"{group/2}", "1/2", false},
		{"{source}/x", "$SYS/x", false},
		{"{1+1}/x", "2/x", true},
		{"{1+1}/x", "3/x", false},
	} {
		if got := topic(t, tt.text).Matches(tt.topic); got != tt.want {
			t.Errorf("%s matches %s: %t", tt.text, tt.topic, got)
		}
	}
	if (mapping.Topic{}).Matches("a") {
		t.Error("the zero topic matches")
	}
	// A table's topics know the name of their rule, which may add levels.
	r := receiveRule(t, "239.1.1.1:1", "{name}/{source}")
	r.Name = "a/b"
	to := compileBoth(t, nil, []mapping.ReceiveRule{r}).Receive()[0].Topic
	if !to.Matches("a/b/192.0.2.7") || to.Matches("a/192.0.2.7") || to.String() != "{name}/{source}" {
		t.Errorf("%s of a rule named a/b matches wrongly", to)
	}
	if got, err := to.Append(nil, arrival("192.0.2.7:1", "239.1.1.1:1"), r.Name); err != nil || string(got) != "a/b/192.0.2.7" {
		t.Errorf("%q, %v", got, err)
	}
}
