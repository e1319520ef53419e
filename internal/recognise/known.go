package recognise

import "net/netip"

// Place is a group and port, or a port alone, that a protocol has for its own.
type Place struct {
	Protocol Protocol
	Group    netip.AddrPort // with an unspecified address: any group or host at the port
	Last     netip.AddrPort // the last group of a range; not valid: it is one
}

func group(p Protocol, g string) Place { return Place{Protocol: p, Group: netip.MustParseAddrPort(g)} }

func port(p Protocol, n uint16) Place {
	return Place{Protocol: p, Group: netip.AddrPortFrom(netip.IPv4Unspecified(), n)}
}

// places are where protocols are at home: as IANA or their makers have assigned them.
var places = []Place{
	// E1.31, 9.3.1: 239.255, and the universe; the first are those that are in use, where any are.
	{SACN, netip.MustParseAddrPort("239.255.0.1:5568"), netip.MustParseAddrPort("239.255.0.16:5568")},
	group(SACN, "239.255.250.214:5568"), // universe 64214: which universes there are
	port(ArtNet, 6454),
	group(KNX, "224.0.23.12:3671"),
	group(SSDP, "239.255.255.250:1900"), group(SSDP, "[ff02::c]:1900"), group(SSDP, "[ff05::c]:1900"),
	group(MDNS, "224.0.0.251:5353"), group(MDNS, "[ff02::fb]:5353"),
	group(LLMNR, "224.0.0.252:5355"), group(LLMNR, "[ff02::1:3]:5355"),
	group(WSDiscovery, "239.255.255.250:3702"), group(WSDiscovery, "[ff02::c]:3702"),
	group(CoIoT, "224.0.1.187:5683"),
	group(CoAP, "224.0.1.187:5683"), group(CoAP, "[ff02::fd]:5683"), group(CoAP, "[ff05::fd]:5683"),
	group(Speedwire, "239.12.255.254:9522"), group(Speedwire, "239.12.255.253:9522"),
	group(CoT, "239.2.3.1:6969"), group(CoT, "224.10.10.1:17012"), // positions; chat
	port(NMEA0183, 10110),
	{IEC61162, netip.MustParseAddrPort("239.192.0.1:60001"), netip.MustParseAddrPort("239.192.0.16:60016")}, // IEC 61162-450, 6.2: group n has port 60000+n
	group(PTP, "224.0.1.129:319"), group(PTP, "224.0.1.129:320"), group(PTP, "224.0.0.107:319"), group(PTP, "224.0.0.107:320"),
	group(PTP, "[ff0e::181]:319"), group(PTP, "[ff0e::181]:320"),
	group(SAP, "224.2.127.254:9875"), group(SAP, "239.255.255.255:9875"), group(SAP, "239.195.255.255:9875"),
	port(RTP, 5004), // RFC 3551, 8
	port(Syslog, 514),
	group(Ganglia, "239.2.11.71:8649"),
}

// WellKnown returns the groups that protocols have for their own, each once, in an order
// that does not change. Listening to them finds what is there without the right to see all.
func WellKnown() (groups []netip.AddrPort) {
	seen := make(map[netip.AddrPort]bool)
	for _, p := range places {
		if !p.Group.Addr().IsMulticast() {
			continue
		}
		for g := p.Group; ; {
			if !seen[g] {
				seen[g] = true
				groups = append(groups, g)
			}
			if !p.Last.IsValid() || g.Addr() == p.Last.Addr() {
				break
			}
			next := g.Port()
			if p.Last.Port() != p.Group.Port() {
				next++
			}
			g = netip.AddrPortFrom(g.Addr().Next(), next)
		}
	}
	return groups
}

// AtHome reports whether a group and port, or a port alone, is the protocol's own.
func AtHome(p Protocol, to netip.AddrPort) bool {
	for _, is := range places {
		if is.Protocol != p || is.Group.Port() > to.Port() {
			continue
		}
		switch {
		case is.Group.Addr().IsUnspecified():
			if is.Group.Port() == to.Port() {
				return true
			}
		case is.Last.IsValid():
			if to.Port() <= is.Last.Port() && is.Group.Addr().Compare(to.Addr()) <= 0 && to.Addr().Compare(is.Last.Addr()) <= 0 {
				return true
			}
		case is.Group == to, is.Group.Port() == to.Port() && !to.Addr().IsMulticast():
			return true
		}
	}
	// All of 239.255/16 at the port of sACN, with the universe as its address.
	a := to.Addr()
	return p == SACN && to.Port() == 5568 && a.Is4() && a.As4()[0] == 239 && a.As4()[1] == 255
}
