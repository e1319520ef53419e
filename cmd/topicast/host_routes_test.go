package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// Which routes a rule is warned of, and once for all rules that it concerns.
func TestRulesAreWarnedOfRoutesToAGateway(t *testing.T) {
	route := func(groups, on string, binding bool) multicast.GatewayRoute {
		return multicast.GatewayRoute{Groups: netip.MustParsePrefix(groups), Gateway: netip.MustParseAddr("172.17.0.50"), Interface: on, Table: 254, Binding: binding}
	}
	rule := func(group, source, on string) mapping.SendRule {
		g, err := mapping.ParseGroup(group)
		if err != nil {
			t.Fatal(err)
		}
		return mapping.SendRule{Group: g, Binding: testBinding(t, source, on)}
	}
	const passedOver = " would hand this group to a gateway; topicast sends on the link all the same, to all stations, but other programs of this host do not"
	local := multicast.GatewayRoute{Groups: netip.MustParsePrefix("239.1.2.0/24"), Interface: "iso0", Table: 255, Binding: true}
	// Of the first rule, if it is not ok.
	states := map[string]string{"one that keeps some of a template's": "degraded", "one that keeps all of them": "pending", "one that is not passed over": "pending"}
	for _, tt := range []struct {
		name   string
		routes []multicast.GatewayRoute
		rules  []mapping.SendRule
		want   []string
	}{
		{"none", nil, []mapping.SendRule{rule("239.1.2.3:5000", "172.17.0.1", "iso0")}, nil},
		{"all groups", []multicast.GatewayRoute{route("224.0.0.0/4", "iso0", false)}, []mapping.SendRule{rule("239.1.2.3:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route 224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)" + passedOver}},
		{"all groups, any group", []multicast.GatewayRoute{route("224.0.0.0/4", "iso0", false)}, []mapping.SendRule{rule("{group}:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route 224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)" + passedOver}},
		{"one of a template's", []multicast.GatewayRoute{route("239.1.2.0/24", "iso0", false)}, []mapping.SendRule{rule("239.{a}.2.3:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route 239.1.2.0/24 via 172.17.0.50 dev iso0 (table main)" + strings.Replace(passedOver, "this group", "the groups 239.1.2.0/24 of this rule", 1)}},
		{"one that keeps some of a template's", []multicast.GatewayRoute{local}, []mapping.SendRule{rule("239.1.{a}.3:5000", "172.17.0.1", "iso0"), rule("239.1.2.{a}:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route local 239.1.2.0/24 dev iso0 keeps the groups 239.1.2.0/24 of this rule on this host: nothing for those leaves",
				"send[1].group: the route local 239.1.2.0/24 dev iso0 keeps this group on this host: nothing leaves"}},
		{"one that keeps all of them", []multicast.GatewayRoute{local}, []mapping.SendRule{rule("239.1.2.{a}:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route local 239.1.2.0/24 dev iso0 keeps this group on this host: nothing leaves"}},
		{"another interface", []multicast.GatewayRoute{route("224.0.0.0/4", "priv0", false)}, []mapping.SendRule{rule("239.1.2.3:5000", "172.17.0.1", "iso0")}, nil},
		{"other groups", []multicast.GatewayRoute{route("225.0.0.0/8", "iso0", false)}, []mapping.SendRule{rule("239.1.2.3:5000", "172.17.0.1", "iso0")}, nil},
		{"the groups of the link", []multicast.GatewayRoute{route("224.0.0.0/4", "iso0", false)}, []mapping.SendRule{rule("224.0.0.251:5353", "172.17.0.1", "iso0")}, nil},
		{"once for many rules", []multicast.GatewayRoute{route("224.0.0.0/4", "iso0", false)},
			[]mapping.SendRule{rule("239.1.2.3:5000", "172.17.0.1", "iso0"), rule("239.1.2.4:5000", "172.17.0.1", "iso0"), rule("239.1.2.5:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route 224.0.0.0/4 via 172.17.0.50 dev iso0 (table main)" + passedOver + " (and so for 2 rules more)"}},
		{"one that is not passed over", []multicast.GatewayRoute{route("224.0.0.0/4", "iso0", true)}, []mapping.SendRule{rule("239.1.2.3:5000", "172.17.0.1", "iso0")},
			[]string{"send[0].group: the route 224.0.0.0/4 via 172.17.0.50 dev iso0 (table main) hands this group to a gateway, in frames that no other station hears, and topicast cannot keep it from that"}},
	} {
		h := testHost()
		h.routes = newRoutes()
		h.routes.list = func(bool) ([]multicast.GatewayRoute, error) { return tt.routes, nil }
		h.routes.match = func(s multicast.Source, group netip.Addr) (multicast.GatewayRoute, bool) {
			for _, r := range tt.routes {
				if r.Interface == s.Interface && r.Groups.Contains(group) && !group.IsLinkLocalMulticast() {
					return r, true
				}
			}
			return multicast.GatewayRoute{}, false
		}
		var got []string
		for _, f := range h.gatewayed(tt.rules) {
			got = append(got, f.path+": "+f.err.Error())
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: want -, got +:\n%s", tt.name, d)
		}
		want, troubled := states[tt.name]
		if !troubled {
			want = "ok"
		}
		if state := h.sendState(&tt.rules[0]); state != want {
			t.Errorf("%s: the state is %s, want %s", tt.name, state, want)
		}
	}
}
