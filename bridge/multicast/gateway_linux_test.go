package multicast

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// ip runs ip(8) on a host, a command a line.
func ip(t *testing.T, h *netlab.Host, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if out, err := h.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", c, err, out)
		}
	}
}

// On the rig the device is the gateway that a route names: its own frames would
// reach it whichever way they were sent, so the tests look at the station.
const (
	viaDev  = "via 172.17.0.50 dev iso0"
	viaDev6 = "via fd17::50 dev iso0"
)

// routeCases are the ways to have Linux hand groups to a gateway, and routes that
// look like one.
var routeCases = []struct {
	name string
	add  []string // of ip(8)
	del  []string
	want string // what GatewayRoute says of it
}{
	{"all groups", []string{"route add 224.0.0.0/4 " + viaDev}, []string{"route del 224.0.0.0/4"}, "224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)"},
	{"a part of them", []string{"route add 225.0.0.0/8 " + viaDev}, []string{"route del 225.0.0.0/8"}, "225.0.0.0/8 via 172.17.0.50 dev iso0 (table main)"},
	{"this group", []string{"route add 225.17.0.18 " + viaDev}, []string{"route del 225.17.0.18"}, "225.17.0.18/32 via 172.17.0.50 dev iso0 (table main)"},
	{"a gateway that answers no ARP", []string{"route add 224.0.0.0/4 via 172.17.9.9 dev iso0"}, []string{"route del 224.0.0.0/4"}, "224.0.0.0/4 via 172.17.9.9 dev iso0 (table main)"},
	{"a gateway of another network", []string{"route add 224.0.0.0/4 via 192.0.2.1 dev iso0 onlink"}, []string{"route del 224.0.0.0/4"}, "224.0.0.0/4 via 192.0.2.1 dev iso0 (table main)"},
	{"an IPv6 gateway", []string{"route add 224.0.0.0/4 via inet6 fd17::50 dev iso0"}, []string{"route del 224.0.0.0/4"}, "224.0.0.0/4 via fd17::50 dev iso0 (table main)"},
	{"several gateways", []string{"route add 224.0.0.0/4 nexthop " + viaDev + " nexthop via 172.17.0.51 dev iso0"}, []string{"route del 224.0.0.0/4"}, "224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)"},
	{"several interfaces", []string{"route add 224.0.0.0/4 nexthop " + viaDev + " nexthop via 10.0.0.1 dev priv0"}, []string{"route del 224.0.0.0/4"}, "224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)"},
	{"a nexthop object", []string{"nexthop add id 7 " + viaDev, "route add 224.0.0.0/4 nhid 7"}, []string{"route del 224.0.0.0/4", "nexthop del id 7"}, "224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)"},
	{"a table of a policy rule", []string{"route add 224.0.0.0/4 " + viaDev + " table 100", "rule add from 172.17.0.1 lookup 100 pref 10"},
		[]string{"rule del pref 10", "route flush table 100"}, "224.0.0.0/4 via 172.17.0.50 dev iso0 (table 100)"},
	{"a table for the interface", []string{"route add 224.0.0.0/4 " + viaDev + " table 100", "rule add oif iso0 lookup 100 pref 10"},
		[]string{"rule del pref 10", "route flush table 100"}, "224.0.0.0/4 via 172.17.0.50 dev iso0 (table 100)"},
	{"a policy rule that prohibits", []string{"rule add from 172.17.0.1 prohibit pref 10"}, []string{"rule del pref 10"}, ""},
	{"unreachable", []string{"route add unreachable 224.0.0.0/4"}, []string{"route del unreachable 224.0.0.0/4"}, ""},
	{"blackhole", []string{"route add blackhole 224.0.0.0/4"}, []string{"route del blackhole 224.0.0.0/4"}, ""},
	{"the other interface", []string{"route add 224.0.0.0/4 via 10.0.0.1 dev priv0"}, []string{"route del 224.0.0.0/4"}, ""},
	{"IPv6: all groups", []string{"-6 route add ff00::/8 " + viaDev6}, []string{"-6 route del ff00::/8 " + viaDev6}, ""},
	{"IPv6: a part of them", []string{"-6 route add ff15::/16 " + viaDev6, "-6 route add ff02::/16 " + viaDev6}, []string{"-6 route del ff15::/16", "-6 route del ff02::/16"}, ""},
}

// Whatever routes stand when the sender opens, are added while it is open and are
// removed again: what leaves for a group leaves in a frame to all stations.
func TestNoRouteHandsAGroupToAGateway(t *testing.T) {
	for _, tt := range routeCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rig := netlab.NewRig(t)
			iso, priv := rig.Dev.Capture("eth0"), rig.Lan.Capture("eth0")
			group, source := rigGroup, "172.17.0.1"
			if strings.HasPrefix(tt.name, "IPv6:") {
				group, source = rigGroup6, "fd17::1"
			}
			for _, ttl := range []uint8{1, 16} {
				before := openOn(t, rig.GW, with(bind(source, "iso0"), func(b *Binding) { b.TTL = ttl }))
				sendPlainAndRun(t, before, group, "before")
				ip(t, rig.GW, tt.add...)
				sendPlainAndRun(t, before, group, "while")
				if got := gatewayRouteOf(rig.GW, before.Source(), group.Addr()); got != tt.want {
					t.Errorf("the route is %q, want %q", got, tt.want)
				}
				after := openOn(t, rig.GW, with(bind(source, "iso0"), func(b *Binding) { b.TTL = ttl }))
				sendPlainAndRun(t, after, group, "opened later")
				ip(t, rig.GW, tt.del...)
				sendPlainAndRun(t, before, group, "removed")
				sendPlainAndRun(t, after, group, "removed, too")
			}
			got := iso.WaitFor(2*5*4, nil)
			iso.None(func(f netlab.Frame) bool { return !f.ToGroup() || f.Dst.Port() != group.Port() })
			priv.None(nil)
			ttls := make(map[string]int)
			for _, f := range got {
				ttls[fmt.Sprint(f.TTL)]++
			}
			if len(got) != 40 || ttls["1"] != 20 || ttls["16"] != 20 {
				t.Errorf("%d datagrams with these ttls: %v; want 20 each of 1 and 16", len(got), ttls)
			}
		})
	}
}

// gatewayRouteOf is what a host says of the way to a group; "" if that has no gateway.
func gatewayRouteOf(h *netlab.Host, src Source, group netip.Addr) (text string) {
	h.Do(func() error {
		if r, ok := src.GatewayRoute(group); ok {
			text = r.String()
		}
		return nil
	})
	return text
}

// What the other types of routes do to a group's datagrams: one of type local on the
// interface keeps them, and the kernel says nothing; all others are passed over.
func TestOnlyALocalRouteOfTheInterfaceKeepsAGroup(t *testing.T) {
	for _, tt := range []struct {
		add     string // of ip(8)
		removal string // "": datagrams leave
	}{
		{"route add local 225.17.0.18 dev iso0 table local", "ip route del local 225.17.0.18/32 dev iso0 table local; or, where it came with an address, ip addr del 225.17.0.18/32 dev iso0"},
		{"addr add 225.17.0.18/32 dev iso0 autojoin", "ip route del local 225.17.0.18/32 dev iso0 table local; or, where it came with an address, ip addr del 225.17.0.18/32 dev iso0"},
		{"route add local 225.0.0.0/8 dev iso0 table main", "ip route del local 225.0.0.0/8 dev iso0 table main"},
		{"route add local 224.0.0.0/4 dev lo table local", ""},
		{"route add local 224.0.0.0/4 dev priv0 table local", ""},
		{"route add blackhole 225.0.0.0/8 table local", ""},
		{"route add unreachable 225.0.0.0/8 table local scope link", ""},
		{"route add prohibit 225.0.0.0/8 table local scope link", ""},
		{"route add throw 225.0.0.0/8 table local", ""},
		{"route add broadcast 225.17.0.18 dev iso0 table local", ""},
		{"route add multicast 225.0.0.0/8 dev priv0", ""},
		{"-6 route add local ff15::/16 dev iso0 table local", "ip -6 route del local ff15::/16 dev iso0 table local"},
		{"-6 route add local ff15::/16 dev lo table local", ""},
		{"-6 route add blackhole ff15::/16 table local", ""},
		{"-6 route add unreachable ff15::/16 table local", ""},
		{"-6 route add prohibit ff15::/16 table local", ""},
		{"-6 route add anycast ff15::/16 dev iso0 table local", ""},
		{"-6 route add multicast ff15::/16 dev priv0 table local", ""},
	} {
		t.Run(tt.add, func(t *testing.T) {
			t.Parallel()
			rig := netlab.NewRig(t)
			iso := rig.Dev.Capture("eth0")
			group, source := rigGroup, "172.17.0.1"
			if strings.HasPrefix(tt.add, "-6") {
				group, source = rigGroup6, "fd17::1"
			}
			s := openOn(t, rig.GW, with(bind(source, "iso0"), nil))
			ip(t, rig.GW, tt.add)
			send(t, s, group, "with the route")
			var found GatewayRoute
			var ok bool
			if err := rig.GW.Do(func() error {
				all, err := GatewayRoutes(group.Addr().Is6())
				found, _, ok = s.Source().Among(all, netip.PrefixFrom(group.Addr(), group.Addr().BitLen()), Source.GatewayRoute)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if kept := tt.removal != ""; ok != kept || kept && (!found.Binding || found.Removal() != tt.removal) {
				t.Errorf("found %t: %+v: %s", ok, found, found.Removal())
			}
			if tt.removal == "" {
				iso.WaitFor(1, nil)
				return
			}
			command, _, _ := strings.Cut(tt.removal, "; or, ")
			if strings.HasPrefix(tt.add, "addr") {
				command = "ip addr del 225.17.0.18/32 dev iso0"
			}
			ip(t, rig.GW, strings.TrimPrefix(command, "ip "))
			send(t, s, group, "without it")
			for _, f := range iso.WaitFor(1, nil) {
				if string(f.Payload) != "without it" {
					t.Errorf("%q has left, so that the route is harmless", f.Payload)
				}
			}
		})
	}
}

// A default route covers the groups too, and Linux does not follow it for them.
func TestADefaultRouteIsNoGatewayOfGroups(t *testing.T) {
	rig := netlab.NewRig(t)
	for source, group := range map[string]string{"10.0.0.2": "239.1.1.1", "fd10::2": "ff15::1"} {
		s := openOn(t, rig.GW, with(bind(source, "priv0"), nil))
		if got := gatewayRouteOf(rig.GW, s.Source(), netip.MustParseAddr(group)); got != "" {
			t.Errorf("%s to %s: %s", source, group, got)
		}
	}
}

// What IPv4 offers no option against, and IPv6, is seen by the self-test.
func TestTheSelfTestSeesARouteThatCannotBePassedOver(t *testing.T) {
	for _, tt := range []struct {
		source string
		add    []string
		want   string
	}{
		{"172.17.0.1", []string{"nexthop add id 7 " + viaDev, "route add 224.0.0.0/4 nhid 7 scope link"},
			"the route 224.0.0.0/4 via 172.17.0.50 dev iso0 (table main) hands groups to the gateway, in frames that no other station hears, and no option of a socket keeps it from that; remove it"},
		{"172.17.0.1", []string{"route add local 239.0.0.0/8 dev iso0 table local"},
			"the route local 239.0.0.0/8 dev iso0 keeps groups on this host, so that nothing leaves; remove it"},
		{"fd17::1", []string{"-6 route add ff15::/16 " + viaDev6 + " table local"},
			"the route ff15::/16 via fd17::50 dev iso0 (table local) hands groups to the gateway, in frames that no other station hears, and no option of a socket keeps it from that; remove it"},
	} {
		rig := netlab.NewRig(t)
		ip(t, rig.GW, tt.add...)
		s := openOn(t, rig.GW, with(bind(tt.source, "iso0"), nil))
		if p := probeOn(t, rig.GW, s); p.Result != ProbeGateway || p.Detail != tt.want {
			t.Errorf("%v: %s: %s", tt.add, p.Result, p.Detail)
		}
	}
}

// sendPlainAndRun sends four datagrams: one alone, and a run of three.
func sendPlainAndRun(t *testing.T, s *Sender, group netip.AddrPort, payload string) {
	t.Helper()
	send(t, s, group, payload)
	send(t, s, group, payload+" 1", payload+" 2", payload+" 3")
}
