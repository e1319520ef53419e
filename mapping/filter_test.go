package mapping_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

func filter(t testing.TB, s string) mapping.Filter {
	t.Helper()
	f, err := mapping.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilterIsSubscribedWithoutItsNames(t *testing.T) {
	tests := []struct {
		text, mqtt string
		captures   []string
	}{
		{"a", "a", nil},
		{"/", "/", nil},
		{"a//b/", "a//b/", nil},
		{"#", "#", nil},
		{"+/+", "+/+", nil},
		{"$SYS/broker/#", "$SYS/broker/#", nil},
		{"Plant/A.b/Ä 1", "Plant/A.b/Ä 1", nil},
		{"site/{floor}/lamp/{id}/set", "site/+/lamp/+/set", []string{"floor", "id"}},
		{"{_A1}/+/{rest#}", "+/+/#", []string{"_A1", "rest"}},
		{"{a#}", "#", []string{"a"}},
		{"\ufeffa", "\ufeffa", nil}, // [MQTT-1.5.3-3]: not a byte order mark
		{strings.Repeat("x", 65535), strings.Repeat("x", 65535), nil},
		{"{" + strings.Repeat("long", 1000) + "}/" + strings.Repeat("x", 65533), "+/" + strings.Repeat("x", 65533), []string{strings.Repeat("long", 1000)}},
	}
	for _, tt := range tests {
		f := filter(t, tt.text)
		if f.String() != tt.text || f.MQTT() != tt.mqtt {
			t.Errorf("%.80q: String %.80q, MQTT %.80q, want %.80q", tt.text, f, f.MQTT(), tt.mqtt)
		}
		if diff := cmp.Diff(tt.captures, f.Captures()); diff != "" {
			t.Errorf("%.80q: captures (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	tests := map[string]struct{ text, says string }{
		"[MQTT-4.7.3-1] empty":             {"", "at least one character"},
		"[MQTT-4.7.3-2] NUL":               {"a\x00b", "U+0000 at byte 1"},
		"[MQTT-4.7.3-3] too long":          {strings.Repeat("x", 65536), "65536 bytes are more than a topic may have"},
		"[MQTT-1.5.3-1] UTF-8":             {"a/\xff", "not valid UTF-8"},
		"[MQTT-1.5.3-1] surrogate":         {"a/\xed\xa0\x80", "not valid UTF-8"},
		"1.5.3 control character":          {"a\nb", "U+000A at byte 1"},
		"1.5.3 C1 control character":       {"a/\u009f", "U+009F at byte 2"},
		"1.5.3 delete":                     {"a/\u007f", "U+007F at byte 2"},
		"1.5.3 non-character":              {"a/\uffff", "U+FFFF at byte 2"},
		"1.5.3 non-character of a plane":   {"a/\U0010fffe", "U+10FFFE at byte 2"},
		"1.5.3 non-character in the block": {"a/\ufdd0", "U+FDD0 at byte 2"},
		"[MQTT-4.7.1-2] # not last":        {"sport/#/ranking", "# takes all that follows, so it must be the last level"},
		"[MQTT-4.7.1-2] # in a level":      {"sport/tennis#", `# in "tennis#" does not fill its level`},
		"[MQTT-4.7.1-2] ##":                {"##", `# in "##" does not fill its level`},
		"[MQTT-4.7.1-2] {name#} not last":  {"a/{rest#}/b", "{rest#} takes all that follows"},
		"[MQTT-4.7.1-3] + in a level":      {"sport+", `+ in "sport+" does not fill its level`},
		"[MQTT-4.7.1-3] ++":                {"a/++", `+ in "++" does not fill its level`},
		"capture in a level":               {"lamp{id}/set", `"lamp{id}" is no capture`},
		"capture behind a level":           {"{id}lamp", `"{id}lamp" is no capture`},
		"two captures in a level":          {"{a}{b}", `"{a}{b}" is no capture`},
		"capture not closed":               {"a/{id", `"{id" is no capture`},
		"capture not opened":               {"a/id}", `"id}" is no capture`},
		"capture without name":             {"a/{}", `"{}" is no capture`},
		"{#}":                              {"a/{#}", `"{#}" is no capture`},
		"capture of digits":                {"a/{1a}", `"{1a}" is no capture`},
		"capture with a blank":             {"a/{my id}", `"{my id}" is no capture`},
		"capture twice":                    {"{id}/x/{id}", "two captures are named {id}"},
		"capture twice, once as #":         {"{id}/x/{id#}", "two captures are named {id}"},
		"shared subscription":              {"$share/group/a/b", "as the key share"},
		"shared subscription, old":         {"$queue/a/b", "as the key share"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := mapping.ParseFilter(tt.text)
			if err == nil || !f.IsZero() {
				t.Fatalf("ParseFilter gave %q, %v", f, err)
			}
			if !strings.HasPrefix(err.Error(), "filter ") || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
			if len(err.Error()) > 600 {
				t.Errorf("error of %d bytes floods the log", len(err.Error()))
			}
		})
	}
}

func TestFilterMatch(t *testing.T) {
	tests := []struct {
		clause, filter string
		matches, not   []string
	}{
		{"[MQTT-4.7.1-2] # takes any number of levels and the one above", "sport/tennis/player1/#",
			[]string{"sport/tennis/player1", "sport/tennis/player1/", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"},
			[]string{"sport/tennis", "sport/tennis/player2", "sport/tennis/player10"}},
		{"[MQTT-4.7.1-2] # alone takes all", "#", []string{"a", "/", "//", "a/b/c", " "}, nil},
		{"[MQTT-4.7.1-3] + takes one level", "sport/tennis/+",
			[]string{"sport/tennis/player1", "sport/tennis/"},
			[]string{"sport/tennis", "sport/tennis/player1/ranking", "Sport/tennis/x"}},
		{"[MQTT-4.7.1-3] + and # together", "+/tennis/#", []string{"sport/tennis", "/tennis/x/y"}, []string{"tennis", "a/b/tennis"}},
		{"[MQTT-4.7.1-3] + in the middle", "sport/+/player1", []string{"sport/x/player1", "sport//player1"}, []string{"sport/player1", "sport/x/y/player1"}},
		{"[MQTT-4.7.1-3] an empty level is a level", "+/+", []string{"/finance", "a/b", "/"}, []string{"a", "a/b/c", "//"}},
		{"[MQTT-4.7.1-3] a slash in front", "/+", []string{"/finance"}, []string{"finance", "/a/b"}},
		{"[MQTT-4.7.1-3] + does not take two", "+", []string{"finance", " "}, []string{"/finance", "finance/"}},
		{"[MQTT-4.7.2-1] # is not for $", "#", nil, []string{"$SYS/uptime", "$"}},
		{"[MQTT-4.7.2-1] + is not for $", "+/monitor/Clients", []string{"a/monitor/Clients"}, []string{"$SYS/monitor/Clients"}},
		{"[MQTT-4.7.2-1] a written $ is", "$SYS/#", []string{"$SYS", "$SYS/x"}, []string{"SYS/x", "$sys/x"}},
		{"[MQTT-4.7.2-1] a wildcard behind it is for $", "$SYS/monitor/+", []string{"$SYS/monitor/$x"}, []string{"$SYS/monitor"}},
		{"[MQTT-4.7.2-1] only in front", "a/+/#", []string{"a/$b", "a/$b/$c"}, nil},
		{"[MQTT-4.7.3-1] no topic is empty", "#", nil, []string{""}},
		{"[MQTT-4.7.3-4] case, blanks and forms count", "Accounts payable/é", []string{"Accounts payable/é"}, []string{"ACCOUNTS payable/é", "Accountspayable/é", "Accounts payable/e\u0301"}},
		{"captures match as their wildcards", "site/{floor}/{rest#}", []string{"site/1", "site/1/2/3", "site/"}, []string{"site", "x/1/2"}},
	}
	for _, tt := range tests {
		t.Run(tt.clause, func(t *testing.T) {
			f := filter(t, tt.filter)
			for _, topic := range tt.matches {
				if !f.Match(topic) {
					t.Errorf("%s does not match %q", f, topic)
				}
			}
			for _, topic := range tt.not {
				if f.Match(topic) {
					t.Errorf("%s matches %q", f, topic)
				}
			}
		})
	}
}

func TestFilterCoversAndOverlaps(t *testing.T) {
	const covers, covered, equal, partly, apart = "covers", "is covered by", "equals", "partly overlaps", "is apart from"
	tests := []struct{ f, relation, g string }{
		{"a/b", equal, "a/b"},
		{"a/{x}", equal, "a/+"},
		{"#", equal, "+/#"}, // every topic has a first level
		{"a/#", covers, "a"},
		{"a/#", covers, "a/+/#"},
		{"a/#", covers, "a/+"},
		{"a/+/#", covers, "a/b"},
		{"+/b", covers, "a/b"},
		{"+", apart, "+/+"},
		{"a/+", partly, "+/b"},
		{"a/#", partly, "+/b"},
		{"a/#", partly, "+"},
		{"+/#", covers, "a/b/c"},
		{"+/+/#", covered, "#"},
		{"a", apart, "b"},
		{"a/+/c", apart, "a/b/d"},
		{"a", apart, "a/+"},
		{"#", apart, "$SYS/#"},
		{"+/x", apart, "$SYS/x"},
		{"+/#", apart, "$SYS/#"},
		{"$SYS/#", covers, "$SYS/+/x"},
		{"$SYS/+", partly, "$SYS/a/#"},
	}
	for _, tt := range tests {
		f, g := filter(t, tt.f), filter(t, tt.g)
		got := apart
		switch {
		case f.Covers(g) && g.Covers(f):
			got = equal
		case f.Covers(g):
			got = covers
		case g.Covers(f):
			got = covered
		case f.Overlaps(g):
			got = partly
		}
		if got != tt.relation {
			t.Errorf("%s %s %s, not: %s", f, got, g, tt.relation)
		}
		if f.Overlaps(g) != (tt.relation != apart) || f.Overlaps(g) != g.Overlaps(f) {
			t.Errorf("%s and %s: Overlaps says %t and %t", f, g, f.Overlaps(g), g.Overlaps(f))
		}
	}
}

func TestZeroFilterMatchesNothing(t *testing.T) {
	var zero mapping.Filter
	all := filter(t, "#")
	if !zero.IsZero() || zero.Match("") || zero.Match("a") || zero.Covers(zero) || zero.Overlaps(all) || all.Covers(zero) {
		t.Error("the zero Filter matches something")
	}
}

func TestFilterTextRoundTrip(t *testing.T) {
	var f mapping.Filter
	if err := f.UnmarshalText([]byte("a/{id}/#")); err != nil {
		t.Fatal(err)
	}
	if text, err := f.MarshalText(); err != nil || string(text) != "a/{id}/#" || f != filter(t, "a/{id}/#") {
		t.Errorf("MarshalText gave %q, %v", text, err)
	}
	if err := f.UnmarshalText([]byte("a#")); err == nil || !f.IsZero() {
		t.Errorf("UnmarshalText of a bad filter left %q, %v", f, err)
	}
}

func TestCheckTopic(t *testing.T) {
	for _, topic := range []string{"a", "/", "$SYS/x", "a b/ü"} {
		if err := mapping.CheckTopic(topic); err != nil {
			t.Error(err)
		}
	}
	for _, topic := range []string{"", "a/+", "#", "a#b", "a\x00", "\xff", strings.Repeat("a", 65536)} {
		if err := mapping.CheckTopic(topic); err == nil {
			t.Errorf("CheckTopic lets %.20q pass", topic)
		}
	}
}
