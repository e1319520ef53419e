package mapping_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"topicast/mapping"
)

func answerTopic(t testing.TB, text string) (to mapping.AnswerTopic) {
	t.Helper()
	if text == "" {
		return to
	}
	to, err := mapping.ParseAnswerTopic(text)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// asking is a rule of a filter that sends to a group, or to a host where there is none, and has
// answers on a topic.
func asking(t testing.TB, filter, group, host, topic, none, match string) mapping.SendRule {
	t.Helper()
	r := mapping.SendRule{QoS: 1, Binding: mapping.Binding{Interface: "eth0", TTL: 1, Loopback: true}}
	m, err := mapping.ParseMatch(match)
	if err == nil {
		r.Filter, err = mapping.ParseFilter(filter)
	}
	if err == nil && group != "" {
		r.Group, err = mapping.ParseGroup(group)
	}
	if err == nil && host != "" {
		r.Host, err = mapping.ParseHost(host)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Answer = &mapping.Answer{Topic: answerTopic(t, topic), None: answerTopic(t, none), Within: time.Second, Tries: 1, Match: m}
	return r
}

func TestAnAnswersTopicIsMadeOfRequestAndAnswer(t *testing.T) {
	for topic, want := range map[string]string{
		"site/{id}/answer":                   "site/7/answer",
		"a/{id}/{source}/{source_port}":      "a/7/192.0.2.7/1010",
		"a/{id+1}/{source&255}/{u8@0+id}":    "a/8/7/72",
		"a/{group}/{port}/{interface}/{r}":   "a/192.0.2.9/53/iso0/a/b",
		"a/{id}/{name}/{text@0:2}/{hex@2:1}": "a/7/ask/AB/43",
	} {
		rule := asking(t, "q/{id}/{r#}", "", "192.0.2.{id}:1010", topic, "", "")
		rule.Name = "ask"
		table, err := mapping.Compile([]mapping.SendRule{rule}, nil)
		if err != nil {
			t.Errorf("%s: %v", topic, err)
			continue
		}
		got, err := table.Send()[0].Answer.Topic.AppendFor([]byte("+"), "q/7/a/b", []byte("ABC"), arrival("192.0.2.7:1010", "192.0.2.9:53"))
		if err != nil || string(got) != "+"+want {
			t.Errorf("%s: %q, %v; want %s", topic, got, err, want)
		}
	}
}

func TestFaultsOfAnswers(t *testing.T) {
	const group, host = "239.1.1.1:5000", "192.0.2.{id}:1010"
	for _, tt := range []struct {
		rule mapping.SendRule
		with func(*mapping.SendRule)
		says string // "": it is taken
	}{
		{rule: asking(t, "q/{id}", "", host, "a/{id}", "n/{id}/{port}", "")},
		{rule: asking(t, "q/{id}", group, "", "a/{id}", "", "any")},
		{rule: asking(t, "q/{id}", group, "", "a/{id}", "", "hex@2:2")},
		{asking(t, "q/{id}", "", host, "a/{idd}", "", ""), nil, "{idd} is no capture of the filter"},
		{asking(t, "q/{id}", "", host, "", "", ""), nil, "topic: missing"},
		{asking(t, "q/{id}", "", host, "a", "n/{source}", ""), nil, "is made of an answer"},
		{asking(t, "q/{id}", "", host, "a", "n/{u8@0}", ""), nil, "is made of an answer"},
		{asking(t, "{source}/{id}", "", host, "x/a/{source}", "", ""), nil, "{source} is a capture of the filter"},
		{asking(t, "q/{id}", "", host, "$SYS/{id}", "", ""), nil, "begins with $"},
		{asking(t, "q/{id}", "", host, "q/{source}", "", ""), nil, "own filter"},
		{asking(t, "q/{id}", "", host, "a", "q/none", ""), nil, "own filter"},
		{asking(t, "q/{id}/{r#}", "", host, "{r}/x", "", ""), nil, "own filter"},
		{asking(t, "q/{id}", group, "", "a", "", "source"), nil, "about the host that was asked"},
		{asking(t, "q/{id}", "", host, "a", "", ""), func(r *mapping.SendRule) { r.Answer.Within = time.Hour }, "out of range"},
		{asking(t, "q/{id}", "", host, "a", "", ""), func(r *mapping.SendRule) { r.Answer.Tries = 0 }, "out of range"},
		{asking(t, "q/{id}", "", host, "a", "", ""), func(r *mapping.SendRule) { r.Refresh = time.Minute }, "tries sends"},
		{asking(t, "q/{id}", "", host, "a", "", ""), func(r *mapping.SendRule) { _ = r.Counter.UnmarshalText([]byte("u8@0")) }, "counter"},
		{asking(t, "q/{id}", "", host, "a", "", ""), func(r *mapping.SendRule) { _ = r.Rate.UnmarshalText([]byte("10/m")); r.Answer.Tries = 2 }, "nothing leaves for 6s"},
	} {
		if tt.with != nil {
			tt.with(&tt.rule)
		}
		_, err := mapping.Compile([]mapping.SendRule{tt.rule}, nil)
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error()+hints(err), tt.says)) {
			t.Errorf("%v: %v, want %q", tt.rule.Answer, err, tt.says)
		}
	}
	for _, match := range []string{"u16", "json:/id", "sources", "hex@0:65", "u16@0 "} {
		if m, err := mapping.ParseMatch(match); err == nil {
			t.Errorf("%s is taken for %v", match, m)
		}
	}
}

// hints are those of all faults.
func hints(err error) (text string) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range all.Unwrap() {
			if f, ok := err.(*mapping.Fault); ok {
				text += " " + f.Hint
			}
		}
	}
	return text
}

// Rules whose answers are each other's requests would ask without end.
func TestAnswersThatAreRequestsAreRefused(t *testing.T) {
	const host = "192.0.2.{id}:1010"
	a, b := asking(t, "a/{id}", "", host, "b/{id}", "", ""), asking(t, "b/{id}", "", host, "c/{id}", "", "")
	if _, err := mapping.Compile([]mapping.SendRule{a, b}, nil); err != nil {
		t.Errorf("of one way: %v", err)
	}
	c := asking(t, "c/{id}", "", host, "d", "a/1", "")
	if _, err := mapping.Compile([]mapping.SendRule{a, b, c}, nil); err == nil || !strings.Contains(err.Error(), "requests without end") {
		t.Errorf("a circle: %v", err)
	}
}

// An answer's source is an address and its port a number, which no topic of another word is.
func TestAnAnswersAddressIsNoWord(t *testing.T) {
	for _, tt := range []struct {
		filter, topic, none string
		circle              bool
	}{
		{"mdns/ask", "mdns/{source}", "", false},
		{"mdns/192.0.2.7", "mdns/{source}", "", true},
		{"mdns/+", "mdns/{source}", "", true},
		{"mdns/{id}", "mdns/{source}", "", true},
		{"mdns/#", "mdns/{source}", "", true},
		{"mdns/ask", "mdns/a{source}", "", true}, // only a level of its own is looked at
		{"mdns/ask", "mdns/{interface}", "", false},
		{"mdns/ask", "mdns/{source_port}", "", false},
		{"mdns/5353", "mdns/{source_port}", "", true},
		{"mdns/ask", "mdns/{u8@0+1}", "", false},
		{"mdns/7", "mdns/{u8@0+1}", "", true},
		{"mdns/ask", "mdns/{text@0:3}", "", true},
		{"mdns/", "answers", "mdns/{group}", true}, // of a request that has no target
	} {
		own := asking(t, tt.filter, "", "192.0.2.1:1010", tt.topic, tt.none, "")
		_, err := mapping.Compile([]mapping.SendRule{own}, nil)
		if is := err != nil && strings.Contains(err.Error(), "would be the next request"); is != tt.circle || err != nil && !is {
			t.Errorf("%s of %s, %s: %v, want %v", tt.topic, tt.none, tt.filter, err, tt.circle)
		}
		if strings.Contains(tt.filter, "{id}") {
			continue
		}
		a, b := asking(t, "a", "", "192.0.2.1:1010", tt.topic, tt.none, ""), asking(t, tt.filter, "", "192.0.2.1:1010", "a", "", "")
		_, err = mapping.Compile([]mapping.SendRule{a, b}, nil)
		if is := err != nil && strings.Contains(err.Error(), "requests without end"); is != tt.circle || err != nil && !is {
			t.Errorf("%s of %s, and %s beside it: %v, want %v", tt.topic, tt.none, tt.filter, err, tt.circle)
		}
	}
}

// No rule is given what is for another one: their sockets differ, and a port is one socket.
func TestARuleWithAnswerHasASocketOfItsOwn(t *testing.T) {
	a, b := asking(t, "a", "239.1.1.1:5000", "", "x", "", ""), asking(t, "b", "239.1.1.1:5000", "", "y", "", "")
	table, err := mapping.Compile([]mapping.SendRule{a, b}, nil)
	if err != nil || table.Send()[0].Binding == table.Send()[1].Binding {
		t.Errorf("%v", err)
	}
	a.Binding.SourcePort, b.Binding.SourcePort = 5353, 5353
	if _, err := mapping.Compile([]mapping.SendRule{a, b}, nil); err == nil || !strings.Contains(err.Error(), "a socket of its own") {
		t.Errorf("of one port: %v", err)
	}
}

func TestKeysOfRequestsAndAnswers(t *testing.T) {
	asked, group := netip.MustParseAddrPort("192.0.2.7:53"), netip.MustParseAddrPort("239.1.1.1:5353")
	for _, tt := range []struct {
		match            string
		to               netip.AddrPort
		request          string
		source, answer   string
		is, lacks, often bool
	}{
		{"source", asked, "x", "192.0.2.7:53", "y", true, false, false},
		{"source", asked, "x", "192.0.2.7:54", "y", false, false, false},
		{"source", asked, "x", "192.0.2.8:53", "y", false, false, false},
		{"address", asked, "x", "192.0.2.7:54", "y", true, false, false},
		{"any", asked, "x", "192.0.2.8:54", "y", true, false, true},
		{"any", group, "x", "192.0.2.8:54", "y", true, false, true},
		{"u16@1", group, ".ab", "192.0.2.8:54", "-ab-", true, false, true},
		{"u16@1", group, ".ab", "192.0.2.8:54", "-ac", false, false, true},
		{"u16@1", asked, ".ab", "192.0.2.7:54", "-ab", true, false, false},
		{"u16@1", asked, ".ab", "192.0.2.8:53", "-ab", false, false, false},
		{"u16@1", asked, ".ab", "192.0.2.7:53", "-a", false, true, false},
	} {
		m, err := mapping.ParseMatch(tt.match)
		if err != nil {
			t.Fatal(err)
		}
		key, is := m.Key(tt.to, []byte(tt.request)), false
		for _, k := range m.AnswerKeys(netip.MustParseAddrPort(tt.source), []byte(tt.answer)) {
			is = is || k == key
		}
		if is != tt.is || m.Lacks([]byte(tt.answer)) != tt.lacks || m.Collects(tt.to) != tt.often {
			t.Errorf("%+v: matches %v, lacks %v, collects %v", tt, is, m.Lacks([]byte(tt.answer)), m.Collects(tt.to))
		}
	}
}
