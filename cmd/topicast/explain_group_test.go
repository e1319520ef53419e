package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

func TestAnArgumentOfExplainIsAGroupOrATopic(t *testing.T) {
	for _, c := range []struct {
		what, from string
		group      bool
		wrong      string // part of the error
	}{
		{"239.1.2.3:5000", "", true, ""},
		{"239.1.2.3:5000", "192.0.2.7", true, ""},
		{"239.1.2.3:5000", "192.0.2.7:1234", true, ""},
		{"[ff15::7]:5000", "[2001:db8::7]:1234", true, ""},
		{"[ff15::7]:5000", "2001:db8::7", true, ""},
		{"site/3/lamp/7/set", "", false, ""},
		{"239.1.2.3", "", false, ""},    // {group} makes such topics
		{"10.1.2.3:5000", "", true, ""}, // what comes to a host
		{"[fd17::1]:5000", "fd17::7", true, ""},
		{"0.0.0.0:5000", "", false, ""},
		{"10.1.2.3:0", "", false, ""},
		{"10.1.2.3", "", false, ""},
		{"10.1.2.3:5000", "fd17::7", true, "not of the address family of 10.1.2.3:5000"},
		{"site/+/lamp", "", false, "a topic holds no wildcards"},
		{"site/3/lamp/7/set", "192.0.2.7", false, "--from is for the datagrams of a group"},
		{"[ff02::7%eth0]:5000", "", true, "leave out %eth0"},
		{"239.1.2.3:5000", "2001:db8::7", true, "not of the address family of 239.1.2.3:5000"},
		{"239.1.2.3:5000", "lamp", true, `--from "lamp": it is an address`},
		{"239.1.2.3:5000", "239.1.2.3", true, "no address of a sender"},
		{"239.1.2.3:5000", "0.0.0.0", true, "no address of a sender"},
		{"[ff15::7]:5000", "fe80::1%eth0", true, "no address of a sender"},
	} {
		_, group, err := parseQuestion(c.what, c.from)
		if group != c.group || (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s from %q: group: %t, %v; want %t, %s", c.what, c.from, group, err, c.group, c.wrong)
		}
	}
}

func TestExplainTellsOfTheTopicWhatIsKnown(t *testing.T) {
	for _, c := range []struct {
		template, from string
		want           string
	}{
		{"fixed", "", "fixed"},
		{"{group}/{port}/{interface}/{name}", "", "239.1.2.3/5000/iso0/r"},
		{"{group&255}", "", "3"},
		{"from/{source}", "", "from/{source} (--from ADDRESS tells the rest)"},
		{"from/{source}", "192.0.2.7", "from/192.0.2.7"},
		{"from/{source}/{source_port}", "192.0.2.7", "from/{source}/{source_port} (--from ADDRESS:PORT tells the rest)"},
		{"from/{source}/{source_port}", "192.0.2.7:1234", "from/192.0.2.7/1234"},
		{"{100/(source_port-1)}", "192.0.2.7:1", "bad_topic"},
		{"{100/(source_port-1)}", "192.0.2.7", "{100/(source_port-1)} (--from ADDRESS:PORT tells the rest)"},
	} {
		topic, err := mapping.ParseTopic(c.template)
		if err != nil {
			t.Fatal(err)
		}
		q, _, err := parseQuestion("239.1.2.3:5000", c.from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.topic(mapping.ReceiveRule{Name: "r", Topic: topic}, "iso0")
		if err != nil {
			got = "bad_topic"
		}
		if got != c.want {
			t.Errorf("%s from %q: %s, want %s", c.template, c.from, got, c.want)
		}
	}
}

func TestGroupsThatARuleJustMissesAreNear(t *testing.T) {
	for _, c := range []struct{ group, asked, want string }{
		{"239.1.1.1:5000", "239.1.1.1:5001", "the port is 5000, not 5001"},
		{"239.1.1.1-239.1.1.9:5000", "239.1.1.4:5001", "the port is 5000, not 5001"},
		{"239.1.1.1:5000", "239.1.1.2:5000", "the address is 239.1.1.1, not 239.1.1.2"},
		{"239.1.1.1-239.1.1.9:5000", "239.1.1.10:5000", "239.1.1.10 is not between 239.1.1.1 and 239.1.1.9"},
		{"239.1.1.1:5000", "239.1.1.2:5001", ""},
		{"239.1.1.1:5000", "[ff15::1]:5000", ""},
	} {
		q, _, err := parseQuestion(c.asked, "")
		if err != nil {
			t.Fatal(err)
		}
		if why, near := misses(testGroups(t, c.group)[0], q.group); why != c.want || near != (c.want != "") {
			t.Errorf("%s for %s: %q, %t, want %q", c.group, c.asked, why, near, c.want)
		}
	}
}

func TestTheNearestGroupsComeFirstAndAreFew(t *testing.T) {
	var rules []mapping.ReceiveRule
	for i, groups := range []string{
		"239.1.1.9:5000", "239.1.1.8:5000", "239.1.1.7:5000", "239.1.1.6:5000", "239.1.1.5:5000 239.1.1.4:5000", "239.1.1.1:5001", "239.9.9.9:9",
	} {
		rules = append(rules, mapping.ReceiveRule{Name: fmt.Sprint("r", i), Groups: testGroups(t, groups)})
	}
	q, _, err := parseQuestion("239.1.1.1:5000", "")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	explainUnheard(&b, q.group, rules)
	want := `239.1.1.1:5000 is heard by none of 7 receive rules

nearest:
  rule r5 (receive[5])  239.1.1.1:5001  the port is 5001, not 5000
  rule r0 (receive[0])  239.1.1.9:5000  the address is 239.1.1.9, not 239.1.1.1
  rule r1 (receive[1])  239.1.1.8:5000  the address is 239.1.1.8, not 239.1.1.1
  rule r2 (receive[2])  239.1.1.7:5000  the address is 239.1.1.7, not 239.1.1.1
  rule r3 (receive[3])  239.1.1.6:5000  the address is 239.1.1.6, not 239.1.1.1
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
