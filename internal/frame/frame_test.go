package frame

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func TestADatagramIsReadThroughEachLinkAndTag(t *testing.T) {
	four, six := ip4(protoUDP, 1, 0, udp("hello")), ip6(protoUDP, udp("hello"))
	mac := make([]byte, 12)
	for name, c := range map[string]struct {
		link  LinkType
		bytes []byte
	}{
		"Ethernet":             {LinkEthernet, slices.Concat(mac, []byte{8, 0}, four)},
		"Ethernet, IPv6":       {LinkEthernet, slices.Concat(mac, []byte{0x86, 0xdd}, six)},
		"with padding":         {LinkEthernet, slices.Concat(mac, []byte{8, 0}, four, make([]byte, 18))},
		"802.1Q":               {LinkEthernet, slices.Concat(mac, []byte{0x81, 0, 0, 7, 8, 0}, four)},
		"802.1ad":              {LinkEthernet, slices.Concat(mac, []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0}, four)},
		"Linux cooked":         {LinkLinuxSLL, slices.Concat(make([]byte, 14), []byte{8, 0}, four)},
		"Linux cooked, tagged": {LinkLinuxSLL, slices.Concat(make([]byte, 14), []byte{0x81, 0, 0, 7, 8, 0}, four)},
		"Linux cooked 2":       {LinkLinuxSLL2, slices.Concat([]byte{0x86, 0xdd}, make([]byte, 18), six)},
		"raw":                  {LinkRaw, four},
		"raw, IPv6":            {LinkIPv6, six},
		"loopback":             {LinkNull, slices.Concat([]byte{2, 0, 0, 0}, four)},
		"OpenBSD's loopback":   {LinkLoop, slices.Concat([]byte{0, 0, 0, 24}, six)},
	} {
		packet, ok := c.link.Inner(c.bytes)
		if !ok || !c.link.Known() {
			t.Errorf("%s: no packet of IP", name)
			continue
		}
		var r Reader
		p := r.Read(packet, noon)
		want := "192.0.2.1:4000 239.1.2.3:5000 3"
		if strings.HasSuffix(name, "IPv6") || c.link == LinkLinuxSLL2 || c.link == LinkLoop {
			want = "[fe80::1]:4000 [ff15::7]:5000 5"
		}
		if got := fmt.Sprint(p.Source, p.To, p.TTL); p.Kind != Datagram || got != want || string(p.Payload) != "hello" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if _, ok := LinkEthernet.Inner(slices.Concat(mac, []byte{8, 6}, four)); ok {
		t.Error("ARP is no IP")
	}
	if LinkType(105).Known() {
		t.Error("802.11 is not known")
	}
}

func TestExtensionHeadersOfIPv6AreReadPast(t *testing.T) {
	body := slices.Concat([]byte{protoOptions, 0, 1, 4, 0, 0, 0, 0}, []byte{protoUDP, 1}, make([]byte, 14), udp("hello"))
	var r Reader
	if p := r.Read(ip6(protoHopByHop, body), noon); p.Kind != Datagram || string(p.Payload) != "hello" {
		t.Errorf("%+v", p)
	}
	if p := r.Read(ip6(protoHopByHop, []byte{protoUDP, 9, 0, 0, 0, 0, 0, 0}), noon); p.Kind != Malformed {
		t.Errorf("a header longer than the packet: %+v", p)
	}
	if p := r.Read(fragment6(1, udp("hello, hello"), 0, 8), noon); p.Kind != Fragment {
		t.Errorf("a first fragment: %+v", p)
	}
	if p := r.Read(ip6(protoFragment, slices.Concat([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 1}, udp("hello"))), noon); p.Kind != Datagram || r.Incomplete() != 1 {
		t.Errorf("a fragment that is all of it, of the number of another: %+v, %d", p, r.Incomplete())
	}
}

func TestWhatIsNoWholeDatagramIsToldApart(t *testing.T) {
	whole := ip4(protoUDP, 1, 0, udp("hello"))
	longer := ip4(protoUDP, 1, 0, udp("hello"))
	longer[25] = 200 // UDP's length
	short := ip4(protoUDP, 1, 0, udp("hello"))
	short[0] = 0x44
	for name, c := range map[string]struct {
		packet []byte
		want   Kind
	}{
		"nothing":                   {nil, Cut},
		"half a header":             {whole[:10], Cut},
		"cut in the payload":        {whole[:len(whole)-1], Cut},
		"IPv6, cut":                 {ip6(protoUDP, udp("hello"))[:50], Cut},
		"IPv6, half a header":       {ip6(protoUDP, udp("hello"))[:30], Cut},
		"TCP":                       {ip4(6, 1, 0, udp("hello")), Other},
		"TCP, cut":                  {ip4(6, 1, 0, udp("hello"))[:25], Other},
		"ICMPv6, an echo":           {ip6(protoICMPv6, []byte{128, 0, 0, 0, 0, 0, 0, 0}), Other},
		"version 5":                 {append([]byte{0x55}, whole[1:]...), Other},
		"a length of UDP too large": {longer, Malformed},
		"a header of 16 bytes":      {short, Malformed},
		"UDP of seven bytes":        {ip4(protoUDP, 1, 0, make([]byte, 7)), Malformed},
	} {
		var r Reader
		if p := r.Read(c.packet, noon); p.Kind != c.want {
			t.Errorf("%s: kind %d, want %d", name, p.Kind, c.want)
		}
	}
}

func TestFragmentsArePutTogetherInWhicheverOrder(t *testing.T) {
	payload := strings.Repeat("0123456789", 400)
	packets := fragments4(7, udp(payload), 1480)
	body := udp(payload)
	packets6 := [][]byte{fragment6(9, body, 0, 1448), fragment6(9, body, 1448, 2896), fragment6(9, body, 2896, len(body))}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 0, 2, 1}, {2, 0, 2, 1}} {
		for family, list := range [][][]byte{packets, packets6} {
			var r Reader
			var got []Packet
			for _, i := range order {
				if p := r.Read(list[i], noon); p.Kind == Datagram {
					got = append(got, p)
				} else if p.Kind != Fragment {
					t.Fatalf("%v: %+v", order, p)
				}
			}
			if len(got) != 1 || string(got[0].Payload) != payload || got[0].To.Port() != 5000 || r.Incomplete() != 0 {
				t.Errorf("family %d, %v: %d datagrams, %d incomplete", family, order, len(got), r.Incomplete())
			}
		}
	}
}

func TestFragmentsThatContradictEachOtherOrDoNotComeAreCounted(t *testing.T) {
	body := udp(strings.Repeat("x", 3000))
	parts := fragments4(7, body, 1480)
	overlap := ip4(protoUDP, 7, 0x2000|100, body[800:1600])
	odd := ip4(protoUDP, 7, 0x2000, body[:1479])
	beyond := ip4(protoUDP, 7, 0x1fff, body[:100])
	second := ip4(protoUDP, 7, 400, body[:8]) // another last one
	for name, packets := range map[string][][]byte{
		"one missing":         parts[:2],
		"overlapping":         {parts[0], overlap},
		"of odd length":       {odd},
		"beyond 64 KiB":       {beyond},
		"two ends":            {parts[2], second},
		"behind the end":      {second, ip4(protoUDP, 7, 0x2000|500, body[:8])},
		"an end that is less": {ip4(protoUDP, 7, 0x2000|500, body[:8]), second},
	} {
		var r Reader
		for _, b := range packets {
			if p := r.Read(b, noon); p.Kind != Fragment {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if given, waiting := r.parts.lost, len(r.parts.pending); r.Incomplete() != 1 || (waiting == 1) != (name == "one missing") {
			t.Errorf("%s: %d given up, %d waited for", name, given, waiting)
		}
	}
	var r Reader // the rest comes too late: it is of another datagram
	r.Read(parts[0], noon)
	r.Read(parts[1], noon)
	if p := r.Read(parts[2], noon.Add(fragmentPatience+time.Second)); p.Kind != Fragment || r.Incomplete() != 2 {
		t.Errorf("%+v, %d incomplete", p, r.Incomplete())
	}
}

func TestFragmentsThatAreWaitedForAreBounded(t *testing.T) {
	var r Reader
	body := udp(strings.Repeat("x", 3000))
	const many = 1000
	for id := range uint16(many) {
		r.Read(fragments4(id, body, 1480)[0], noon.Add(time.Duration(id)*time.Millisecond))
	}
	if n := len(r.parts.pending); n != maxPending || r.Incomplete() != many {
		t.Errorf("%d are waited for, %d are incomplete", n, r.Incomplete())
	}
	last := fragments4(many-1, body, 1480)
	r.Read(last[1], noon.Add(time.Second))
	if p := r.Read(last[2], noon.Add(time.Second)); p.Kind != Datagram {
		t.Errorf("the newest was given up: %+v", p)
	}
	r = Reader{}
	for at := uint16(0); at < 2*maxParts; at++ {
		r.Read(ip4(protoUDP, 1, 0x2000|2*at, make([]byte, 8)), noon)
	}
	for _, p := range r.parts.pending {
		if len(p.parts) > maxParts {
			t.Errorf("%d fragments are kept", len(p.parts))
		}
	}
}

func TestMembershipReportsAreRead(t *testing.T) {
	g, s := netip.MustParseAddr("239.7.7.7"), netip.MustParseAddr("192.0.2.9")
	g6 := netip.MustParseAddr("ff15::99")
	record := func(kind byte, sources ...netip.Addr) []byte {
		b := slices.Concat([]byte{kind, 0, 0, byte(len(sources))}, g.AsSlice())
		for _, s := range sources {
			b = append(b, s.AsSlice()...)
		}
		return b
	}
	report := func(records ...[]byte) []byte {
		return ip4(protoIGMP, 1, 0, append([]byte{0x22, 0, 0, 0, 0, 0, 0, byte(len(records))}, slices.Concat(records...)...))
	}
	for name, c := range map[string]struct {
		packet []byte
		want   []Member
	}{
		"version 1":                       {ip4(protoIGMP, 1, 0, append([]byte{0x12, 0, 0, 0}, g.AsSlice()...)), []Member{{Group: g}}},
		"version 2":                       {ip4(protoIGMP, 1, 0, append([]byte{0x16, 0, 0, 0}, g.AsSlice()...)), []Member{{Group: g}}},
		"version 2, leave":                {ip4(protoIGMP, 1, 0, append([]byte{0x17, 0, 0, 0}, g.AsSlice()...)), []Member{{Group: g, Leaving: true}}},
		"a query":                         {ip4(protoIGMP, 1, 0, append([]byte{0x11, 0, 0, 0}, g.AsSlice()...)), nil},
		"a report of a host":              {ip4(protoIGMP, 1, 0, append([]byte{0x16, 0, 0, 0}, s.AsSlice()...)), nil},
		"version 3, from anybody":         {report(record(4)), []Member{{Group: g}}},
		"version 3, from one":             {report(record(1, s)), []Member{{Group: g, Sources: []netip.Addr{s}}}},
		"version 3, from one more":        {report(record(5, s)), []Member{{Group: g, Sources: []netip.Addr{s}}}},
		"version 3, leave":                {report(record(3)), []Member{{Group: g, Leaving: true}}},
		"version 3, no longer from one":   {report(record(6, s)), nil},
		"version 3, two groups":           {report(record(6, s), record(2)), []Member{{Group: g}}},
		"version 3, more than there are":  {ip4(protoIGMP, 1, 0, append([]byte{0x22, 0, 0, 0, 0, 0, 0xff, 0xff}, record(4)...)), []Member{{Group: g}}},
		"version 3, sources that are not": {ip4(protoIGMP, 1, 0, append([]byte{0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 9}, g.AsSlice()...)), nil},
		"MLD 1":                           {ip6(protoICMPv6, slices.Concat([]byte{131, 0, 0, 0, 0, 0, 0, 0}, g6.AsSlice())), []Member{{Group: g6}}},
		"MLD 2": {ip6(protoHopByHop, slices.Concat([]byte{protoICMPv6, 0, 5, 2, 0, 0, 0, 0}, []byte{143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0}, g6.AsSlice())),
			[]Member{{Group: g6}}},
	} {
		var r Reader
		p := r.Read(c.packet, noon)
		if p.Kind != Membership || !reflect.DeepEqual(p.Members, c.want) {
			t.Errorf("%s: kind %d, %+v", name, p.Kind, p.Members)
		}
	}
}

func TestQueriesAreRead(t *testing.T) {
	g, g6 := netip.MustParseAddr("239.7.7.7"), netip.MustParseAddr("ff15::99")
	igmp := func(code byte, group netip.Addr, more ...byte) []byte {
		return ip4(protoIGMP, 1, 0, slices.Concat([]byte{0x11, code, 0, 0}, group.AsSlice(), more))
	}
	mld := func(code uint16, group netip.Addr, more ...byte) []byte {
		return ip6(protoHopByHop, slices.Concat([]byte{protoICMPv6, 0, 5, 2, 0, 0, 0, 0, 130, 0, 0, 0, byte(code >> 8), byte(code), 0, 0}, group.AsSlice(), more))
	}
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for name, c := range map[string]struct {
		packet []byte
		want   *Query
	}{
		"version 1":                 {igmp(0, any4), &Query{Version: 1, Response: 10 * time.Second}},
		"version 2":                 {igmp(100, any4), &Query{Version: 2, Response: 10 * time.Second}},
		"version 2, of a group":     {igmp(10, g), &Query{Version: 2, Response: time.Second, Group: g}},
		"version 3":                 {igmp(100, any4, 2, 125, 0, 0), &Query{Version: 3, Response: 10 * time.Second, Interval: 125 * time.Second}},
		"version 3, floating point": {igmp(0x8f, any4, 2, 0xff, 0, 0), &Query{Version: 3, Response: 24800 * time.Millisecond, Interval: 31744 * time.Second}},
		"of a host":                 {igmp(100, netip.MustParseAddr("192.0.2.1")), nil},
		"MLD 1":                     {mld(10000, any6), &Query{Version: 1, Response: 10 * time.Second}},
		"MLD 2":                     {mld(10000, any6, 2, 125, 0, 0), &Query{Version: 2, Response: 10 * time.Second, Interval: 125 * time.Second}},
		"MLD 2, floating point":     {mld(0x8001, g6, 2, 125, 0, 0), &Query{Version: 2, Response: 32776 * time.Millisecond, Interval: 125 * time.Second, Group: g6}},
	} {
		var r Reader
		if p := r.Read(c.packet, noon); p.Kind != Membership || len(p.Members) > 0 || !reflect.DeepEqual(p.Query, c.want) {
			t.Errorf("%s: kind %d, %+v, want %+v", name, p.Kind, p.Query, c.want)
		}
	}
}

// FuzzRead holds that no frame is read beyond its end, and that what is read as a datagram
// lies in it.
func FuzzRead(f *testing.F) {
	f.Add(uint32(LinkEthernet), slices.Concat(make([]byte, 12), []byte{8, 0}, ip4(protoUDP, 1, 0, udp("hello"))))
	for _, b := range fragments4(7, udp(strings.Repeat("x", 100)), 48) {
		f.Add(uint32(LinkRaw), b)
	}
	f.Add(uint32(LinkRaw), fragment6(9, udp("hello, hello"), 0, 8))
	f.Add(uint32(LinkRaw), ip4(protoIGMP, 1, 0, []byte{0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3}))
	f.Add(uint32(LinkRaw), ip4(protoIGMP, 1, 0, []byte{0x11, 0xff, 0, 0, 0, 0, 0, 0, 2, 0xff, 0, 0}))
	f.Add(uint32(LinkLinuxSLL2), slices.Concat([]byte{0x86, 0xdd}, make([]byte, 18), ip6(protoUDP, udp("hello"))))
	var r Reader
	f.Fuzz(func(t *testing.T, link uint32, b []byte) {
		packet, ok := LinkType(link).Inner(b[:len(b):len(b)])
		if !ok {
			return
		}
		p := r.Read(packet, noon)
		if p.Kind == Datagram && (len(p.Payload) > 65535 || p.Source.Addr().Is4() != p.To.Addr().Is4()) {
			t.Errorf("%+v", p)
		}
		for _, m := range p.Members {
			if !m.Group.IsMulticast() {
				t.Errorf("%+v", m)
			}
		}
		if q := p.Query; q != nil && (q.Group.IsValid() && !q.Group.IsMulticast() || q.Response < 0 || q.Interval < 0) {
			t.Errorf("%+v", q)
		}
		if len(r.parts.pending) > maxPending {
			t.Errorf("%d are waited for", len(r.parts.pending))
		}
	})
}
