package mapping_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// sendRule is a rule with a name.
func sendRule(t testing.TB, name, filterText, groupText string) mapping.SendRule {
	t.Helper()
	r := rule(t, filterText, groupText)
	r.Name = name
	return r
}

// hostOf is a host with these interfaces; "vlan7-" is one that has been away for a minute.
func hostOf(names ...string) (h mapping.HostInterfaces) {
	h.Names = map[string]string{"uplink": "enp3s0", "vlan0007": "vlan7"}
	for _, name := range names {
		i := mapping.HostInterface{Name: strings.TrimSuffix(name, "-")}
		if i.Name != name {
			i.Away = time.Minute
		}
		for other, kernel := range h.Names {
			if kernel == i.Name {
				i.Others = append(i.Others, other)
			}
		}
		h.List = append(h.List, i)
	}
	return h
}

// instancesOf are the instances of a send and of a receive rule whose interface is text: the
// interface of each, in their order.
func instancesOf(t *testing.T, text string, h mapping.HostInterfaces) string {
	t.Helper()
	s, r := sendRule(t, "lamps", "lamps/#", "239.1.1.1:5000"), receiveRule(t, "239.1.2.1:5000", "in/{interface}")
	s.Binding.Interface, r.Interface, s.MaxAge, h.MaxAge = text, text, time.Hour, time.Hour
	table := compileBoth(t, []mapping.SendRule{s}, []mapping.ReceiveRule{r}).On(h)
	var send, receive []string
	for i, r := range table.Send() {
		word := r.Binding.Interface
		if table.SendByPattern(i) {
			word += "*"
		}
		send = append(send, word)
		if want := "lamps@" + r.Binding.Interface; r.Common != "lamps" || r.Name != want && r.Binding.Interface != text {
			t.Errorf("%s: an instance is called %s, of %s", text, r.Name, r.Common)
		}
	}
	for i, r := range table.Receive() {
		word := r.Interface
		if table.ReceiveByPattern(i) {
			word += "*"
		}
		receive = append(receive, word)
	}
	if d := cmp.Diff(send, receive); d != "" {
		t.Errorf("%s: the directions differ: %s", text, d)
	}
	return strings.Join(send, " ")
}

func TestARuleWorksByEachOfItsInterfaces(t *testing.T) {
	all := hostOf("vlan8", "vlan7", "eth0", "enp3s0")
	for _, c := range []struct {
		text string
		host mapping.HostInterfaces
		want string // * behind an interface that only a pattern names
	}{
		{"eth0", hostOf(), "eth0"},
		{"eth0, eth1", hostOf(), "eth0 eth1"},                 // what is named is there, be it there or not
		{"eth0,eth0 , eth1", all, "eth0 eth1"},                // once
		{"uplink, enp3s0", all, "uplink"},                     // one interface by two names
		{"uplink, enp3s0", hostOf(), "uplink"},                // whichever is there
		{"vlan*", all, "vlan7* vlan8*"},                       // in the order of their names
		{"vlan[89], eth?", all, "vlan8* eth0*"},               // in the order of the list
		{"vlan*, vlan8", all, "vlan8 vlan7*"},                 // who is named is no pattern's
		{"*", all, "enp3s0* eth0* vlan7* vlan8*"},             //
		{"up*", all, "enp3s0*"},                               // by another name of it
		{"vlan0007, vlan*", all, "vlan0007 vlan8*"},           // likewise, once
		{"tun*", all, "tun*"},                                 // waits
		{"eth0, tun*", all, "eth0"},                           //
		{"vlan*", hostOf("vlan7-", "vlan8"), "vlan7* vlan8*"}, // as long as a message may wait
		{"vlan*", hostOf("vlan7-"), "vlan7*"},                 //
	} {
		if got := instancesOf(t, c.text, c.host); got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
	gone := hostOf("vlan7-", "vlan8")
	gone.List[0].Away = 2 * time.Hour
	if got := instancesOf(t, "vlan*", gone); got != "vlan8*" {
		t.Errorf("what has been away for longer than max_age: %s", got)
	}
}

func TestAnInstanceIsAsARuleOfThatInterface(t *testing.T) {
	r := receiveRule(t, "239.1.2.1:5000", "in/{name}/{interface}")
	s := sendRule(t, "lamps", "lamps/{floor}", "239.1.1.{floor}:5000")
	r.Name = "meters"
	s.Binding.Interface, r.Interface = "eth0, eth1", "eth0, eth1"
	other := sendRule(t, "other", "lamps/7", "239.9.9.9:5000")
	table := compileBoth(t, []mapping.SendRule{s, other}, []mapping.ReceiveRule{r}).On(hostOf())
	var got []string
	for _, target := range table.Lookup("lamps/7", nil) {
		rule := table.Send()[target.Rule]
		got = append(got, fmt.Sprintf("%s on %s to %s, send[%d]", rule.Name, rule.Binding.Interface, target.To, table.SendPlace(target.Rule)))
	}
	if d := cmp.Diff([]string{
		"lamps@eth0 on eth0 to 239.1.1.7:5000, send[0]",
		"lamps@eth1 on eth1 to 239.1.1.7:5000, send[0]",
		"other on iso0 to 239.9.9.9:5000, send[1]",
	}, got); d != "" {
		t.Error(d)
	}
	if n := len(table.Subscriptions()); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
	var topics []string
	for _, rule := range table.Receive() {
		topic, err := rule.Topic.Append(nil, &mapping.Arrival{Interface: rule.InterfaceText("x")}, rule.Name)
		if err != nil {
			t.Fatal(err)
		}
		topics = append(topics, string(topic))
	}
	if d := cmp.Diff([]string{"in/meters/eth0", "in/meters/eth1"}, topics); d != "" {
		t.Error(d)
	}
}

// A rule may be called as an instance of another would be.
func TestInstancesHaveNamesThatNoRuleHas(t *testing.T) {
	a, b, c := sendRule(t, "a", "a", "239.1.1.1:5000"), sendRule(t, "a@eth0", "b", "239.1.1.1:5000"), sendRule(t, "a@", "c", "239.1.1.1:5000")
	a.Binding.Interface, c.Binding.Interface = "eth0, eth1", "eth0, eth1"
	seen := make(map[string]bool)
	for _, r := range compileBoth(t, []mapping.SendRule{a, b, c}, nil).On(hostOf()).Send() {
		if seen[r.Name] {
			t.Errorf("two are called %s", r.Name)
		}
		seen[r.Name] = true
	}
	if len(seen) != 5 {
		t.Errorf("%v", seen)
	}
}

func TestAHostThatChangesNothingLeavesTheTable(t *testing.T) {
	s := sendRule(t, "lamps", "lamps/#", "239.1.1.1:5000")
	s.Binding.Interface = "vlan*, eth0"
	table := compileBoth(t, []mapping.SendRule{s}, nil)
	on := table.On(hostOf("vlan7"))
	if on == table || on.On(hostOf("vlan7", "eth0", "eth1")) != on || on.On(hostOf("vlan7-")) != on || on.On(hostOf("vlan7", "vlan8")) == on {
		t.Error("made anew for nothing, or not though an interface has come")
	}
	if on.Configured() != table || on.On(hostOf()).Configured() != table {
		t.Error("what the configuration says is not known any more")
	}
	if c := on.Changes(table); len(c.Added)+len(c.Changed)+len(c.Removed) > 0 {
		t.Errorf("instances are no change of the configuration: %+v", c)
	}
	came, gone := on.On(hostOf("vlan8", "vlan9")).InstanceChanges(on)
	if d := cmp.Diff([][]string{{"lamps@vlan8", "lamps@vlan9"}, {"lamps@vlan7"}}, [][]string{came, gone}); d != "" {
		t.Error(d)
	}
	if plain := compileBoth(t, []mapping.SendRule{sendRule(t, "a", "a", "239.1.1.1:5000")}, nil); plain.On(hostOf("eth0")) != plain {
		t.Error("a rule with one interface has its table made anew")
	}
}

func TestInstancesAreBounded(t *testing.T) {
	var there []string
	for i := range 2 * mapping.MaxInterfaces {
		there = append(there, fmt.Sprintf("vlan%03d", i))
	}
	s, r := sendRule(t, "lamps", "lamps/#", "239.1.1.1:5000"), receiveRule(t, "239.1.0.0-239.1.0.255:1", "in/{interface}")
	s.Binding.Interface, r.Interface = "vlan*", "vlan*"
	away := "vlan000-"
	h := hostOf(append([]string{away}, there[1:]...)...)
	table := compileBoth(t, []mapping.SendRule{s}, []mapping.ReceiveRule{r}).On(h)
	if n := len(table.Send()); n != mapping.MaxInterfaces || table.Send()[0].Binding.Interface != "vlan001" {
		t.Errorf("%d instances, the first by %s: those that are away are left out first", n, table.Send()[0].Binding.Interface)
	}
	if n := len(table.Receive()) * 256; n > 16384 {
		t.Errorf("%d groups on all interfaces", n)
	}
	var said []string
	for _, w := range table.Beyond() {
		said = append(said, w.Path)
	}
	if d := cmp.Diff([]string{"send[0].interface", "receive[0].interface"}, said); d != "" {
		t.Error(d)
	}
	if got := compileBoth(t, []mapping.SendRule{s}, nil).On(hostOf(there[:mapping.MaxInterfaces]...)).Beyond(); got != nil {
		t.Errorf("nothing is left out: %v", got)
	}
}

func TestInterfacesThatCannotBeAreFaults(t *testing.T) {
	for text, want := range map[string]string{
		"eth0, eth1":         "",
		"eth0,":              "interface[1]",
		"eth[0":              "interface",
		"vlan*, eth[0":       "interface[1]",
		"eth0, 192.0.2.0/24": "interface[1]",
		strings.TrimSuffix(strings.Repeat("e,", mapping.MaxInterfaces), ","):   "",
		strings.TrimSuffix(strings.Repeat("e,", mapping.MaxInterfaces+1), ","): "interface",
	} {
		s, r := sendRule(t, "lamps", "lamps/#", "239.1.1.1:5000"), receiveRule(t, "239.1.2.1:5000", "in")
		s.Binding.Interface, r.Interface = text, text
		_, err := mapping.Compile([]mapping.SendRule{s}, []mapping.ReceiveRule{r})
		var expect []string
		if want != "" {
			expect = []string{"send[0]." + want, "receive[0]." + want}
		}
		var got []string
		for _, f := range faults(t, err) {
			path, _, _ := strings.Cut(f, ": ")
			got = append(got, path)
		}
		if d := cmp.Diff(expect, got); d != "" {
			t.Errorf("%.30s: %s", text, d)
		}
	}
}

// What two instances of one rule warn of is said once, with the rule's place.
func TestWarningsAreOfTheRulesOfTheConfiguration(t *testing.T) {
	s, r := sendRule(t, "lamps", "lamps/+", "224.0.0.7:5000"), receiveRule(t, "232.1.2.1:5000", "in")
	s.Binding.TTL = 7
	s.Binding.Interface, r.Interface = "eth0, eth1", "eth0, eth1"
	twice := s
	twice.Name, twice.Binding.Interface, twice.Filter = "twice", "eth1, eth2", filter(t, "lamps/7")
	var got []string
	for _, w := range compileBoth(t, []mapping.SendRule{s, twice}, []mapping.ReceiveRule{r}).On(hostOf()).Warnings() {
		got = append(got, w.Path+": "+strings.Join(strings.Fields(w.Text)[:3], " "))
	}
	if d := cmp.Diff([]string{
		"send[1].group: send[0] sends to",
		"send[0].ttl: routers never forward",
		"send[1].ttl: routers never forward",
		"receive[0].group: 232.1.2.1:5000 is source-specific",
	}, got); d != "" {
		t.Error(d)
	}
}
