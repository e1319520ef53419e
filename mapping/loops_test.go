package mapping_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// on returns the rules that are on a cycle, as in "s0 r1".
func onCycle(table *mapping.Table) string {
	var found []string
	for i := range table.Send() {
		if table.SendLoops(i) {
			found = append(found, fmt.Sprint("s", i))
		}
	}
	for i := range table.Receive() {
		if table.ReceiveLoops(i) {
			found = append(found, fmt.Sprint("r", i))
		}
	}
	return strings.Join(found, " ")
}

// bothWays reads rules, one of a line: "filter > group @interface" is a send rule
// and "group > topic @interface" a receive rule, as its first part has a colon.
func bothWays(t testing.TB, text string) (send []mapping.SendRule, receive []mapping.ReceiveRule) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line, iface, _ := strings.Cut(strings.TrimSpace(line), " @")
		from, to, ok := strings.Cut(line, " > ")
		if !ok {
			t.Fatal(line)
		}
		name := fmt.Sprint(len(send)+len(receive), " ", line)
		if !strings.Contains(from, ":") {
			r := named(rule(t, from, to), name)
			if r.Binding.Interface = iface; iface == "" {
				r.Binding.Source = prefix("172.17.0.1/32")
				if six, known := r.Group.Family(); known && six {
					r.Binding.Source = prefix("fd17::1/128")
				}
			}
			send = append(send, r)
			continue
		}
		r := receiveRule(t, from, to, func(r *mapping.ReceiveRule) { r.Name = name })
		if iface != "" {
			r.Interface = iface
		}
		receive = append(receive, r)
	}
	return send, receive
}

func TestLoopsAreFound(t *testing.T) {
	for name, tt := range map[string]struct{ rules, want string }{
		"a pair": {`
			a > 239.1.1.1:1 @iso0
			239.1.1.1:1 > a @iso0`, "s0 r0"},
		"other topics": {`
			a > 239.1.1.1:1
			239.1.1.1:1 > b`, ""},
		"another group": {`
			a > 239.1.1.1:1
			239.1.1.2:1 > a`, ""},
		"another port": {`
			a > 239.1.1.1:1
			239.1.1.1:2 > a`, ""},
		"another family": {`
			a > [ff18::1]:1
			239.1.1.1:1 > a`, ""},
		"another interface": {`
			a > 239.1.1.1:1 @iso0
			239.1.1.1:1 > a @priv0`, ""},
		"an interface by address": {`
			a > 239.1.1.1:1 @iso0
			239.1.1.1:1 > a @172.17.0.1`, "s0 r0"},
		"a sender by source": {`
			a > 239.1.1.1:1
			239.1.1.1:1 > a @priv0`, "s0 r0"},
		"within a range": {`
			a > 239.1.1.7:1
			239.1.1.1-239.1.1.9:1 > a`, "s0 r0"},
		"at the ends of a range": {`
			a > 239.1.1.1:1
			b > 239.1.1.9:1
			239.1.1.1-239.1.1.9:1 > a
			239.1.1.1-239.1.1.9:1 > b`, "s0 s1 r0 r1"},
		"beyond the ends of a range": {`
			a > 239.1.1.0:1
			a > 239.1.1.10:1
			239.1.1.1-239.1.1.9:1 > a`, ""},
		"behind a short range in a long one": {`
			a > 239.1.1.5:1
			239.1.1.1-239.1.1.9:1 > a
			239.1.1.2:1 > a
			239.1.1.3:1 > a`, "s0 r0"},
		"a wildcard": {`
			# > 239.1.1.1:1
			239.1.1.1:1 > a/b/c`, "s0 r0"},
		"a datagram's level": {`
			a/+/c > 239.1.1.1:1
			239.1.1.1:1 > a/{source}/c`, "s0 r0"},
		"an address against a literal that is none": {`
			a/ask > 239.1.1.1:1
			239.1.1.1:1 > a/{source}`, ""},
		"an address against one": {`
			a/10.0.0.7 > 239.1.1.1:1
			239.1.1.1:1 > a/{source}`, "s0 r0"},
		"a number against a literal that is none": {`
			a/ask/c > 239.1.1.1:1
			239.1.1.1:1 > a/{group&255}/c`, ""},
		"a number against one": {`
			a/-7/c > 239.1.1.1:1
			239.1.1.1:1 > a/{group-port}/c`, "s0 r0"},
		"a datagram's level against a literal": {`
			a/b/c > 239.1.1.1:1
			239.1.1.1:1 > a/x{source}y/c`, "s0 r0"},
		"levels beside the datagram's": {`
			a/+/set > 239.1.1.1:1
			239.1.1.1:1 > a/{(group/2)&7}/state`, ""},
		"the interface's name": {`
			in/eth1 > 239.1.1.1:1
			in/iso0 > 239.1.1.1:1
			239.1.1.1:1 > in/{interface}`, "s1 r0"},
		"an unknown interface": {`
			in/eth1 > 239.1.1.1:1
			239.1.1.1:1 > in/{interface} @172.17.0.1`, "s0 r0"},
		"a topic that can begin with $ in no way": {`
			$x/+ > 239.1.1.1:1
			239.1.1.1:1 > {source}/y`, ""},
		"captures that can give the group": {`
			a/{id} > 239.1.{id}.1:1
			239.1.7.1:1 > a/{source}`, "s0 r0"},
		"captures that cannot": {`
			a/{id} > 239.1.{id}.1:1
			239.1.7.2:1 > a/{source}`, ""},
		"captures between the ends of a range": {`
			a/{id} > 239.1.{id}.1:1
			239.1.7.2-239.1.8.0:1 > a/{source}`, ""},
		"captures at the end of a range": {`
			a/{id} > 239.1.{id}.1:1
			239.1.7.2-239.1.8.1:1 > a/{source}`, "s0 r0"},
		"captures that would carry": {`
			a/{id} > 239.{id}.1.1:1
			239.7.255.2-239.8.1.0:1 > a/1
			239.7.255.2-239.8.1.1:1 > a/2`, "s0 r1"},
		"captures that begin again": {`
			a/{id} > 239.{id}.{id}.1:1
			239.7.255.2-239.8.0.0:1 > a/1
			239.7.255.2-239.8.0.1:1 > a/2`, "s0 r1"},
		"captures that are at their highest": {`
			a/{id} > 239.1.{id}.1:1
			239.1.255.2-239.2.0.9:1 > a/{source}`, ""},
		"a port of captures": {`
			a/{id} > 239.1.1.1:{30000+id}
			239.1.1.1:1 > a/{source}
			239.1.1.2:1 > a/{source}`, "s0 r0"},
		"an address of captures": {`
			a/{x} > {x}:5000
			239.1.1.1:5000 > a/{source}
			239.1.1.1:5001 > a/{source}
			[ff18::1]:5000 > a/{source}`, "s0 r0"},
		"an address and a port of captures": {`
			a/{x}/{p} > {x}:{p}
			[ff18:101::]:1 > a/{source}/1
			239.1.1.1:1 > a/{source}/1`, "s0 r1"},
		"IPv6": {`
			a/{x} > [ff18::{x}]:1
			[ff18::1-ff18::9]:1 > a/1
			[ff18::1:0-ff18::1:9]:1 > a/2
			[ff18::1]:1 > b`, "s0 r0"},
		"an IPv6 address of captures": {`
			a/{x} > [{x}]:5000
			239.1.1.1:5000 > a/{source}
			[ff18::1]:5000 > a/{source}`, "s0 r1"},
		"through four rules": {`
			b > 239.1.1.1:1
			a > 239.1.1.2:1
			239.1.1.1:1 > a
			239.1.1.2:1 > b`, "s0 s1 r0 r1"},
		"beside a cycle": {`
			a > 239.1.1.1:1
			a > 239.1.1.3:1
			z > 239.1.1.1:1
			239.1.1.1:1 > a
			239.1.1.1:1 > y
			239.1.1.3:1 > x`, "s0 r0"},
		"between two cycles": {`
			a > 239.1.1.1:1
			b > 239.1.1.2:1
			a > 239.1.1.3:1
			239.1.1.1:1 > a
			239.1.1.2:1 > b
			239.1.1.3:1 > b`, "s0 s1 r0 r1"},
		"a chain that ends": {`
			a > 239.1.1.1:1
			b > 239.1.1.2:1
			239.1.1.1:1 > b
			239.1.1.2:1 > c`, ""},
		"only one direction": {`
			a > 239.1.1.1:1`, ""},
		"equal filters": {`
			a > 239.1.1.2:1
			a > 239.1.1.1:1
			a > 239.1.1.1:1
			239.1.1.1:1 > a`, "s1 s2 r0"},
	} {
		t.Run(name, func(t *testing.T) {
			send, receive := bothWays(t, tt.rules)
			if got := onCycle(compileBoth(t, send, receive)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// One template may give groups of either family, as the source has it.
func TestLoopsOfATemplateOfBothFamilies(t *testing.T) {
	send, receive := bothWays(t, "a/{x} > {x}:5000\nb/{x} > {x}:5000\n[ff18::1]:5000 > b/1\n239.1.1.1:5000 > b/2")
	send[1].Binding.Source = prefix("fd17::1/128")
	if got := onCycle(compileBoth(t, send, receive)); got != "s1 r0" {
		t.Errorf("%q", got)
	}
}

// What leaves by one name of an interface comes back by another.
func TestLoopsThroughTheOtherNamesOfAnInterface(t *testing.T) {
	for _, rules := range []string{
		"in/+ > 239.1.1.1:1 @iso0\n239.1.1.1:1 > in/{source} @enp3s0",
		"in/+ > 239.1.1.1:1 @iso0:1\n239.1.1.1:1 > in/{source} @iso0",
		"in/+ > 239.1.1.1:1 @enp3s0\n239.1.1.1:1 > in/{source} @iso0:1",
	} {
		send, receive := bothWays(t, rules)
		table := compileBoth(t, send, receive)
		if got := onCycle(table); got != "" {
			t.Errorf("%s: %q without the host's names", rules, got)
		}
		names := map[string]string{"enp3s0": "iso0", "iso0:1": "iso0", "enp4s0": "priv0"}
		named := table.On(mapping.HostInterfaces{Names: names})
		if got := onCycle(named); got != "s0 r0" || onCycle(table) != "" {
			t.Errorf("%s: %q", rules, got)
		}
		if named.On(mapping.HostInterfaces{Names: names}) != named || table.On(mapping.HostInterfaces{Names: map[string]string{"enp4s0": "priv0"}}) != table {
			t.Errorf("%s: another table without need", rules)
		}
		if got := onCycle(named.On(mapping.HostInterfaces{})); got != "" {
			t.Errorf("%s: %q after the names have gone", rules, got)
		}
		if !slices.ContainsFunc(named.Warnings(), func(w mapping.Warning) bool { return w.Path == "receive[0].topic" }) {
			t.Errorf("%s: no warning of the cycle in %v", rules, named.Warnings())
		}
	}
	// The name in a topic is the one that the rule has.
	send, receive := bothWays(t, "in/enp3s0 > 239.1.1.1:1 @iso0\nin/iso0 > 239.1.1.2:1 @iso0\n239.1.1.1-239.1.1.2:1 > in/{interface} @enp3s0")
	if got := onCycle(compileBoth(t, send, receive).On(mapping.HostInterfaces{Names: map[string]string{"enp3s0": "iso0"}})); got != "s0 r0" {
		t.Errorf("by {interface}: %q", got)
	}
}

// A {name} is as fixed as any text, and may hold several levels.
func TestLoopsThroughTheNameOfARule(t *testing.T) {
	for name, want := range map[string]string{"a/b": "s0 r0", "a": "", "a/c": ""} {
		send, receive := bothWays(t, "in/a/b > 239.1.1.1:1\n239.1.1.1:1 > in/{name}")
		receive[0].Name = name
		if got := onCycle(compileBoth(t, send, receive)); got != want {
			t.Errorf("a rule named %s: %q, want %q", name, got, want)
		}
	}
}

// Whatever goes round in truth is found: each rule that a datagram comes back to,
// over any number of rules, is told to be on a cycle.
func TestNoLoopIsMissed(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	pick := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	var universe []netip.AddrPort
	for _, hosts := range []string{"239.1.0.0-239.1.3.3:1", "239.1.0.0-239.1.3.3:2"} {
		for g := range groupRange(t, hosts).All() {
			if g.Addr().As4()[3] < 4 {
				universe = append(universe, g)
			}
		}
	}
	cycles := 0
	for range 3000 {
		var lines []string
		for range 1 + r.IntN(4) {
			filter := pick("{a}/{b}", "{a}/x", "0/{b}", "{a}/{b}/#", "#", "+/{b}", "1/2")
			octet := func() string {
				if name := pick("a", "b"); strings.Contains(filter, "{"+name+"}") {
					return pick("0", "1", "{"+name+"}", "{"+name+"*2}")
				}
				return pick("0", "1", "2", "3")
			}
			port := "1"
			if strings.Contains(filter, "{b}") {
				port = pick("1", "2", "{b}")
			}
			lines = append(lines, fmt.Sprintf("%s > 239.1.%s.%s:%s @iso0", filter, octet(), octet(), port))
		}
		for range 1 + r.IntN(4) {
			low, high := r.IntN(16), r.IntN(16)
			low, high = min(low, high), max(low, high)
			lines = append(lines, fmt.Sprintf("239.1.%d.%d-239.1.%d.%d:%s > %s/%s @iso0", low/4, low%4, high/4, high%4, pick("1", "2"),
				pick("0", "1", "{group&1}", "{port}"), pick("x", "2", "{group&3}", "{group>>8&3}", "{group&3}/{port}")))
		}
		send, receive := bothWays(t, strings.Join(lines, "\n"))
		table := compileBoth(t, send, receive)
		for i := range receive {
			if comesBack(t, table, universe, i) {
				cycles++
				if !table.ReceiveLoops(i) {
					t.Fatalf("receive[%d] comes back, which was not found, in\n%s", i, strings.Join(lines, "\n"))
				}
			}
		}
	}
	if cycles < 300 {
		t.Errorf("only %d rules of the test are on a cycle", cycles)
	}
}

// comesBack follows every datagram that a receive rule may hear, through the
// broker and back to the network, until nothing new turns up.
func comesBack(t *testing.T, table *mapping.Table, universe []netip.AddrPort, rule int) bool {
	seen := make(map[netip.AddrPort]bool)
	var next []netip.AddrPort
	carry := func(rule int, group netip.AddrPort) {
		a := &mapping.Arrival{To: group, Source: netip.MustParseAddrPort("192.0.2.7:1"), Interface: "iso0"}
		r := table.Receive()[rule]
		topic, err := r.Topic.Append(nil, a, r.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range table.Lookup(string(topic), nil) {
			if target.Err == nil && !seen[target.To] {
				seen[target.To] = true
				next = append(next, target.To)
			}
		}
	}
	hears := func(rule int, group netip.AddrPort) bool {
		g := table.Receive()[rule].Groups[0]
		return g.Port == group.Port() && !group.Addr().Less(g.First) && !g.Last.Less(group.Addr())
	}
	for _, group := range universe {
		if hears(rule, group) {
			carry(rule, group)
		}
	}
	for len(next) > 0 {
		group := next[0]
		next = next[1:]
		for i := range table.Receive() {
			if hears(i, group) {
				carry(i, group)
			}
		}
	}
	return slices.ContainsFunc(universe, func(g netip.AddrPort) bool { return seen[g] && hears(rule, g) })
}

// loopWarnings are the warnings of cycles, without the advice at their end.
func loopWarnings(table *mapping.Table) []string {
	var texts []string
	for _, w := range table.Warnings() {
		if text, ok := strings.CutSuffix(w.Text, ": the loop guard keeps them from feeding each other; it is better to let each direction have topics of its own"); ok || strings.Contains(w.Text, "feed each other") {
			texts = append(texts, w.Path+": "+text)
		}
	}
	return texts
}

func TestCyclesAreSpeltOut(t *testing.T) {
	for text, want := range map[string][]string{
		"b > 239.1.1.1:1\n239.1.1.1:1 > a": nil,
		`z > 239.9.9.9:1
		a/# > 239.1.1.{1+0}:1
		239.1.1.1-239.1.1.4:1 > a/{source}`: {
			"receive[0].topic: receive[0] publishes on a/{source}, which send[1] sends to 239.1.1.{1+0}:1, which receive[0] hears"},
		`b > 239.1.1.1:1
		a > 239.1.1.2:1
		x > 239.1.1.3:1
		239.1.1.3:1 > y
		239.1.1.1:1 > a
		239.1.1.2:1 > b
		239.1.1.3:1 > x`: {
			"receive[1].topic: receive[1] publishes on a, which send[1] sends to 239.1.1.2:1, which receive[2] hears and publishes on b, which send[0] sends to 239.1.1.1:1, which receive[1] hears",
			"receive[3].topic: receive[3] publishes on x, which send[2] sends to 239.1.1.3:1, which receive[3] hears"},
	} {
		send, receive := bothWays(t, text)
		if diff := cmp.Diff(want, loopWarnings(compileBoth(t, send, receive))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestOnlyTheFirstCyclesAreSpeltOut(t *testing.T) {
	var lines []string
	for i := range 25 {
		lines = append(lines, fmt.Sprintf("a%d > 239.1.1.%d:1\n239.1.1.%d:1 > a%d", i, i, i, i))
	}
	send, receive := bothWays(t, strings.Join(lines, "\n"))
	got := loopWarnings(compileBoth(t, send, receive))
	if len(got) != 21 || got[20] != "receive: 5 more rules that may feed each other" {
		t.Errorf("%d warnings, the last: %s", len(got), got[len(got)-1])
	}
}

// A search that would take too long ends on the safe side.
func TestLoopsThatCannotBeSearchedCountAsFound(t *testing.T) {
	var send []mapping.SendRule
	var receive []mapping.ReceiveRule
	for i := range 3000 {
		send = append(send, rule(t, fmt.Sprintf("s%d/+", i), "239.1.1.1:1"))
		receive = append(receive, receiveRule(t, "239.1.1.1:1", fmt.Sprintf("{source}/%d", i)))
	}
	table := compileBoth(t, send, append(receive, receiveRule(t, "239.7.7.7:1", "far/off")))
	if !table.ReceiveLoops(3000) || !table.SendLoops(0) {
		t.Error("rules count as on no cycle though they were not looked at")
	}
	want := []string{"receive: the search for rules that may feed each other was cut short, so all are taken for such: the loop guard works on every message"}
	if diff := cmp.Diff(want, loopWarnings(table)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
