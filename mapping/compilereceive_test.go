package mapping_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

type receiveChange = func(r *mapping.ReceiveRule)

func groups(t testing.TB, texts ...string) receiveChange {
	var list []mapping.GroupRange
	for _, text := range texts {
		list = append(list, groupRange(t, text))
	}
	return func(r *mapping.ReceiveRule) { r.Groups = list }
}

func sources(texts ...string) receiveChange {
	return func(r *mapping.ReceiveRule) {
		r.Sources = nil
		for _, text := range texts {
			r.Sources = append(r.Sources, prefix(text))
		}
	}
}

func onInterface(name string) receiveChange {
	return func(r *mapping.ReceiveRule) { r.Interface = name }
}

func all(changes ...receiveChange) receiveChange {
	return func(r *mapping.ReceiveRule) {
		for _, c := range changes {
			c(r)
		}
	}
}

func TestCompileRefusesReceiveRules(t *testing.T) {
	rawGroups := func(list ...mapping.GroupRange) receiveChange {
		return func(r *mapping.ReceiveRule) { r.Groups = list }
	}
	ends := func(first, last string, port uint16) mapping.GroupRange {
		return mapping.GroupRange{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last), Port: port}
	}
	to := func(text string) receiveChange {
		return func(r *mapping.ReceiveRule) { r.Topic = topic(t, text) }
	}
	called := func(name string) receiveChange {
		return func(r *mapping.ReceiveRule) { r.Name = name }
	}
	six := groups(t, "[ff18::1]:5000")
	const (
		isA     = " (a source is the address of a sender)"
		anybody = " (leave source out to take the datagrams of anybody)"
		sockets = " (each group takes a socket and a membership; name those that are in use)"
		anIface = " (name the interface, or an address of it)"
	)
	tests := map[string]struct {
		change receiveChange
		want   string
	}{
		"no groups": {rawGroups(), "group: missing (name a multicast address and port, as in 239.1.2.3:5000; or, in place of group, port: what comes to this host itself)"},
		"no groups, interface": {all(rawGroups(), onInterface("fd17::1"), sources("fd17::7/128")),
			"group: missing (name a multicast address and port, as in 239.1.2.3:5000; or, in place of group, port: what comes to this host itself)"},
		"the zero group":     {rawGroups(mapping.GroupRange{}), "group: has no address"},
		"no last":            {rawGroups(mapping.GroupRange{First: netip.MustParseAddr("239.1.1.1"), Port: 1}), "group: has no address"},
		"unicast":            {rawGroups(ends("10.1.1.1", "10.1.1.1", 1)), "group: 10.1.1.1 is not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255"},
		"port 0":             {rawGroups(ends("239.1.1.1", "239.1.1.1", 0)), "group: port 0 is not 1 to 65535"},
		"backwards":          {rawGroups(ends("239.1.1.2", "239.1.1.1", 1)), "group: the range runs backwards; write 239.1.1.1-239.1.1.2"},
		"two families":       {rawGroups(ends("239.1.1.2", "ff18::1", 1)), "group: 239.1.1.2 is IPv4 and ff18::1 is IPv6"},
		"zone":               {rawGroups(ends("ff02::1%eth0", "ff02::1%eth0", 1)), "group: a group has no zone; name the interface with interface"},
		"one of a list":      {rawGroups(ends("239.1.1.1", "239.1.1.1", 1), ends("10.1.1.1", "10.1.1.1", 1)), "group[1]: 10.1.1.1 is not an IPv4 multicast address, 224.0.0.0 to 239.255.255.255"},
		"families in a list": {groups(t, "239.1.1.1:1", "[ff18::1]:2"), "group[1]: [ff18::1]:2 is IPv6, but a group before it is IPv4, and a rule has one family (make two rules of it)"},
		"4,097 groups":       {groups(t, "239.1.0.0-239.1.15.255:1", "239.2.0.0:1"), "group: 4097 groups, and a rule has at most 4096" + sockets},
		"2^64 groups":        {groups(t, "[ff18::-ff18:0:0:1::]:1", "[ff18::-ff18:0:0:1::]:1"), "group: more than 16384 groups, and a rule has at most 4096" + sockets},

		"no interface":              {onInterface(""), "interface: missing: where datagrams are heard is never guessed (name the interface to join on, or an address of it; topicast interfaces lists those of this host)"},
		"interface of IPv6":         {onInterface("fd17::1"), "interface: fd17::1 is IPv6, but the groups are IPv4 (name the interface, or an IPv4 address of it)"},
		"interface of IPv4":         {all(six, onInterface("172.17.0.1")), "interface: 172.17.0.1 is IPv4, but the groups are IPv6 (name the interface, or an IPv6 address of it)"},
		"interface multicast":       {onInterface("239.1.1.1"), "interface: 239.1.1.1 is no interface's address" + anIface},
		"interface unspecified":     {onInterface("0.0.0.0"), "interface: 0.0.0.0 is no interface's address" + anIface},
		"interface broadcast":       {onInterface("255.255.255.255"), "interface: 255.255.255.255 is no interface's address" + anIface},
		"interface 4in6":            {onInterface("::ffff:172.17.0.1"), "interface: ::ffff:172.17.0.1 is an IPv4 address written as IPv6 (write 172.17.0.1)"},
		"interface with a zone":     {all(six, onInterface("fe80::1%eth0")), "interface: fe80::1%eth0 is an address with a zone (write eth0, if that is its name, or the address without the zone)"},
		"interface that is network": {onInterface("172.17.0.0/16"), "interface: 172.17.0.0/16 is a network (name the interface, or one address of it)"},

		"source multicast":     {sources("239.1.1.1/32"), "source: 239.1.1.1 is multicast" + isA},
		"source multicast net": {sources("224.0.0.0/4"), "source: 224.0.0.0 is multicast" + isA},
		"source unspecified":   {sources("0.0.0.0/32"), "source: 0.0.0.0 is no address to send from" + anybody},
		"source ::":            {all(six, sources("::/128")), "source: :: is no address to send from" + anybody},
		"source broadcast":     {sources("255.255.255.255/32"), "source: 255.255.255.255 is the broadcast address" + isA},
		"source 4in6":          {sources("::ffff:172.17.0.7/128"), "source: ::ffff:172.17.0.7 is an IPv4 address written as IPv6 (write 172.17.0.7)"},
		"source IPv6":          {sources("fd17::7/128"), "source: fd17::7 is IPv6, but the groups are IPv4 (sources and groups are of one family)"},
		"source IPv4":          {all(six, sources("172.17.0.0/16")), "source: 172.17.0.0/16 is IPv4, but the groups are IPv6 (sources and groups are of one family)"},
		"source zero":          {func(r *mapping.ReceiveRule) { r.Sources = make([]netip.Prefix, 1) }, "source: has no address" + anybody},
		"source host and net": {sources("10.0.0.1/32", "172.17.0.1/16"),
			"source[1]: 172.17.0.1/16 is an address and a network at once (write 172.17.0.1 for this address, 172.17.0.0/16 for any address of the network)"},

		"no topic":            {func(r *mapping.ReceiveRule) { r.Topic = mapping.Topic{} }, "topic: missing (name the topic to publish on, as in meters/{source})"},
		"topic of the broker": {to("$SYS/x"), `topic: "$SYS/x" begins with $, and such topics are the broker's own (MQTT 3.1.1, 4.7.2) (begin it with another character)`},
		"topic by its name": {all(to("{name}/{source}"), called("$SYS/x")),
			`topic: "$SYS/x/…" begins with $, and such topics are the broker's own (MQTT 3.1.1, 4.7.2) (begin it with another character)`},
		"topic by its interface": {all(to("{interface}"), onInterface("$SYS")),
			`topic: "$SYS" begins with $, and such topics are the broker's own (MQTT 3.1.1, 4.7.2) (begin it with another character)`},
		"name with a wildcard":      {all(to("a/{name}"), called("a+b")), `topic: a/{name} is "a/a+b": a topic to publish on holds no wildcards + and # [MQTT-3.3.2-2]`},
		"interface with a wildcard": {all(to("{source}/{interface}"), onInterface("eth#")), `topic: {source}/{interface} is "…/eth#": a topic to publish on holds no wildcards + and # [MQTT-3.3.2-2]`},
		"interface with a level":    {all(to("{interface}"), onInterface("a/b")), `topic: {interface}: the interface "a/b" has a / in its name, which would add a level (write the name itself in place of {interface})`},

		"qos 3":           {func(r *mapping.ReceiveRule) { r.QoS = 3 }, "qos: 3 is not 0, 1 or 2"},
		"encoding 4":      {func(r *mapping.ReceiveRule) { r.Encoding = 4 }, "payload: 4 is not raw, hex, base64 or json"},
		"every negative":  {func(r *mapping.ReceiveRule) { r.Every = -time.Second }, "every: -1s is less than nothing (0s publishes every datagram)"},
		"merge negative":  {func(r *mapping.ReceiveRule) { r.Merge = -time.Second }, "merge: -1s is less than nothing (0s publishes all that comes)"},
		"expect negative": {func(r *mapping.ReceiveRule) { r.Expect = -time.Second }, "expect: -1s is less than nothing (0s takes any silence)"},
		"name twice":      {called("good"), `name: "good" is the name of receive[0] too`},
		"name of send":    {called("out"), `name: "out" is the name of send[0] too`},
		"name of a line":  {called("a\nb"), `name: "a\nb" holds control characters or is not UTF-8, so it cannot label a metric`},
		"name by groups":  {all(called(""), groups(t, "239.9.9.9:1")), `name: "239.9.9.9:1" is the name of receive[1] too (a rule without a name has its groups, or its port, for one; name one of the two)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			send := named(rule(t, "out/#", "239.9.9.1:1"), "out")
			good := receiveRule(t, "239.9.9.9:1", "good/1", called("good"))
			other := receiveRule(t, "239.9.9.9:1", "good/2", called(""))
			bad := receiveRule(t, "239.1.1.1:1", "bad", tt.change)
			table, err := mapping.Compile([]mapping.SendRule{send}, []mapping.ReceiveRule{good, other, bad})
			if diff := cmp.Diff([]string{"receive[2]." + tt.want}, faults(t, err)); diff != "" || table != nil {
				t.Errorf("table %v, (-want +got):\n%s", table, diff)
			}
		})
	}
}

func TestCompileTakesReceiveRules(t *testing.T) {
	six := groups(t, "[ff18::1]:5000", "[ff02::1]:5000")
	for name, change := range map[string]receiveChange{
		"plain":                 func(*mapping.ReceiveRule) {},
		"interface by address":  onInterface("172.17.0.1"),
		"interface, link-local": all(six, onInterface("fe80::1")),
		"name like a number":    onInterface("10"),
		"addresses and nets":    sources("192.0.2.77/32", "198.51.100.0/24", "0.0.0.0/0"),
		"IPv6":                  all(six, sources("fd17::7/128", "fd18::/64")),
		"4,096 groups":          groups(t, "239.1.0.0-239.1.15.255:1"),
		"many ports":            groups(t, "239.1.1.1:1", "239.1.1.1:2", "224.0.0.251:5353"),
		"wildcards not used":    onInterface("eth+"),
		"name with levels":      func(r *mapping.ReceiveRule) { r.Name, r.Topic = "a/b", topic(t, "x/{name}") },
		"everything": func(r *mapping.ReceiveRule) {
			r.QoS, r.Retain, r.Encoding, r.Every, r.OnChange = 2, true, mapping.EncodingJSON, time.Hour, true
		},
	} {
		r := receiveRule(t, "239.1.1.1:1", "in/{source}", change)
		got := compileBoth(t, nil, []mapping.ReceiveRule{r}).Receive()[0]
		r.Common = r.Name
		compare := []cmp.Option{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
		if diff := cmp.Diff(r, got, compare...); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCompileLimitsTheGroupsOfAllRules(t *testing.T) {
	var rules []mapping.ReceiveRule
	for _, text := range []string{"239.1.0.0-239.1.15.255:1", "239.2.0.0-239.2.15.255:1", "239.3.0.0-239.3.15.255:1", "239.4.0.0-239.4.15.255:1"} {
		rules = append(rules, receiveRule(t, text, text+"/{group}"))
	}
	compileBoth(t, nil, rules)
	for _, more := range []string{"239.5.0.0:1", "239.6.0.0:1"} {
		rules = append(rules, receiveRule(t, more, more))
	}
	_, err := mapping.Compile(nil, rules)
	want := []string{"receive[4].group: 16385 groups with those of the rules before it, and all rules have at most 16384" +
		" (each group takes a socket and a membership; name those that are in use)"}
	if diff := cmp.Diff(want, faults(t, err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each group is joined on each interface.
func TestCompileCountsGroupsOnEachInterface(t *testing.T) {
	many, one := receiveRule(t, "239.1.0.0-239.1.15.255:1", "a/{group}", onInterface("a, b, c, d")), receiveRule(t, "239.5.0.0:1", "b")
	compileBoth(t, nil, []mapping.ReceiveRule{many})
	_, err := mapping.Compile(nil, []mapping.ReceiveRule{many, one})
	if got := faults(t, err); len(got) != 1 || !strings.HasPrefix(got[0], "receive[1].group: 16385 groups") {
		t.Errorf("%v", got)
	}
}

func TestCompileNamesReceiveRulesByTheirGroups(t *testing.T) {
	for want, texts := range map[string][]string{
		"239.1.1.1:1": {"239.1.1.1:1"},
		"239.1.1.1-239.1.1.9:1, 239.2.1.1:2, 239.3.1.1:3": {"239.1.1.1-239.1.1.9:1", "239.2.1.1:2", "239.3.1.1:3"},
		"239.1.1.1:1, 239.1.1.2:1, 239.1.1.3:1, 2 more":   {"239.1.1.1:1", "239.1.1.2:1", "239.1.1.3:1", "239.1.1.4:1", "239.1.1.5:1"},
	} {
		r := receiveRule(t, "239.1.1.1:1", "{name}", groups(t, texts...))
		r.Name = ""
		got := compileBoth(t, nil, []mapping.ReceiveRule{r}).Receive()[0]
		if got.Name != want {
			t.Errorf("%q is named %q", texts, got.Name)
		}
		if published, err := got.Topic.Append(nil, arrival("192.0.2.7:1", "239.1.1.1:1"), got.Name); err != nil || string(published) != want {
			t.Errorf("%q publishes on %q, %v", texts, published, err)
		}
	}
}

func TestCompileCopiesReceiveRules(t *testing.T) {
	rules := []mapping.ReceiveRule{receiveRule(t, "239.1.1.1:1", "a", sources("192.0.2.0/24"))}
	got := compileBoth(t, nil, rules).Receive()
	rules[0].Groups[0].Port, rules[0].Sources[0], rules[0].Topic = 9, netip.Prefix{}, mapping.Topic{}
	if r := got[0]; r.Groups[0].Port != 1 || !r.Sources[0].IsValid() || r.Topic.IsZero() {
		t.Errorf("%+v", r)
	}
}

func TestCompileReportsFaultsOfBothDirectionsAtOnce(t *testing.T) {
	_, err := mapping.Compile([]mapping.SendRule{{}}, []mapping.ReceiveRule{{}, {QoS: 9}})
	want := []string{"send[0].filter", "send[0].source", "send[0].ttl", "send[0].group",
		"receive[0].group", "receive[0].interface", "receive[0].topic",
		"receive[1].qos", "receive[1].group", "receive[1].interface", "receive[1].topic"}
	got := faults(t, err)
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], ":")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Of two rules the same topic would tell, in turn, of the one and of the other.
func TestNoTwoRulesThatExpectSomethingTellOfItOnOneTopic(t *testing.T) {
	rule := func(name, group string) mapping.ReceiveRule {
		return receiveRule(t, group, "in/{source}", func(r *mapping.ReceiveRule) { r.Name, r.Expect = name, time.Second })
	}
	_, err := mapping.Compile(nil, []mapping.ReceiveRule{rule("m+x", "239.9.9.9:1"), rule("m#x", "239.9.9.9:2"), rule("m-x", "239.9.9.9:3")})
	if want := `receive[1].name: expect tells of "m#x" and of receive[0] on the same topic below the status topic, rule/m_x`; err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "expect tells") != 1 {
		t.Errorf("%v; want %s", err, want)
	}
}
