package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// watching is a membersWatch whose watches hear nothing.
type watching struct {
	membersWatch
	opened []string
	warned int
}

func (w *watching) look(rules []mapping.SendRule, interfaces []multicast.Interface) {
	w.follow(rules, interfaces, func(on multicast.Interface) *members.Watch {
		w.opened = append(w.opened, fmt.Sprint(on.Name, on.Index))
		return new(members.Watch)
	}, func(string, ...any) { w.warned++ })
}

func watchedRule(on string) mapping.SendRule {
	g, _ := mapping.ParseGroup("239.1.2.3:5000")
	return mapping.SendRule{Name: on, Members: true, Group: g, Binding: mapping.Binding{Interface: on, TTL: 1}}
}

func anInterface(name string, index int) multicast.Interface {
	a := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(index >> 8), byte(index), 1}), 24)
	return multicast.Interface{Name: name, Index: index, Up: true, Carrier: true, Addresses: []multicast.Address{{Prefix: a}}}
}

func TestInterfacesAreListenedOnWhileRulesAskForIt(t *testing.T) {
	var w watching
	eth0, eth1, again := anInterface("eth0", 2), anInterface("eth1", 3), anInterface("eth0", 4)
	rule, other := watchedRule("eth0"), watchedRule("eth1")
	other.Members = false
	w.look([]mapping.SendRule{other}, []multicast.Interface{eth0, eth1})
	if w.opened != nil || w.of != nil || w.Of(&other) != nil {
		t.Errorf("without the key: opened %q", w.opened)
	}
	w.look([]mapping.SendRule{rule, rule, other}, []multicast.Interface{eth1})
	if got := w.Of(&rule); len(w.opened) > 0 || len(got) != 1 || got[0].Why != "its interface is not there" || got[0].State != members.Unknown {
		t.Errorf("opened %q, %+v", w.opened, got)
	}
	w.look([]mapping.SendRule{rule, rule, other}, []multicast.Interface{eth0, eth1})
	w.look([]mapping.SendRule{rule, rule, other}, []multicast.Interface{eth0, eth1})
	w.look([]mapping.SendRule{rule}, []multicast.Interface{again}) // made anew
	if want := []string{"eth02", "eth04"}; !slices.Equal(w.opened, want) || len(w.on) != 1 || w.warned > 0 {
		t.Errorf("opened %q, want %q; open %d; warned %d times", w.opened, want, len(w.on), w.warned)
	}
	w.look([]mapping.SendRule{other}, []multicast.Interface{eth0, eth1})
	if len(w.on) != 0 {
		t.Error("no rule asks for it, and it is listened on")
	}
}

func TestInterfacesThatAreWatchedForMembersAreBounded(t *testing.T) {
	var w watching
	var rules []mapping.SendRule
	var interfaces []multicast.Interface
	for i := range mostWatched + 5 {
		name := fmt.Sprint("eth", i)
		rules, interfaces = append(rules, watchedRule(name)), append(interfaces, anInterface(name, i+2))
	}
	w.look(rules, interfaces)
	got := w.Of(&rules[mostWatched])
	if len(w.on) != mostWatched || len(got) != 1 || got[0].Why != "members are watched on 64 interfaces at most" {
		t.Errorf("%d, %+v", len(w.on), got)
	}
}
