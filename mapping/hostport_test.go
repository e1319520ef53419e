package mapping_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// hostPort makes a rule one for what comes to the host itself.
func hostPort(port uint16) receiveChange {
	return func(r *mapping.ReceiveRule) { r.Groups, r.Port = nil, port }
}

func TestCompileRefusesHostPorts(t *testing.T) {
	to := func(text string) receiveChange {
		return func(r *mapping.ReceiveRule) { r.Topic = topic(t, text) }
	}
	for name, tt := range map[string]struct {
		change receiveChange
		want   string
	}{
		"beside groups": {func(r *mapping.ReceiveRule) { r.Port = 1 },
			"port: a rule listens to groups or to what comes to this host itself, and this one has both group and port (make two rules of it; the port of a group belongs to group)"},
		"with the group in the topic": {all(hostPort(1), to("a/{group&255}")),
			"topic: a/{group&255} has {group}, and what comes to this host itself has none (write {destination}, the address that a datagram was sent to)"},
		"without an interface": {all(hostPort(1), onInterface("")),
			"interface: missing: where datagrams are heard is never guessed (name the interface to join on, or an address of it; topicast interfaces lists those of this host)"},
		"with sources of the other family": {all(hostPort(1), onInterface("fd17::1"), sources("192.0.2.0/24")),
			"source: all sources are IPv4, but the interface's address fd17::1 is IPv6 (name the interface, or an IPv4 address of it)"},
		"by the name of another": {all(hostPort(7), func(r *mapping.ReceiveRule) { r.Name = "" }),
			`name: "port 7" is the name of receive[0] too (a rule without a name has its groups, or its port, for one; name one of the two)`},
	} {
		t.Run(name, func(t *testing.T) {
			good := receiveRule(t, "239.9.9.9:1", "good", all(hostPort(7), func(r *mapping.ReceiveRule) { r.Name = "" }))
			table, err := mapping.Compile(nil, []mapping.ReceiveRule{good, receiveRule(t, "239.1.1.1:1", "bad", tt.change)})
			if diff := cmp.Diff([]string{"receive[1]." + tt.want}, faults(t, err)); diff != "" || table != nil {
				t.Errorf("table %v, (-want +got):\n%s", table, diff)
			}
		})
	}
}

// A rule with a port listens in both families, as far as its interface and sources leave
// them; sources are sorted out on arrival, so rules with other sources share the socket.
func TestJoinsOfAHostPort(t *testing.T) {
	const four, six = "0.0.0.0:6454", "[::]:6454"
	for _, tt := range []struct {
		on      string
		sources []string
		want    []string
	}{
		{"iso0", nil, []string{four, six}},
		{"iso0", []string{"192.0.2.7/32", "198.51.100.0/24"}, []string{four}},
		{"iso0", []string{"fd17::7/128"}, []string{six}},
		{"iso0", []string{"fd17::7/128", "192.0.2.7/32"}, []string{four, six}},
		{"172.17.0.1", nil, []string{four}},
		{"fd17::1", nil, []string{six}},
		{"fd17::1", []string{"fd17::7/128", "192.0.2.7/32"}, []string{six}},
	} {
		r := receiveRule(t, "239.1.1.1:1", "a", all(hostPort(6454), onInterface(tt.on), sources(tt.sources...)))
		table := compileBoth(t, nil, []mapping.ReceiveRule{r})
		var got []string
		for j := range table.Receive()[0].Joins() {
			got = append(got, j.Group.String())
			if j.Interface != tt.on || j.Sources != "" || !j.Host() {
				t.Errorf("%s from %q: %+v", tt.on, tt.sources, j)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s from %q: %q, want %q", tt.on, tt.sources, got, tt.want)
		}
	}
}

func TestWhatARuleHears(t *testing.T) {
	port := receiveRule(t, "239.1.1.1:1", "a", all(hostPort(6454), onInterface("iso0")))
	group := receiveRule(t, "239.1.1.1-239.1.1.4:6454", "a")
	for to, want := range map[string][2]bool{
		"192.0.2.1:6454": {true, false}, "192.0.2.1:6455": {}, "255.255.255.255:6454": {true, false}, "[fe80::1]:6454": {true, false},
		"239.1.1.4:6454": {false, true}, "239.1.1.5:6454": {}, "239.1.1.4:1": {}, "[ff02::1]:6454": {},
	} {
		at := netip.MustParseAddrPort(to)
		if got := [2]bool{port.Hears(at), group.Hears(at)}; got != want {
			t.Errorf("%s: %v, want %v", to, got, want)
		}
	}
	if got := port.Heard() + ", " + group.Heard(); got != "port 6454, 239.1.1.1-239.1.1.4:6454" {
		t.Error(got)
	}
}

func TestTheDestinationIsWhereADatagramWasSentTo(t *testing.T) {
	for _, tt := range []struct{ template, to, want string }{
		{"a/{destination}/{port}", "192.0.2.1:6454", "a/192.0.2.1/6454"},
		{"a/{destination&255}", "192.0.2.255:6454", "a/255"},
		{"a/{destination}", "[fe80::1]:6454", "a/fe80::1"},
		{"a/{destination}", "239.1.2.3:6454", "a/239.1.2.3"}, // a rule with groups may say so too
	} {
		got, err := topic(t, tt.template).Append(nil, arrival("192.0.2.7:1", tt.to), "")
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.template, got, err, tt.want)
		}
		if !topic(t, tt.template).VariesByDestination() || !topic(t, tt.template).Varies() {
			t.Errorf("%s does not vary", tt.template)
		}
	}
	if topic(t, "a/{group}").VariesByDestination() {
		t.Error("a group varies")
	}
	for to, want := range map[string]string{"192.0.2.1:6454": "destination", "[fe80::1]:6454": "destination", "239.1.2.3:6454": "group"} {
		var got map[string]string
		err := json.Unmarshal(mapping.EncodingJSON.Append(nil, nil, arrival("192.0.2.7:1", to)), &got)
		if err != nil || got[want] != to || len(got) != 6 {
			t.Errorf("%s: %v, %v", to, got, err)
		}
	}
}

func TestHostPortsThatHearTheSameAreWarnedOf(t *testing.T) {
	rules := func(second receiveChange) []string {
		return receiveWarnings(t,
			receiveRule(t, "239.1.1.1:1", "a", all(hostPort(6454), onInterface("iso0"))),
			receiveRule(t, "239.1.1.1:1", "a", all(hostPort(6454), onInterface("iso0"), second)))
	}
	const twice = "receive[1].port: receive[0] publishes what comes to port 6454 on a too: what both hear is published twice"
	for want, change := range map[string]receiveChange{
		twice: sources(), "another interface": onInterface("iso1"), "another port": hostPort(6455),
		"a group of the port": groupsAlone(t, "239.1.1.1:6454"), "another topic": func(r *mapping.ReceiveRule) { r.Topic = topic(t, "b") },
	} {
		got := rules(change)
		if want == twice && !slices.Equal(got, []string{twice}) || want != twice && len(got) > 0 {
			t.Errorf("%s: %q", want, got)
		}
	}
	if got := rules(sources("fd17::/64")); !slices.Equal(got, []string{twice}) {
		t.Errorf("of IPv6 alone: %q", got)
	}
}

func groupsAlone(t *testing.T, group string) receiveChange {
	return all(groups(t, group), func(r *mapping.ReceiveRule) { r.Port = 0 })
}

// A group is no host: what is sent to it does not come to a host's port.
func TestAGroupOfTheSamePortIsNoCycleWithAHostPort(t *testing.T) {
	send, _ := bothWays(t, "a > 239.1.1.1:6454 @iso0")
	r := receiveRule(t, "239.1.1.1:1", "a", all(hostPort(6454), onInterface("iso0"), func(r *mapping.ReceiveRule) { r.Name = "r" }))
	if got := onCycle(compileBoth(t, send, []mapping.ReceiveRule{r})); got != "" {
		t.Errorf("on a cycle: %s", got)
	}
}
