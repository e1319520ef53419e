package members

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/bridge/multicast"
	"topicast/internal/frame"
)

var (
	noon    = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	lamps   = netip.MustParseAddr("239.10.3.7")
	others  = netip.MustParseAddr("239.255.255.250")
	lamps6  = netip.MustParseAddr("ff15::7")
	querier = netip.MustParseAddr("172.17.0.254")
	one     = netip.MustParseAddr("172.17.0.50")
	two     = netip.MustParseAddr("172.17.0.51")
	here    = netip.MustParseAddr("172.17.0.1")
	iso0    = multicast.Interface{Name: "iso0", Index: 2}
)

// wire is a table and what is heard, by seconds since noon.
type wire struct{ *Table }

func at(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

func (w wire) query(s float64, version int, from netip.Addr) {
	w.Hear(frame.Packet{Kind: frame.Membership, Source: netip.AddrPortFrom(from, 0), Query: &frame.Query{Version: version, Response: 10 * time.Second}}, false, at(s))
}

func (w wire) joins(s float64, who netip.Addr, groups ...netip.Addr) {
	w.says(s, who, false, groups...)
}
func (w wire) leaves(s float64, who, group netip.Addr) { w.says(s, who, true, group) }

func (w wire) says(s float64, who netip.Addr, leaving bool, groups ...netip.Addr) {
	p := frame.Packet{Kind: frame.Membership, Source: netip.AddrPortFrom(who, 0)}
	for _, g := range groups {
		p.Members = append(p.Members, frame.Member{Group: g, Leaving: leaving})
	}
	w.Hear(p, who == here, at(s))
}

func TestWhoListensIsKnownAsFarAsItCanBe(t *testing.T) {
	for name, c := range map[string]struct {
		hear  func(w wire)
		after float64 // seconds
		state State
		want  string // in the sentence
	}{
		"nothing at all":                        {func(wire) {}, 5, Unknown, "no querier of IGMP has asked on iso0 within 5s"},
		"one joins, and nobody asks":            {func(w wire) { w.joins(1, one, lamps) }, 4000, Some, "172.17.0.50 on iso0 has joined 239.10.3.7"},
		"two":                                   {func(w wire) { w.joins(1, one, lamps); w.joins(2, two, lamps) }, 5, Some, "172.17.0.50, 172.17.0.51 on iso0 have joined"},
		"one without an address":                {func(w wire) { w.joins(1, netip.IPv4Unspecified(), lamps) }, 5, Some, "a host without an address on iso0 has joined"},
		"one joins and leaves, and nobody asks": {func(w wire) { w.joins(1, one, lamps); w.leaves(2, one, lamps) }, 5, Unknown, "no querier"},
		"the answers may still come":            {func(w wire) { w.query(1, 3, querier); w.joins(2, one, others) }, 5, Unknown, "may still come, until 12:00:12"},
		"others answer": {func(w wire) { w.query(1, 3, querier); w.joins(2, one, others) }, 13, None,
			"nobody on iso0 has joined 239.10.3.7: hosts on iso0 have answered the query of 12:00:01 for other groups"},
		"asked again before the answers are there": {func(w wire) {
			w.query(1, 3, querier)
			w.joins(2, one, others)
			w.query(6, 3, querier)
			w.query(11, 3, querier)
		}, 13, None, "the query of 12:00:01"},
		"nobody answers, as behind a switch that snoops": {func(w wire) { w.query(1, 3, querier) }, 13, Unknown, "a switch with IGMP snooping brings them to the querier alone"},
		"one joined before the switch knew of a querier, and flooded": {func(w wire) {
			w.joins(0.5, one, others)
			w.query(1, 3, querier)
		}, 13, Unknown, "a switch with IGMP snooping brings them to the querier alone"},
		"only this host answers":             {func(w wire) { w.query(1, 3, querier); w.joins(2, here, others) }, 13, Unknown, "this host hears no answer of any other"},
		"this host has joined it, by IGMPv2": {func(w wire) { w.query(1, 2, querier); w.joins(2, one, others); w.joins(3, here, lamps) }, 13, Unknown, "by IGMPv2 others keep silent"},
		"this host has joined it, by IGMPv3": {func(w wire) { w.query(1, 3, querier); w.joins(2, one, others); w.joins(3, here, lamps) }, 13, None, "nobody on iso0"},
		"one of two leaves by IGMPv2, the other was silent": {func(w wire) {
			w.query(1, 2, querier)
			w.joins(2, one, lamps)
			w.joins(2, two, others)
			w.leaves(20, one, lamps)
		}, 25, Unknown, "somebody has left it at 12:00:20"},
		"left, and asked again": {func(w wire) {
			w.query(1, 2, querier)
			w.joins(2, two, others)
			w.leaves(20, one, lamps)
			w.query(126, 2, querier)
			w.joins(127, two, others)
		}, 140, None, "the query of 12:02:06"},
		"one answer is lost": {func(w wire) {
			w.query(1, 3, querier)
			w.joins(2, one, lamps, others)
			w.query(126, 3, querier)
			w.joins(127, two, others)
		}, 140, Some, "172.17.0.50"},
		"gone without a word": {func(w wire) {
			w.query(1, 3, querier)
			w.joins(2, one, lamps)
			for s := 126.0; s < 400; s += 125 {
				w.query(s, 3, querier)
				w.joins(s+1, two, others)
			}
		}, 400, None, "nobody on iso0"},
		"asked about another group alone": {func(w wire) {
			w.Hear(frame.Packet{Kind: frame.Membership, Source: netip.AddrPortFrom(querier, 0), Query: &frame.Query{Version: 3, Response: time.Second, Group: others}}, false, at(1))
			w.joins(1.5, one, others)
		}, 13, Unknown, "no querier of IGMP has asked on iso0"},
		"the querier has gone":                       {func(w wire) { w.query(1, 3, querier); w.joins(2, one, others) }, 600, Unknown, "has not asked for 9m59s"},
		"a bridge without an address has asked once": {func(w wire) { w.query(1, 3, netip.IPv4Unspecified()); w.joins(2, one, others) }, 13, None, "nobody on iso0"},
	} {
		w := wire{NewTable(noon)}
		c.hear(w)
		k := Knowledge{On: iso0, Table: w.Table}
		if a := k.Of(lamps, at(c.after)); a.State != c.state || !strings.Contains(a.String(), c.want) {
			t.Errorf("%s: %s: %s\nwant %s: %s", name, a.State, a.String(), c.state, c.want)
		}
	}
}

// The families are apart: a querier of IGMP says nothing of MLD.
func TestIPv4SaysNothingOfIPv6(t *testing.T) {
	w := wire{NewTable(noon)}
	w.query(1, 3, querier)
	w.joins(2, one, others)
	k := Knowledge{On: iso0, Table: w.Table}
	if a := k.Of(lamps6, at(20)); a.State != Unknown || !strings.Contains(a.Why, "no querier of MLD") {
		t.Errorf("%+v", a)
	}
	w.query(21, 2, netip.MustParseAddr("fe80::1"))
	w.joins(22, netip.MustParseAddr("fe80::50"), netip.MustParseAddr("ff02::fb"))
	if a := k.Of(lamps6, at(40)); a.State != None {
		t.Errorf("%+v", a)
	}
	if got := w.Queriers(at(40)); !slices.Equal(got, []netip.Addr{querier, netip.MustParseAddr("fe80::1")}) {
		t.Errorf("queriers %v", got)
	}
}

func TestABridgeIsAskedBeforeWhatIsHeard(t *testing.T) {
	w := wire{NewTable(noon)}
	w.joins(1, one, lamps)
	for name, c := range map[string]struct {
		bridge multicast.Bridge
		group  netip.Addr
		state  State
		want   string
	}{
		"it floods":                     {multicast.Bridge{}, lamps, Some, "172.17.0.50"},
		"it knows":                      {multicast.Bridge{Snooping: true, Members: map[netip.Addr][]string{lamps: {"veth1"}}}, lamps, Some, "somebody behind veth1 on iso0 has joined"},
		"it knows of none":              {multicast.Bridge{Snooping: true, Querier4: true}, lamps, None, "bridge mdb show dev iso0 does not have it"},
		"it knows of this host alone":   {multicast.Bridge{Snooping: true, Querier4: true, Own: map[netip.Addr]bool{lamps: true}}, lamps, None, "nobody"},
		"nobody asks":                   {multicast.Bridge{Snooping: true}, lamps, Unknown, "nobody asks for reports"},
		"a querier of the other family": {multicast.Bridge{Snooping: true, Querier6: true}, lamps, Unknown, "nobody asks for reports"},
		"a router behind a port":        {multicast.Bridge{Snooping: true, Querier4: true, Routers: []string{"eth0"}}, lamps, Unknown, "behind eth0 of the bridge iso0 is a router"},
		"a group of the link":           {multicast.Bridge{Snooping: true, Querier4: true}, netip.MustParseAddr("224.0.0.251"), Unknown, "a group of the link"},
	} {
		k := Knowledge{On: iso0, Table: w.Table, Bridge: &c.bridge}
		if a := k.Of(c.group, at(5)); a.State != c.state || !strings.Contains(a.String(), c.want) {
			t.Errorf("%s: %s: %s", name, a.State, a.String())
		}
	}
	k := Knowledge{On: iso0, NoEars: "it needs CAP_NET_RAW"}
	if a := k.Of(lamps, at(5)); a.State != Unknown || a.Why != "it needs CAP_NET_RAW" {
		t.Errorf("%+v", a)
	}
}

// Whoever reports many groups, from many addresses, takes no more than this.
func TestWhatIsRememberedOfMembersIsBounded(t *testing.T) {
	w := wire{NewTable(noon)}
	w.query(1, 3, querier)
	for i := range 3 * mostGroups {
		w.joins(2, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{239, 1, byte(i >> 8), byte(i)}), netip.MustParseAddr("239.1.0.0"))
		w.query(3, 3, netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}))
	}
	f := &w.families[0]
	if len(f.groups) != mostGroups || len(f.groups[netip.MustParseAddr("239.1.0.0")].hosts) != mostHosts || len(f.queriers) != mostQueriers {
		t.Errorf("%d groups, %d hosts, %d queriers", len(f.groups), len(f.groups[netip.MustParseAddr("239.1.0.0")].hosts), len(f.queriers))
	}
	k := Knowledge{On: iso0, Table: w.Table}
	if a := k.Of(netip.MustParseAddr("239.1.0.0"), at(20)); a.State != Some || !a.More || !strings.HasSuffix(a.String(), " and others on iso0 have joined 239.1.0.0") {
		t.Errorf("%+v", a)
	}
	if a := k.Of(netip.MustParseAddr("239.9.9.9"), at(20)); a.State != Unknown || !strings.Contains(a.Why, fmt.Sprint("more than ", mostGroups)) {
		t.Errorf("of a group that there was no room for: %+v", a)
	}
	for s := 126.0; s < 600; s += 125 { // those have gone: there is room again
		w.query(s, 3, querier)
		w.joins(s+1, one, others)
	}
	w.joins(600, two, lamps)
	if a := k.Of(lamps, at(601)); a.State != Some {
		t.Errorf("%+v", a)
	}
	if a := k.Of(netip.MustParseAddr("239.9.9.9"), at(601)); a.State != None {
		t.Errorf("of one that would have reported since: %+v", a)
	}
	w.query(602, 3, querier)
	if got := w.Queriers(at(603)); !slices.Contains(got, querier) {
		t.Errorf("queriers that were there once keep the place: %v", got)
	}
}

// flood is a report of groups that nobody has named before.
func (w wire) flood(s float64, from, n int) {
	var groups []netip.Addr
	for i := from; i < from+n; i++ {
		groups = append(groups, netip.AddrFrom4([4]byte{239, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	w.joins(s, one, groups...)
}

// To look for groups that may be forgotten takes a while, and is not done for each report.
func TestAFloodOfReportsDoesNotHaveGroupsSearchedForEach(t *testing.T) {
	w := wire{NewTable(noon)}
	w.query(1, 3, querier)
	w.flood(2, 0, mostGroups)
	f := &w.families[0]
	for i := range 9 {
		w.flood(3+float64(i)/10, (2+i)*mostGroups, mostGroups)
		if f.swept != at(3) {
			t.Fatalf("searched again at %v", f.swept)
		}
	}
	w.flood(4, mostGroups, 1)
	if f.swept != at(4) {
		t.Errorf("not searched again, but at %v", f.swept)
	}
}

func BenchmarkAReportOfManyNewGroups(b *testing.B) {
	w := wire{NewTable(noon)}
	for i := 0; b.Loop(); i++ {
		w.flood(2, i*180, 180)
	}
}

// Anybody can send a query. One that is odd counts no longer than until the querier asks again.
func TestAForgedQueryIsForgotten(t *testing.T) {
	for name, forged := range map[string]frame.Query{
		"to be answered within an hour":   {Version: 3, Response: 3174 * time.Second},
		"the next one in nine hours":      {Version: 3, Response: time.Second, Interval: 31744 * time.Second},
		"the next one in a second":        {Version: 3, Response: time.Second, Interval: time.Second},
		"of IGMPv1":                       {Version: 1, Response: 10 * time.Second},
		"of IGMPv2, answered immediately": {Version: 2},
	} {
		w := wire{NewTable(noon)}
		w.joins(0, one, lamps)
		w.joins(0, here, lamps)
		w.Hear(frame.Packet{Kind: frame.Membership, Source: netip.AddrPortFrom(two, 0), Query: &forged}, false, at(1))
		for s := 20.0; s < 600; s += 125 {
			w.query(s, 3, querier)
			w.joins(s+1, two, others)
		}
		k := Knowledge{On: iso0, Table: w.Table}
		if a := k.Of(lamps, at(600)); a.State != None {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// Of a rule with many groups those are told that somebody has joined, and else why it is not known of them.
func TestOfManyGroupsThoseThatAreJoinedAreTold(t *testing.T) {
	k := Knowledge{On: iso0, Table: NewTable(noon)}
	floor := netip.MustParsePrefix("239.10.3.0/24")
	if got := k.Within(floor, 2, at(5)); len(got) != 1 || got[0].State != Unknown || got[0].Group != "239.10.3.0/24" {
		t.Errorf("%+v", got)
	}
	w := wire{k.Table}
	w.joins(1, one, lamps, others)
	for i := range byte(5) {
		w.joins(2, two, netip.AddrFrom4([4]byte{239, 10, 3, 9 - i}))
	}
	var words []string
	for _, a := range k.Within(floor, 4, at(5)) {
		words = append(words, a.String())
	}
	want := []string{"172.17.0.51 on iso0 has joined 239.10.3.5", "172.17.0.51 on iso0 has joined 239.10.3.6", "172.17.0.50, 172.17.0.51 on iso0 have joined 239.10.3.7", "172.17.0.51 on iso0 has joined 239.10.3.8"}
	if !slices.Equal(words, want) {
		t.Errorf("%q", words)
	}
	w.query(10, 2, querier)
	w.joins(11, one, others)
	w.leaves(30, two, netip.MustParseAddr("239.10.4.9"))
	if got := k.Within(netip.MustParsePrefix("239.10.4.0/24"), 4, at(31)); len(got) != 1 || got[0].State != Unknown || !strings.Contains(got[0].String(), "has joined 239.10.4.0/24: somebody has left it") {
		t.Errorf("%+v", got)
	}
	if got := k.Within(netip.MustParsePrefix("239.10.5.0/24"), 4, at(31)); len(got) != 1 || got[0].String() != "nobody on iso0 has joined 239.10.5.0/24: hosts on iso0 have answered the query of 12:00:10 for other groups, and nobody for this one" {
		t.Errorf("%+v", got)
	}
	k.Bridge = &multicast.Bridge{Snooping: true, Querier4: true, Members: map[netip.Addr][]string{lamps: {"veth1"}, others: {"veth1"}}}
	if got := k.Within(floor, 4, at(5)); len(got) != 1 || got[0].String() != "somebody behind veth1 on iso0 has joined 239.10.3.7" {
		t.Errorf("%+v", got)
	}
	if got := k.Within(netip.PrefixFrom(lamps, 32), 4, at(5)); len(got) != 1 || got[0].State != Some {
		t.Errorf("%+v", got)
	}
}
