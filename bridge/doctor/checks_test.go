package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/internal/frame"
)

// patient is a subject and its host, both healthy until a test changes them.
type patient struct {
	*Subject
	h         *Snapshot
	sysctl    map[string]int
	sent      [2]*send.Status
	published [2]*receive.Status
}

var (
	device = netip.MustParseAddr("172.17.0.50")
	here   = netip.MustParseAddr("172.17.0.1")
	to     = netip.MustParseAddrPort("239.11.3.7:30001")
	now    = time.Date(2026, 11, 29, 17, 0, 0, 0, time.UTC)
)

func newPatient(sends bool) *patient {
	on := multicast.Interface{Name: "iso0", Index: 2, MTU: 1500, Up: true, Carrier: true,
		Addresses: []multicast.Address{{Prefix: netip.PrefixFrom(here, 16)}}}
	other := multicast.Interface{Name: "priv0", Index: 3, MTU: 1500, Up: true, Carrier: true,
		Addresses: []multicast.Address{{Prefix: netip.MustParsePrefix("10.0.0.2/24")}}}
	p := &patient{sysctl: map[string]int{"core/rmem_max": 212992, "ipv4/igmp_max_memberships": 20}}
	p.Subject = &Subject{Name: "r", Of: "rule r", Send: sends, To: to, Exact: true, Interface: "iso0", On: on, TTL: 1,
		Live: Live{Looked: true, Flag: true, Wire: newWire(now.Add(-time.Second))}}
	before, after := &bridge.Status{}, &bridge.Status{}
	after.Broker.Connected = true
	if sends {
		p.Source = multicast.Source{Interface: "lo", Addr: netip.MustParseAddr("127.0.0.1")}
		p.Wanted = netip.PrefixFrom(here, 32)
		before.Rules = []send.Status{{Name: "r", State: account.StateUp, Sent: 5}}
		after.Rules = []send.Status{{Name: "r", State: account.StateUp, Sent: 5}}
		p.sent = [2]*send.Status{&before.Rules[0], &after.Rules[0]}
	} else {
		p.Live.Heard, p.Live.Back = map[netip.Addr]int{}, map[string]string{}
		before.Receive = []receive.Status{{Name: "r", State: account.StateUp, Published: 5}}
		after.Receive = []receive.Status{{Name: "r", State: account.StateUp, Published: 5}}
		p.published = [2]*receive.Status{&before.Receive[0], &after.Receive[0]}
	}
	p.h = &Snapshot{Interfaces: []multicast.Interface{on, other}, Before: Counters{}, After: Counters{}, Drops: map[uint16]uint64{},
		Rules: &Ruleset{}, Window: time.Second, Now: now, FileTime: now.Add(-time.Hour),
		Sysctl: func(key string) (int, bool) { n, ok := p.sysctl[key]; return n, ok },
		Daemon: Daemon{Asked: true, At: "127.0.0.1:9479", Before: before, After: after}}
	return p
}

func (p *patient) comes(from netip.Addr, to netip.AddrPort) {
	p.Live.Wire.Flows[Flow{From: netip.AddrPortFrom(from, 4000), To: to}]++
}

// answered has a querier ask, and a host that has joined another group answer.
func (p *patient) answered() {
	began := now.Add(-members.Cycle)
	p.Live.Wire = newWire(began)
	p.reports(netip.MustParseAddr("172.17.0.254"), frame.Packet{Query: &frame.Query{Version: 3, Response: 10 * time.Second}}, began)
	p.reports(device, frame.Packet{Members: []frame.Member{{Group: netip.MustParseAddr("239.255.255.250")}}}, began.Add(time.Second))
}

func (p *patient) reports(from netip.Addr, what frame.Packet, at time.Time) {
	what.Kind, what.Source = frame.Membership, netip.AddrPortFrom(from, 0)
	p.Live.Wire.add(what, false, at)
}

func (p *patient) causes() (causes []Cause) {
	for _, f := range Examine(p.h, []*Subject{p.Subject}).Findings {
		causes = append(causes, f.Cause)
	}
	return causes
}

func filter(text string) *Ruleset {
	r, err := ParseRuleset([]byte(text))
	if err != nil {
		panic(err)
	}
	return r
}

const drops = `{"nftables":[{"chain":{"family":"inet","table":"f","name":"HOOK","handle":1,"type":"filter","hook":"HOOK","prio":0,"policy":"accept"}},
{"rule":{"family":"inet","table":"f","chain":"HOOK","handle":4,"expr":[MATCH{"drop":null}]}}]}`

const redirects = `{"nftables":[{"chain":{"family":"ip","table":"n","name":"pre","handle":1,"type":"nat","hook":"prerouting","prio":-100,"policy":"accept"}},
{"rule":{"family":"ip","table":"n","chain":"pre","handle":4,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":30001}},{"redirect":{"port":40000}}]}}]}`

func dropping(hook, match string) *Ruleset {
	return filter(strings.NewReplacer("HOOK", hook, "MATCH", match).Replace(drops))
}

const ofUDP = `{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":30001}},`

func TestEachCheckNamesItsCauseAndNoOther(t *testing.T) {
	pending := func(text string, is ...error) error { return errors.Join(append(is, errors.New(text))...) }
	for _, row := range []struct {
		cause Cause
		send  bool
		make  func(p *patient)
	}{
		{NoInterface, false, func(p *patient) {
			p.On, p.Err = multicast.Interface{}, pending("there is no interface nope0", multicast.ErrNoInterface)
			p.Live = Live{}
		}},
		{InterfaceDown, false, func(p *patient) { p.On.Up, p.On.Carrier = false, false }},
		{NoCarrier, false, func(p *patient) { p.On.Carrier = false }},
		{BridgePort, false, func(p *patient) { p.On.Master, p.On.MasterKind, p.On.HeardOn = "br0", "bridge", "br0" }},
		{VRF, false, func(p *patient) {
			p.Name, p.On.VRF, p.On.Master, p.On.MasterKind = "", true, "blue", "vrf"
			p.sysctl["ipv4/udp_l3mdev_accept"] = 0
		}},
		{NoMulticastFlag, false, func(p *patient) { p.Live.Flag = false }},
		{WrongSource, true, func(p *patient) { p.Err = errors.New("source 172.17.255.255 is the broadcast address") }},
		{SourceElsewhere, true, func(p *patient) {
			p.Wanted, p.Err = netip.MustParsePrefix("10.0.0.2/32"), pending("10.0.0.2 is not on iso0", multicast.ErrPending, multicast.ErrMisplaced)
		}},
		{NoRoute, true, func(p *patient) {
			p.To, p.Said = netip.MustParseAddrPort("192.0.2.7:5683"), &Said{"host", "no route leads there", "add a route"}
		}},
		{TTL, true, func(p *patient) {
			p.To, p.Said = netip.MustParseAddrPort("192.0.2.7:5683"), &Said{"ttl", "it is behind a gateway", "leave ttl out"}
		}},
		{NAT, true, func(p *patient) {
			p.Live.Probe = &multicast.Probe{Result: multicast.ProbeRewritten, Detail: "a NAT rule changes the source; exempt it: nft …"}
		}},
		{EgressFirewall, true, func(p *patient) { p.Live.Probe = &multicast.Probe{Result: multicast.ProbeRefused, Detail: "refused"} }},
		{EgressFirewall, true, func(p *patient) { p.h.Rules = dropping("output", ofUDP) }},
		{MTU, true, func(p *patient) { p.sent[1].Drops = map[string]uint64{"oversize": 1} }},
		{MTU, false, func(p *patient) {
			p.Live.Wire.Fragments[to.Addr()], p.h.After["Ip.ReasmReqds"] = 3, 3
		}},
		{Snooping, true, func(p *patient) { p.Live.Bridge = &multicast.Bridge{Snooping: true, NoFlood: []string{"eth1"}} }},
		{NobodyJoined, true, func(p *patient) { p.answered() }},
		{NobodyJoined, true, func(p *patient) { p.Live.Bridge = &multicast.Bridge{Snooping: true, Querier4: true} }},
		{IGMPVersion, false, func(p *patient) {
			p.Sources, p.sysctl["ipv4/conf/all/force_igmp_version"] = []netip.Prefix{netip.PrefixFrom(device, 32)}, 2
		}},
		{Memberships, false, func(p *patient) { p.Live.Join = &wrapped{syscall.ENOBUFS} }},
		{IGMPFiltered, false, func(p *patient) {
			p.h.Rules = dropping("output", `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"igmp"}},`)
		}},
		{WrongTarget, false, func(p *patient) { p.comes(device, netip.MustParseAddrPort("239.11.3.7:30002")) }},
		{WrongTarget, false, func(p *patient) { p.comes(device, netip.MustParseAddrPort("239.11.3.8:30001")) }},
		{Unicast, false, func(p *patient) { p.comes(device, netip.AddrPortFrom(here, 30001)) }},
		{RPFilter, false, func(p *patient) {
			p.comes(device, to)
			p.sysctl["ipv4/conf/iso0/rp_filter"], p.Live.Back[device.String()] = 1, "priv0"
		}},
		{RPFilter, false, func(p *patient) {
			p.comes(device, to)
			p.sysctl["ipv4/conf/all/rp_filter"], p.Live.Back[device.String()] = 2, ""
		}},
		{RPFilter, false, func(p *patient) { // nobody may see the wire: the counter tells
			p.Live.Wire, p.sysctl["ipv4/conf/all/rp_filter"], p.h.After["TcpExt.IPReversePathFilter"] = nil, 1, 7
		}},
		{IngressFirewall, false, func(p *patient) { p.h.Rules = dropping("input", ofUDP) }},
		{IngressFirewall, false, func(p *patient) { p.h.Rules = nil; p.comes(device, to) }},
		{IngressFirewall, false, func(p *patient) { // the rules were read, and none drops it
			p.comes(device, to)
		}},
		{IngressFirewall, false, func(p *patient) { p.h.Rules = filter(redirects); p.comes(device, to) }},
		{OwnAddress, false, func(p *patient) { p.comes(here, to) }},
		{OwnAddress, false, func(p *patient) {
			p.comes(netip.MustParseAddr("10.0.0.2"), to)
			p.sysctl["ipv4/conf/all/rp_filter"], p.Live.Back["10.0.0.2"] = 1, "lo"
		}},
		{PortTaken, false, func(p *patient) { p.Live.Join, p.Live.Heard = &wrapped{syscall.EADDRINUSE}, nil }},
		{SocketBuffer, false, func(p *patient) { p.h.Drops[30001] = 3 }},
		{SocketBuffer, false, func(p *patient) { p.published[1].Drops = map[string]uint64{"receive_buffer": 3} }},
		{SourceFiltered, false, func(p *patient) {
			p.Sources, p.Live.Heard[device] = []netip.Prefix{netip.MustParsePrefix("172.17.0.51/32")}, 3
		}},
		{SourceFiltered, false, func(p *patient) { // the bridge tells, of what came before
			p.published[1].Published, p.published[1].Filtered = 0, map[string]uint64{"source": 3}
		}},
		{RetainedPolicy, true, func(p *patient) { p.sent[1].Sent, p.sent[1].Filtered = 0, map[string]uint64{"retained": 1} }},
		{Condition, false, func(p *patient) { p.published[1].Filtered = map[string]uint64{"when": 1} }},
		{LoopGuard, true, func(p *patient) { p.sent[1].Sent, p.sent[1].Filtered = 0, map[string]uint64{"loop": 1} }},
		{Filtered, false, func(p *patient) {
			p.published[1].Published, p.published[1].Filtered = 0, map[string]uint64{"unchanged": 1}
		}},
		{Breaker, false, func(p *patient) {
			p.published[1].State, p.published[1].Reason = account.StateDegraded, "what the rule publishes comes back through other programs"
			p.published[1].Drops = map[string]uint64{"breaker": 4}
		}},
		{QueueFull, true, func(p *patient) { p.sent[1].Drops = map[string]uint64{"queue_full": 4} }},
		{SpoolFull, true, func(p *patient) { p.sent[1].Drops = map[string]uint64{"spool_full": 4} }},
		{SpoolFull, true, func(p *patient) {
			p.h.Daemon.After.Spool = &bridge.SpoolStatus{Dir: "/x", Error: "no space left on device"}
		}},
		{Dropped, true, func(p *patient) { p.sent[1].Drops = map[string]uint64{"bad_group": 4} }},
		{Pending, true, func(p *patient) { p.sent[1].State, p.sent[1].Reason = account.StatePending, "no room for sockets" }},
		{Degraded, false, func(p *patient) {
			p.published[1].State, p.published[1].Reason = account.StateDegraded, "nothing is heard since 16:59:50, which is longer than 3s (expect)"
		}},
		{BrokerAway, true, func(p *patient) { p.h.Daemon.After.Broker = bridge.BrokerStatus{Error: "connection refused"} }},
		{BrokerACL, true, func(p *patient) {
			p.sent[1].State, p.sent[1].Reason = account.StatePending, "no subscription to a/#: the broker refuses it: not authorized"
		}},
		{BrokerACL, false, func(p *patient) { p.published[1].Drops = map[string]uint64{"broker_refused": 4} }},
		{Clock, true, func(p *patient) { p.h.FileTime = now.Add(time.Hour) }},
		{Clock, true, func(p *patient) { p.h.Step = -time.Hour }},
		{Clock, true, func(p *patient) { p.h.Daemon.After.Started = now.Add(time.Hour) }},
		{Clock, true, func(p *patient) {
			p.h.Daemon.After.Broker = bridge.BrokerStatus{Error: "tls: x509: certificate has expired or is not yet valid"}
		}},
		{NotRunning, true, func(p *patient) { p.h.Daemon.Err, p.h.Daemon.After = errors.New("connection refused"), nil }},
		{NotRunning, true, func(p *patient) { p.h.Daemon.After.Rules = nil }},
	} {
		p := newPatient(row.send)
		row.make(p)
		if got := p.causes(); !slices.Equal(got, []Cause{row.cause}) {
			t.Errorf("%s: found %q", row.cause, got)
		}
	}
}

// What somebody has switched off is switched on by a command, which can be pasted: a name may have spaces, and
// a rule without one is called by its filter.
func TestADisabledRuleIsNamedWithTheCommandThatEnablesIt(t *testing.T) {
	const name, word = "joe's lamps/#", `'joe'\''s lamps/#'`
	for _, send := range []bool{true, false} {
		p := newPatient(send)
		p.Name = name
		if send {
			p.sent[1].Name, p.sent[1].State, p.sent[1].Reason = name, account.StateDisabled, "disabled by root"
		} else {
			p.published[1].Name, p.published[1].State, p.published[1].Reason = name, account.StateDisabled, "disabled by root"
		}
		found := Examine(p.h, []*Subject{p.Subject}).Findings
		if len(found) != 1 || found[0].Cause != Pending || found[0].Fix != "topicast enable "+word || !strings.Contains(found[0].Text, "disabled by root") {
			t.Errorf("send %t: %+v", send, found)
		}
	}
}

// An address that two interfaces have names neither: what is to be written is one of the two.
func TestOfAnAmbiguousAddressTheInterfacesAreNamed(t *testing.T) {
	for _, row := range []struct {
		what                string
		source, on          string
		cause               Cause
		want                string
		twice, label, sends bool
	}{
		{what: "a source", source: "172.17.0.1/32", twice: true, sends: true, cause: WrongSource, want: "write interface: iso0 or interface: priv0 beside source, whichever the network is at"},
		{what: "a network as source", source: "172.17.0.0/16", twice: true, sends: true, cause: WrongSource, want: "write interface: iso0 or interface: priv0 beside source, whichever the network is at"},
		{what: "a receive rule", on: "172.17.0.1", twice: true, cause: NoInterface, want: "write interface: iso0 or interface: priv0 in its place, whichever the network is at"},
		{what: "a label", on: "both:1", label: true, cause: NoInterface, want: "write interface: iso0 or interface: priv0 in its place, whichever the network is at"},
		{what: "no interface has it", on: "192.0.2.1", cause: NoInterface, want: "topicast interfaces lists what there is: name one of them, or bring the interface up"},
	} {
		p := newPatient(row.sends)
		if row.twice {
			p.h.Interfaces[1].Addresses = append(p.h.Interfaces[1].Addresses, multicast.Address{Prefix: netip.PrefixFrom(here, 24)})
		}
		if row.label {
			for i := range p.h.Interfaces {
				p.h.Interfaces[i].Addresses[0].Label = "both:1"
			}
		}
		p.Interface, p.Wanted, p.Live, p.On = row.on, netip.Prefix{}, Live{}, multicast.Interface{}
		if row.sends {
			p.Wanted = netip.MustParsePrefix(row.source)
			_, p.Err = multicast.Binding{Source: p.Wanted, TTL: 1}.ResolveIn(p.h.Interfaces)
		} else {
			_, p.Err = multicast.ResolveInterface(row.on, p.h.Interfaces)
		}
		if f := p.only(t); f.Cause != row.cause || f.Fix != row.want {
			t.Errorf("%s: %+v", row.what, f)
		}
	}
}

// wrapped is an error of a system call, as a join has it.
type wrapped struct{ errno syscall.Errno }

func (w *wrapped) Error() string { return "join: " + w.errno.Error() }
func (w *wrapped) Unwrap() error { return w.errno }

func TestWhatOnlyMayBeInTheWayIsNoCause(t *testing.T) {
	for name, change := range map[string]func(p *patient){
		"nothing at all": func(*patient) {},
		"reverse path filtering, and the way back is the interface": func(p *patient) {
			p.Live.Heard[device] = 1
			p.comes(device, to)
			p.sysctl["ipv4/conf/all/rp_filter"], p.Live.Back[device.String()] = 1, "iso0"
		},
		"a firewall that drops IGMP, and datagrams arrive": func(p *patient) {
			p.Live.Heard[device] = 1
			p.h.Rules = dropping("output", `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"igmp"}},`)
		},
		"other groups of the port, that rules have": func(p *patient) {
			p.published[1].Groups = []string{"239.11.3.8:30001"}
			p.comes(device, netip.MustParseAddrPort("239.11.3.8:30001"))
		},
		"another group of a range that the running topicast has": func(p *patient) {
			p.published[1].Groups = []string{"239.11.3.7-239.11.3.70:30001"}
			p.comes(device, netip.MustParseAddrPort("239.11.3.40:30001"))
		},
		"another group of the rule, and no topicast that can be asked": func(p *patient) {
			p.h.Daemon = Daemon{Off: true}
			p.Hears = func(to netip.AddrPort) bool { return to.Port() == 30001 }
			p.comes(device, netip.MustParseAddrPort("239.11.3.40:30001"))
		},
		"multicast DNS":                 func(p *patient) { p.comes(device, netip.MustParseAddrPort("239.11.3.7:5353")) },
		"retained once, and sent since": func(p *patient) { p.published[1].Filtered = map[string]uint64{"when": 1}; p.published[1].Published = 9 },
		"a loss of yesterday": func(p *patient) {
			p.published[1].Drops = map[string]uint64{"queue_full": 1}
			p.published[1].LastDrop = now.Add(-time.Hour)
		},
		"a bridge that floods":                              func(p *patient) { p.Live.Bridge = &multicast.Bridge{Snooping: true} },
		"IGMPv2 by force, and no sources":                   func(p *patient) { p.sysctl["ipv4/conf/all/force_igmp_version"] = 2 },
		"a firewall that cannot be read, and nothing comes": func(p *patient) { p.h.Rules = dropping("input", `{"xt":{"type":"match","name":"u32"}},`) },
	} {
		p := newPatient(false)
		change(p)
		if got := p.causes(); len(got) > 0 {
			t.Errorf("%s: found %q", name, got)
		}
	}
}

func TestWhatCannotBeSeenIsSaid(t *testing.T) {
	p := newPatient(false)
	if r := Examine(p.h, []*Subject{p.Subject}); !slices.Contains(r.Healthy, "firewall") {
		t.Errorf("a firewall that was read is not among what is healthy: %q", r.Healthy)
	}
	p.Live.Wire, p.Live.NoTap, p.h.Rules, p.h.NoRules = nil, "it needs CAP_NET_RAW", nil, "the rules of the firewall: not root"
	p.h.After["Udp.IgnoredMulti"] = 3
	r := Examine(p.h, []*Subject{p.Subject})
	if slices.Contains(r.Healthy, "firewall") || slices.Contains(r.Healthy, "wire") {
		t.Errorf("what was not seen is said to be healthy: %q", r.Healthy)
	}
	for _, want := range []string{"the rules of the firewall: not root", "what is on the wire of iso0: it needs CAP_NET_RAW: run this as root",
		"which groups and ports 3 datagrams were for", "whether a switch keeps groups from iso0"} {
		if !slices.ContainsFunc(r.Unseen, func(u string) bool { return strings.Contains(u, want) }) {
			t.Errorf("%q is not said: %q", want, r.Unseen)
		}
	}
	p = newPatient(true)
	r = Examine(p.h, []*Subject{p.Subject})
	for _, want := range []string{"whether anybody on iso0 has joined 239.11.3.7: no querier of IGMP has asked on iso0 within 1s", "a ttl of 1 does not cross"} {
		if !slices.ContainsFunc(r.Unseen, func(u string) bool { return strings.Contains(u, want) }) {
			t.Errorf("%q is not said: %q", want, r.Unseen)
		}
	}
	p.h.Legacy, p.sent[1].Filter = true, "lamp/{id}/set"
	r = Examine(p.h, []*Subject{p.Subject})
	for _, want := range []string{"the rules of iptables-legacy", "whether anything is published on lamp/+/set: "} {
		if !slices.ContainsFunc(r.Unseen, func(u string) bool { return strings.Contains(u, want) }) {
			t.Errorf("%q is not said: %q", want, r.Unseen)
		}
	}
	if slices.Contains(r.Healthy, "firewall") || slices.Contains(r.Healthy, "NAT") { // rules of iptables-legacy are not seen
		t.Errorf("healthy: %q", r.Healthy)
	}
	p.reports(device, frame.Packet{Members: []frame.Member{{Group: to.Addr()}}}, now)
	r = Examine(p.h, []*Subject{p.Subject})
	if !slices.Contains(r.Seen, "172.17.0.50 on iso0 has joined 239.11.3.7") {
		t.Errorf("who listens is not said: %q", r.Seen)
	}
	// Of a rule with many groups those that somebody has joined; and what the running bridge knows.
	p.Exact, p.Groups = false, netip.MustParsePrefix("239.11.3.0/24")
	r = Examine(p.h, []*Subject{p.Subject})
	if !slices.Contains(r.Seen, "172.17.0.50 on iso0 has joined 239.11.3.7") {
		t.Errorf("who listens is not said of one of many groups: %q", r.Seen)
	}
	p.Live.Wire = newWire(now)
	p.sent[1].Members = []members.Answer{{Group: "239.11.3.9", Interface: "iso0", State: members.Some, Ports: []string{"veth1"}}}
	r = Examine(p.h, []*Subject{p.Subject})
	if !slices.Contains(r.Seen, "somebody behind veth1 on iso0 has joined 239.11.3.9") {
		t.Errorf("what the bridge knows is not said: %q", r.Seen)
	}
}

func TestACauseThatExplainsAnotherStandsForIt(t *testing.T) {
	got := arrange([]Finding{
		{Cause: Pending, Of: []string{"a"}}, {Cause: Degraded, Of: []string{"a"}}, {Cause: NoCarrier, Of: []string{"a"}}, {Cause: InterfaceDown, Of: []string{"a"}},
		{Cause: NoCarrier, Of: []string{"b"}, Text: "b"}, {Cause: NAT, Of: []string{"c"}, send: true}, {Cause: Condition, Of: []string{"c"}, send: true},
		{Cause: NoCarrier, Of: []string{"d"}, Text: "b"},
	})
	var words []string
	for _, f := range got {
		words = append(words, string(f.Cause)+" "+strings.Join(f.Of, "+"))
	}
	want := []string{"when c", "nat c", "interface_down a", "no_carrier b+d"}
	if !slices.Equal(words, want) {
		t.Errorf("%q, want %q", words, want)
	}
}

func TestSendersThatAreToldApartAreBounded(t *testing.T) {
	p := newPatient(false)
	for i := range 3 * mostSenders {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		p.Live.hear(a)
		p.comes(a, to)
	}
	if len(p.Live.Heard) != mostSenders || len(p.senders()) != mostSenders {
		t.Errorf("%d heard, %d senders", len(p.Live.Heard), len(p.senders()))
	}
}

// A cause that is in neither path would be told before all others.
func TestEveryCauseHasItsPlaceInThePath(t *testing.T) {
	for by, others := range explains {
		for _, c := range append(others, by) {
			if !slices.Contains(Causes(), c) {
				t.Errorf("%s is in no path", c)
			}
		}
	}
	for r := range filters {
		if !r.Filtered() {
			t.Errorf("%s is lost, not filtered", r)
		}
	}
	for _, r := range account.Reasons() {
		if _, known := filters[r]; r.Filtered() && !known && r != account.ReasonUnasked && r != account.ReasonDisabled { // of which the state of the rule tells
			t.Errorf("nothing is said of %s", r)
		}
	}
}

func TestTenThousandRulesAreHeldAgainstEverythingInOneLook(t *testing.T) {
	p := newPatient(true)
	p.On.Up = false
	var subjects []*Subject
	for i := range 10_000 {
		s := *p.Subject
		s.Name = fmt.Sprint("r", i)
		s.Of = "rule " + s.Name
		s.Live.Looked = false
		subjects = append(subjects, &s)
		for _, d := range []*bridge.Status{p.h.Daemon.Before, p.h.Daemon.After} {
			d.Rules = append(d.Rules, send.Status{Name: s.Name, State: account.StatePending, Reason: "interface iso0 is down"})
		}
	}
	r := Examine(p.h, subjects)
	if len(r.Findings) != 1 || r.Findings[0].Cause != InterfaceDown || len(r.Findings[0].Of) != 10_000 {
		t.Errorf("%d findings", len(r.Findings))
	}
}

func TestACommandForAGroupCanBePasted(t *testing.T) {
	const fix = "topicast explain TOPIC|GROUP:PORT --payload DATA"
	if got := newPatient(false).finding(Condition, fix, "").Fix; got != "topicast explain 239.11.3.7:30001 --payload DATA" {
		t.Error(got)
	}
	if got := newPatient(true).finding(Condition, fix, "").Fix; got != fix {
		t.Error(got)
	}
}
