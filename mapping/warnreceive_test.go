package mapping_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// receiveWarnings are the warnings of receive rules, which it names.
func receiveWarnings(t *testing.T, rules ...mapping.ReceiveRule) []string {
	for i := range rules {
		rules[i].Name = fmt.Sprint("rule ", i)
	}
	var texts []string
	for _, w := range compileBoth(t, nil, rules).Warnings() {
		texts = append(texts, w.Path+": "+w.Text)
	}
	return texts
}

func TestSourceSpecificGroupsNeedTheirSources(t *testing.T) {
	const text = " is source-specific (RFC 4607): routers carry it only to those that name the senders, so list these in source, as addresses and not as networks"
	for _, tt := range []struct {
		groups  []string
		sources []string
		want    []string
	}{
		{[]string{"232.1.1.1:1"}, nil, []string{"receive[0].group: 232.1.1.1:1" + text}},
		{[]string{"232.0.0.0:1"}, []string{"192.0.2.0/24"}, []string{"receive[0].group: 232.0.0.0:1" + text}},
		{[]string{"232.255.255.255:1"}, []string{"192.0.2.7/32", "198.51.100.0/24"}, []string{"receive[0].group: 232.255.255.255:1" + text}},
		{[]string{"232.1.1.1:1"}, []string{"192.0.2.7/32", "192.0.2.8/32"}, nil},
		{[]string{"231.255.255.255:1", "233.0.0.0:1", "239.1.1.1:1"}, nil, nil},
		{[]string{"239.1.1.1:1", "231.255.255.255-232.0.0.0:1"}, nil, []string{"receive[0].group[1]: 231.255.255.255-232.0.0.0:1" + text}},
		{[]string{"232.255.255.255-233.0.0.0:1"}, nil, []string{"receive[0].group: 232.255.255.255-233.0.0.0:1" + text}},
		{[]string{"[ff3e::1]:1", "[ff35::1]:1"}, nil, []string{"receive[0].group[0]: [ff3e::1]:1" + text, "receive[0].group[1]: [ff35::1]:1" + text}},
		{[]string{"[ff3e::1]:1"}, []string{"fd17::7/128"}, nil},
		{[]string{"[ff3e:1::1]:1", "[ff35:40::1]:1", "[ff15::1]:1", "[ff2e::1]:1"}, nil, nil}, // RFC 3306 prefixes
	} {
		r := receiveRule(t, "239.1.1.1:1", "a", groups(t, tt.groups...), sources(tt.sources...))
		if diff := cmp.Diff(tt.want, receiveWarnings(t, r)); diff != "" {
			t.Errorf("%q from %q (-want +got):\n%s", tt.groups, tt.sources, diff)
		}
	}
}

func TestRetainedTopicsOfSourcePortsAreWarnedOf(t *testing.T) {
	const text = " has {source_port} in it: a sender has another port after each restart, often for each datagram, and the broker keeps the last message of every topic there was"
	retain := func(r *mapping.ReceiveRule) { r.Retain, r.DropEmpty = true, true }
	for _, tt := range []struct {
		topic  string
		change receiveChange
		want   []string
	}{
		{"a/{source_port}", retain, []string{"receive[0].retain: a/{source_port}" + text}},
		{"a/{source_port&1}", retain, []string{"receive[0].retain: a/{source_port&1}" + text}},
		{"a/{source_port}", func(*mapping.ReceiveRule) {}, nil},
		{"a/{source}/{port}", retain, nil},
	} {
		if diff := cmp.Diff(tt.want, receiveWarnings(t, receiveRule(t, "239.1.1.1:1", tt.topic, tt.change))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.topic, diff)
		}
	}
}

func TestDatagramsThatArePublishedTwiceAreWarnedOf(t *testing.T) {
	in := func(to string, change ...receiveChange) mapping.ReceiveRule {
		return receiveRule(t, "239.1.1.1:1", to, change...)
	}
	for name, tt := range map[string]struct {
		rules []mapping.ReceiveRule
		want  []string
	}{
		"listed twice": {[]mapping.ReceiveRule{in("a", groups(t, "239.1.1.9:1", "239.1.1.1-239.1.1.9:1"))},
			[]string{"receive[0].group[1]: 239.1.1.1-239.1.1.9:1 is listed twice: it overlaps 239.1.1.9:1"}},
		"two rules": {[]mapping.ReceiveRule{in("a/{source}"), in("b"), in("a/{source}", groups(t, "239.7.7.7:1", "239.1.1.0-239.1.1.2:1"))},
			[]string{"receive[2].group[1]: receive[0] publishes datagrams to 239.1.1.1:1 on a/{source} too: what both hear is published twice"}},
		"three": {[]mapping.ReceiveRule{in("a"), in("a"), in("a")},
			[]string{
				"receive[1].group: receive[0] publishes datagrams to 239.1.1.1:1 on a too: what both hear is published twice",
				"receive[2].group: receive[0] publishes datagrams to 239.1.1.1:1 on a too: what both hear is published twice",
				"receive[2].group: receive[1] publishes datagrams to 239.1.1.1:1 on a too: what both hear is published twice"}},
		"with another port between": {[]mapping.ReceiveRule{in("a"), in("a", groups(t, "239.1.1.1:2")), in("a")},
			[]string{"receive[2].group: receive[0] publishes datagrams to 239.1.1.1:1 on a too: what both hear is published twice"}},
		"a range over all": {[]mapping.ReceiveRule{in("a", groups(t, "239.1.1.0-239.1.1.9:1")), in("a", groups(t, "239.1.1.2:1")), in("a", groups(t, "239.1.1.8:1"))},
			[]string{
				"receive[1].group: receive[0] publishes datagrams to 239.1.1.0-239.1.1.9:1 on a too: what both hear is published twice",
				"receive[2].group: receive[0] publishes datagrams to 239.1.1.0-239.1.1.9:1 on a too: what both hear is published twice"}},
		"a name that is a text": {[]mapping.ReceiveRule{in("{name}"), in("rule 0")},
			[]string{"receive[1].group: receive[0] publishes datagrams to 239.1.1.1:1 on rule 0 too: what both hear is published twice"}},
		"names":              {[]mapping.ReceiveRule{in("{name}"), in("{name}")}, nil},
		"other topics":       {[]mapping.ReceiveRule{in("a/{source}"), in("a/{port}")}, nil},
		"other ports":        {[]mapping.ReceiveRule{in("a"), in("a", groups(t, "239.1.1.1:2"))}, nil},
		"other groups":       {[]mapping.ReceiveRule{in("a"), in("a", groups(t, "239.1.1.2-239.1.1.9:1"))}, nil},
		"other families":     {[]mapping.ReceiveRule{in("a"), in("a", groups(t, "[ff18::1]:1"))}, nil},
		"other interfaces":   {[]mapping.ReceiveRule{in("a"), in("a", onInterface("priv0"))}, nil},
		"other senders":      {[]mapping.ReceiveRule{in("a", sources("192.0.2.7/32")), in("a", sources("192.0.2.8/32", "198.51.100.0/24"))}, nil},
		"some equal senders": {[]mapping.ReceiveRule{in("a", sources("192.0.2.7/32", "198.51.100.7/32")), in("a", sources("192.0.2.8/32", "198.51.100.0/24"))}, []string{"receive[1].group: receive[0] publishes datagrams to 239.1.1.1:1 on a too: what both hear is published twice"}},
		"some and any":       {[]mapping.ReceiveRule{in("a", sources("192.0.2.7/32")), in("a")}, []string{"receive[1].group: receive[0] publishes datagrams to 239.1.1.1:1 on a too: what both hear is published twice"}},
	} {
		if diff := cmp.Diff(tt.want, receiveWarnings(t, tt.rules...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// However many there are, the log is not flooded and the search ends.
func TestReceiveWarningsAreLimited(t *testing.T) {
	same := make([]mapping.ReceiveRule, 30)
	for i := range same {
		same[i] = receiveRule(t, "232.1.1.1:1", "a/{source_port}", func(r *mapping.ReceiveRule) { r.Retain, r.DropEmpty = true, true })
	}
	got := receiveWarnings(t, same...)
	want := map[int]string{
		20: "receive: 10 more groups that are source-specific",
		41: "receive: 415 more groups that are heard twice for one topic",
		62: "receive: 10 more retained topics with {source_port}",
	}
	if len(got) != 63 {
		t.Fatalf("%d warnings", len(got))
	}
	for i, text := range want {
		if got[i] != text {
			t.Errorf("warning %d: %s, want %s", i, got[i], text)
		}
	}
	many := make([]mapping.ReceiveRule, 3000)
	for i := range many {
		many[i] = receiveRule(t, "239.1.1.1:1", "a", sources(fmt.Sprintf("10.0.%d.%d/32", i/256, i%256)))
	}
	if diff := cmp.Diff([]string{"receive: the search for groups that are heard twice was cut short"}, receiveWarnings(t, many...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Two names of an interface are two of one; but a topic with {interface} differs.
func TestWhatIsHeardTwiceByTwoNamesOfAnInterface(t *testing.T) {
	for topic, want := range map[string]int{"m/{source}": 1, "m/{interface}": 0} {
		_, receive := bothWays(t, "239.1.1.1:1 > "+topic+" @iso0\n239.1.1.1:1 > "+topic+" @enp3s0")
		table := compileBoth(t, nil, receive)
		if got := len(table.Warnings()); got != 0 {
			t.Errorf("%s: %d warnings without the host's names", topic, got)
		}
		if got := table.On(mapping.HostInterfaces{Names: map[string]string{"enp3s0": "iso0"}}).Warnings(); len(got) != want {
			t.Errorf("%s: %v, want %d", topic, got, want)
		}
	}
}

func TestRulesByWhichADatagramDeletesAreWarnedOf(t *testing.T) {
	json, err := mapping.ParseEncoding("json")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change receiveChange
		warned bool
	}{
		"retain":                   {func(r *mapping.ReceiveRule) { r.Retain = true }, true},
		"hex of nothing":           {func(r *mapping.ReceiveRule) { r.Retain, r.Encoding = true, mapping.EncodingHex }, true},
		"the empty are dropped":    {func(r *mapping.ReceiveRule) { r.Retain, r.DropEmpty = true, true }, false},
		"an envelope":              {func(r *mapping.ReceiveRule) { r.Retain, r.Encoding = true, json }, false},
		"the broker keeps nothing": {func(r *mapping.ReceiveRule) {}, false},
	} {
		var want []string
		if tt.warned {
			want = []string{"receive[0].empty: an empty datagram deletes what the broker keeps of a/{source} [MQTT-3.3.1-6], and any host on the network can send one"}
		}
		if diff := cmp.Diff(want, receiveWarnings(t, receiveRule(t, "239.1.1.1:1", "a/{source}", tt.change))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMergeThatMergesNothingIsWarnedOf(t *testing.T) {
	const text = " has a topic for each sender, so that what two of them bring are two messages, and nothing is merged: name in it what both have in common"
	merge := func(r *mapping.ReceiveRule) { r.Merge = time.Second }
	both := func(r *mapping.ReceiveRule) { r.Merge, r.Interface = time.Second, "eth0,eth1" }
	from := func(list string, more receiveChange) receiveChange {
		return func(r *mapping.ReceiveRule) { sources(list)(r); more(r) }
	}
	const one = "receive[0].merge: 192.0.2.7 is the one sender that this rule takes, on one interface: there is no second leg, and nothing is merged"
	for _, tt := range []struct {
		topic  string
		change receiveChange
		want   []string
	}{
		{"a/b", from("192.0.2.7/32", merge), []string{one}},
		{"a/b", from("192.0.2.7/32", both), nil},
		{"a/b", from("192.0.2.0/24", merge), nil},
		{"a/b", from("192.0.2.7/32", func(*mapping.ReceiveRule) {}), nil},
		{"a/{source}", merge, []string{"receive[0].merge: a/{source}" + text}},
		{"a/{u8@0}/{source_port}", merge, []string{"receive[0].merge: a/{u8@0}/{source_port}" + text}},
		{"a/{source}", func(*mapping.ReceiveRule) {}, nil},
		{"a/{source&255}", merge, nil}, // the senders of a pair may have it in common
		{"a/{group}/{interface}", merge, nil},
		{"a/{interface}", both, []string{"receive[0].merge: a/{interface} has a topic for each interface, so that what two of them bring are two messages: only what senders of one interface bring is merged"}},
		{"a/{source}", both, nil}, // of each sender what comes by two interfaces
		{"a/{source}/{interface}", both, []string{"receive[0].merge: a/{source}/{interface}" + text}},
	} {
		if diff := cmp.Diff(tt.want, receiveWarnings(t, receiveRule(t, "239.1.1.1:1", tt.topic, tt.change))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.topic, diff)
		}
	}
}
