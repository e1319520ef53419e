package doctor

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// The rules are as nft 1.0.6 printed them.
const rules = `{"nftables":[{"metainfo":{"version":"1.0.6"}},
{"table":{"family":"inet","name":"f","handle":1}},
{"set":{"family":"inet","name":"allowed","table":"f","type":"inet_service","handle":9,"elem":[5000,{"range":[6000,6010]},{"elem":{"val":7000,"comment":"x"}}]}},
{"chain":{"family":"inet","table":"f","name":"input","handle":1,"type":"filter","hook":"input","prio":0,"policy":"drop"}},
{"chain":{"family":"inet","table":"f","name":"more","handle":2}},
{"rule":{"family":"inet","table":"f","chain":"input","handle":3,"expr":[{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},{"accept":null}]}},
{"rule":{"family":"inet","table":"f","chain":"input","handle":4,"expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"iso*"}},{"counter":{"packets":0,"bytes":0}},{"jump":{"target":"more"}}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":5,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.0.0","len":8}}}},{"return":null}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":6,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":"@allowed"}},{"accept":null}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":7,"expr":[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"set":["239.1.1.1",{"range":["239.2.0.0","239.2.0.9"]}]}}},{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"udp"}},{"reject":{"type":"icmpx"}}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":8,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":8000}},{"limit":{"rate":1,"per":"second"}},{"accept":null}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":9,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"length"}},"right":9}},{"drop":null}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":10,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}},{"drop":null}]}},
{"rule":{"family":"inet","table":"f","chain":"more","handle":11,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":9000}},{"accept":null}]}},
{"chain":{"family":"ip","table":"n","name":"post","handle":1,"type":"nat","hook":"postrouting","prio":100,"policy":"accept"}},
{"rule":{"family":"ip","table":"n","chain":"post","handle":2,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"prefix":{"addr":"224.0.0.0","len":4}}}},{"accept":null}]}},
{"rule":{"family":"ip","table":"n","chain":"post","handle":3,"expr":[{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"iso0"}},{"masquerade":null}]}}]}`

func TestTheFirewallIsAskedAsTheKernelAsksIt(t *testing.T) {
	r, err := ParseRuleset([]byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		what string
		p    Packet
		want string // what stops it; "": nothing does
	}{
		{"another interface", Packet{To: netip.MustParseAddr("239.1.1.1"), Port: 5000, In: "priv0"}, "its policy is drop"},
		{"a port of the set", Packet{To: netip.MustParseAddr("239.9.9.9"), Port: 5000, In: "iso0"}, ""},
		{"a port of a range of the set", Packet{To: netip.MustParseAddr("239.9.9.9"), Port: 6005, In: "iso0"}, ""},
		{"a port of the set with a comment", Packet{To: netip.MustParseAddr("239.9.9.9"), Port: 7000, In: "iso0"}, ""},
		{"another port", Packet{To: netip.MustParseAddr("239.9.9.9"), Port: 9000, In: "iso0"}, "the rule with handle 7 of chain inet f more drops it"},
		{"an exempt group", Packet{To: netip.MustParseAddr("239.1.1.1"), Port: 9000, In: "iso0"}, "the rule with handle 9 of chain inet f more may drop it"},
		{"an exempt range", Packet{To: netip.MustParseAddr("239.2.0.4"), Port: 9000, In: "iso0"}, "the rule with handle 9 of chain inet f more may drop it"},
		{"a source for which the chain returns", Packet{From: netip.MustParseAddr("10.1.1.1"), To: netip.MustParseAddr("239.1.1.1"), Port: 5000, In: "iso0"}, "its policy is drop"},
		{"a limit that may be exceeded", Packet{To: netip.MustParseAddr("239.1.1.1"), Port: 8000, In: "iso0"}, "the rule with handle 8 of chain inet f more may let it through"},
		{"a source that is not known, where one is let out", Packet{From: netip.IPv4Unspecified(), To: netip.MustParseAddr("239.9.9.9"), Port: 9000, In: "iso0"}, "the rule with handle 5 of chain inet f more may let it through: it has a condition that is not understood here; if it does not: the rule with handle 7"},
		{"IPv6", Packet{IPv6: true, To: netip.MustParseAddr("ff15::1"), Port: 5000, In: "iso0"}, ""},
	} {
		row.p.Protocol = "udp"
		if !row.p.From.IsValid() {
			row.p.From = netip.MustParseAddr("192.0.2.9")
		} else if row.p.From.IsUnspecified() {
			row.p.From = netip.Addr{}
		}
		v, stopped := r.Stops(row.p, "prerouting", "input")
		if stopped != (row.want != "") || !strings.Contains(v.Text, row.want) {
			t.Errorf("%s: stopped %t by %q, want %q", row.what, stopped, v.Text, row.want)
		}
		if stopped && v.Unknown != strings.Contains(row.want, " may ") {
			t.Errorf("%s: unknown is %t", row.what, v.Unknown)
		}
	}
	out := Packet{Protocol: "udp", To: netip.MustParseAddr("192.0.2.1"), Port: 1, Out: "iso0"}
	if v, is := r.Rewrites(out); !is || v.Chain != "ip n post" {
		t.Errorf("masquerade: %t %+v", is, v)
	}
	out.To = netip.MustParseAddr("239.1.1.1")
	if _, is := r.Rewrites(out); is {
		t.Error("an exempt group is taken for rewritten")
	}
}

func TestTheCommandThatMendsAFirewallFitsItsChain(t *testing.T) {
	in := Packet{Protocol: "udp", To: netip.MustParseAddr("239.1.1.1"), Port: 5000, In: "iso0"}
	if got, want := (Verdict{Chain: "inet f input", family: "inet"}).Insertion(in), `nft insert rule inet f input iifname "iso0" ip daddr 239.1.1.1 udp dport 5000 accept`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := (Verdict{Chain: "netdev t c", family: "netdev"}).Insertion(Packet{Protocol: "igmp", Out: "iso0"}), "nft insert rule netdev t c ip protocol igmp accept"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCountersAreReadAsTheKernelPrintsThem(t *testing.T) {
	c := make(Counters)
	c.read("Udp: InDatagrams NoPorts\nUdp: 17 4\nUdpLite: InDatagrams\nUdpLite: 1\n")
	c.read("TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 0 9\n")
	if c["Udp.InDatagrams"] != 17 || c["Udp.NoPorts"] != 4 || c["TcpExt.IPReversePathFilter"] != 9 || c["UdpLite.InDatagrams"] != 1 {
		t.Errorf("%v", c)
	}
	drops := make(map[uint16]uint64)
	addDrops(drops, "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"+
		" 1234: 0703EF0B:7531 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12345 2 0000000000000000 42\n")
	if drops[30001] != 42 || len(drops) != 1 {
		t.Errorf("%v", drops)
	}
}

// Each of these chains jumps twice to the next.
func TestARulesetThatDoublesItsWayIsGivenUp(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"nftables":[{"chain":{"family":"ip","table":"f","name":"c0","type":"filter","hook":"input","policy":"accept"}}`)
	for i := range 30 {
		fmt.Fprintf(&b, `,{"chain":{"family":"ip","table":"f","name":"c%d"}}`, i+1)
		for range 4 {
			fmt.Fprintf(&b, `,{"rule":{"family":"ip","table":"f","chain":"c%d","expr":[{"jump":{"target":"c%d"}}]}}`, i, i+1)
		}
	}
	b.WriteString("]}")
	r, err := ParseRuleset([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	v, stopped := r.Stops(Packet{Protocol: "udp", To: netip.MustParseAddr("239.1.1.1"), In: "iso0"}, "input")
	if !stopped || !v.Unknown {
		t.Errorf("stopped %t: %+v", stopped, v)
	}
}

// The rules are as nft 1.0.6 printed what iptables 1.8.9 (nf_tables) had made with -j and the name of the target.
func TestATargetOfIptablesEndsTheWayOfAPacket(t *testing.T) {
	const target = `{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":30001}},{"counter":{"packets":0,"bytes":0}},{"xt":{"type":"target","name":"NAME"}}`
	const chains = `{"nftables":[{"chain":{"family":"ip","table":"t","name":"c","handle":1,"type":"TYPE","hook":"HOOK","prio":0,"policy":"accept"}},
{"rule":{"family":"ip","table":"t","chain":"c","handle":4,"expr":[MATCH]}}]}`
	rules := func(kind, hook, match, name string) *Ruleset {
		return filter(strings.NewReplacer("TYPE", kind, "HOOK", hook, "MATCH", match+strings.ReplaceAll(target, "NAME", name)).Replace(chains))
	}
	in := Packet{Protocol: "udp", To: netip.MustParseAddr("239.1.1.1"), Port: 30001, In: "iso0"}
	out := Packet{Protocol: "udp", To: netip.MustParseAddr("239.1.1.1"), Port: 30001, Out: "iso0"}
	for _, row := range []struct{ match, name, want string }{
		{"", "REJECT", "the rule with handle 4 of chain ip t c drops it"},
		{"", "DROP", "the rule with handle 4 of chain ip t c drops it"},
		{"", "TARPIT", "the rule with handle 4 of chain ip t c drops it"},
		{`{"xt":{"type":"match","name":"comment"}},`, "REJECT", "the rule with handle 4 of chain ip t c drops it"},
		{`{"xt":{"type":"match","name":"u32"}},`, "REJECT", "may drop it: it has a condition that is not understood here"},
		{"", "NFQUEUE", "may drop it: it hands it to another program (queue)"},
		{"", "LOG", ""},
		{"", "MARK", ""},
		{"", "TTL", ""},
		{"", "NFLOG", ""},
	} {
		v, stopped := rules("filter", "input", row.match, row.name).Stops(in, arriving...)
		if stopped != (row.want != "") || !strings.Contains(v.Text, row.want) {
			t.Errorf("%s%s: stopped %t by %+v, want %q", row.match, row.name, stopped, v, row.want)
		}
		if stopped && v.Unknown != strings.Contains(row.want, "may drop it") {
			t.Errorf("%s%s: unknown is %t", row.match, row.name, v.Unknown)
		}
	}
	for name, want := range map[string]bool{"MASQUERADE": true, "SNAT": true, "NETMAP": true, "MARK": false} {
		if _, is := rules("nat", "postrouting", "", name).Rewrites(out); is != want {
			t.Errorf("%s: rewritten %t, want %t", name, is, want)
		}
	}
	for name, want := range map[string]bool{"REDIRECT": true, "DNAT": true, "LOG": false} {
		if _, is := rules("nat", "prerouting", "", name).Redirects(in); is != want {
			t.Errorf("%s: redirected %t, want %t", name, is, want)
		}
	}
}

func FuzzParseRuleset(f *testing.F) {
	f.Add([]byte(rules))
	f.Add([]byte(`{"nftables":[{"chain":{"family":"inet","hook":"input","dev":["a"]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRuleset(text)
		if err == nil {
			r.Stops(Packet{Protocol: "udp", To: netip.MustParseAddr("239.1.1.1"), Port: 5000, In: "iso0"}, "input", "output")
		}
	})
}
