package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// The checks of what the kernel of this host does to a datagram.

// checkForged looks for senders with an address of this host: what comes of such from outside the
// kernel takes for forged (fib_validate_source).
func checkForged(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || !s.group() || s.Live.Wire == nil || s.On.Loopback || s.To.Addr().Is6() {
		return nil, false
	}
	for _, from := range s.senders() {
		on := h.own(from)
		if on == "" || s.Live.Heard == nil || s.Live.Heard[from] > 0 || s.cameFrom(from) == 0 {
			continue
		}
		return one(s.finding(OwnAddress, fmt.Sprintf("give one of the two another address: ip addr show dev %s, and the settings of the device", on),
			fmt.Sprintf("what comes for %s by %s is from %s, an address that this host has too, on %s: the kernel takes it for forged, and drops it", s.To, s.On.Name, from, on),
			fmt.Sprintf("%s from %s came in by %s within %v, and none reached a socket", plural(s.cameFrom(from), "datagram"), from, s.On.Name, h.Window),
			"with net.ipv4.conf.all.log_martians=1 dmesg has them as martian source")), true
	}
	return nil, true
}

// cameFrom is how many datagrams for the subject came in from a sender.
func (s *Subject) cameFrom(from netip.Addr) (n int) {
	for f, m := range s.Live.Wire.Flows {
		if !f.Sent && f.To == s.To && f.From.Addr() == from {
			n += m
		}
	}
	return n
}

// query is a membership query as it comes in, report a membership report as it leaves.
func query(s *Subject) Packet {
	if s.To.Addr().Is6() {
		return Packet{IPv6: true, Protocol: "icmpv6", Type: "mld-listener-query", To: netip.MustParseAddr("ff02::1"), In: s.On.Name}
	}
	return Packet{Protocol: "igmp", To: netip.MustParseAddr("224.0.0.1"), In: s.On.Name}
}

func report(s *Subject) Packet {
	if s.To.Addr().Is6() {
		return Packet{IPv6: true, Protocol: "icmpv6", Type: "mld2-listener-report", To: netip.MustParseAddr("ff02::16"), Out: s.On.Name}
	}
	return Packet{Protocol: "igmp", To: netip.MustParseAddr("224.0.0.22"), Out: s.On.Name}
}

func checkIGMP(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || !s.group() || s.On.Index == 0 || h.Rules == nil || s.On.Loopback || s.To.Addr().IsLinkLocalMulticast() {
		return nil, false
	}
	what := "IGMP"
	if s.To.Addr().Is6() {
		what = "MLD"
	}
	var fixes, evidence []string
	understood := true
	for _, way := range []struct {
		p     Packet
		hooks []string
		text  string
	}{
		{report(s), leaving, "reports do not leave"},
		{query(s), arriving, "queries do not come in, so that memberships are not renewed"},
	} {
		v, stopped := h.Rules.Stops(way.p, way.hooks...)
		understood = understood && !v.Unknown
		if stopped && !v.Unknown {
			fixes = append(fixes, v.Insertion(way.p))
			evidence = append(evidence, way.text+": "+v.String())
		}
	}
	if len(fixes) == 0 || s.proven() {
		return nil, len(fixes) == 0 && understood
	}
	return one(s.finding(IGMPFiltered, strings.Join(fixes, "; "),
		fmt.Sprintf("the firewall of this host drops %s on %s: switches and routers do not learn, or forget, that %s is listened to", what, s.On.Name, s.To.Addr()), evidence...)), true
}

func checkVersion(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || !s.group() || s.To.Addr().Is6() || s.On.Index == 0 {
		return nil, false
	}
	if len(s.Sources) == 0 && !mapping.SourceSpecific(s.To.Addr()) {
		return nil, true // versions 1 and 2 can ask for a group
	}
	for _, on := range []string{"all", s.On.Name} {
		key := "ipv4/conf/" + on + "/force_igmp_version"
		if n, known := h.Sysctl(key); known && (n == 1 || n == 2) && !s.proven() {
			name := "net." + strings.ReplaceAll(key, "/", ".")
			return one(s.finding(IGMPVersion, "sysctl -w "+name+"=0",
				fmt.Sprintf("this host is made to speak IGMPv%d on %s, which cannot ask for the senders that are named: routers deliver nothing of a source-specific group, and of others what all send", n, s.On.Name),
				fmt.Sprintf("%s is %d", name, n))), true
		}
	}
	return nil, true
}

func checkMemberships(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || !s.group() || s.On.Index == 0 || !s.Live.Looked {
		return nil, false
	}
	if !errors.Is(s.Live.Join, syscall.ENOBUFS) {
		return nil, s.Live.Join == nil
	}
	n, _ := h.Sysctl("ipv4/igmp_max_memberships")
	return one(s.finding(Memberships, "sysctl -w net.ipv4.igmp_max_memberships=20", fmt.Sprintf("the kernel refuses to join %s: a socket may join %s", s.To.Addr(), plural(n, "group")),
		s.Live.Join.Error(), fmt.Sprintf("net.ipv4.igmp_max_memberships is %d", n))), true
}

func checkBridge(s *Subject, _ *Snapshot) (found []Finding, looked bool) {
	b := s.Live.Bridge
	if b == nil || !s.group() {
		return nil, false
	}
	if s.To.Addr().IsLinkLocalMulticast() {
		return nil, true // never filtered (RFC 4541, 2.1.2)
	}
	if b.Snooping && !b.Querier(s.To.Addr()) && len(b.NoFlood) > 0 {
		return one(s.finding(Snooping, "ip link set "+s.On.Name+" type bridge mcast_querier 1",
			fmt.Sprintf("the bridge %s snoops on IGMP and nobody asks for reports: it goes by no membership, and what is for groups does not get to %s", s.On.Name, strings.Join(b.NoFlood, ", ")),
			"mcast_snooping 1, mcast_querier 0, and mcast_flood off on "+strings.Join(b.NoFlood, ", "))), true
	}
	return nil, true
}

// checkMembers names that nobody listens, where that is known.
func checkMembers(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if !s.Send || !s.Exact || !s.group() || s.On.Loopback || !s.Live.Looked {
		return nil, false
	}
	switch a := s.members(h)[0]; a.State {
	case members.None:
		fix := "have the devices join " + s.To.Addr().String()
		if s.Live.Bridge != nil {
			fix += "; bridge mdb show dev " + s.On.Name + " lists who has joined what"
		}
		return one(s.finding(NobodyJoined, fix, fmt.Sprintf("nobody on %s has joined %s, so switches and bridges with IGMP snooping bring it to nobody", s.On.Name, s.To.Addr()), a.Why,
			"a device that takes the group in without saying so is not seen")), true
	case members.Some:
		return nil, true
	}
	return nil, false
}

// unknownMembers reports that it cannot be known who has joined the group of a subject.
func unknownMembers(s *Subject, h *Snapshot) bool {
	return s.Send && s.Exact && s.group() && !s.On.Loopback && s.Live.Looked && s.members(h)[0].State == members.Unknown
}

// filtersPath reports whether reverse path filtering drops what a sender sends.
func (s *Subject) filtersPath(h *Snapshot, from netip.Addr) bool {
	mode := s.pathMode(h)
	back, known := s.Live.Back[from.String()]
	return mode > 0 && from.Is4() && (known && (back == "" || mode == 1 && back != s.On.Name) || h.grew("TcpExt.IPReversePathFilter") > 0)
}

// pathMode is what the kernel filters by: of two settings the stricter is not the smaller.
func (s *Subject) pathMode(h *Snapshot) int {
	all, _ := h.Sysctl("ipv4/conf/all/rp_filter")
	own, _ := h.Sysctl("ipv4/conf/" + s.On.Name + "/rp_filter")
	return max(all, own)
}

func checkReversePath(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || s.On.Index == 0 || s.On.Loopback || s.To.Addr().Is6() {
		return nil, false
	}
	mode := s.pathMode(h)
	if mode == 0 || s.proven() {
		return nil, true
	}
	word := map[int]string{1: "strict", 2: "loose"}[mode]
	counter := fmt.Sprintf("net.ipv4.conf.{all,%s}/rp_filter is %d (%s); IPReversePathFilter grew by %d within %v", s.On.Name, mode, word, h.grew("TcpExt.IPReversePathFilter"), h.Window)
	fix := fmt.Sprintf("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.%s.rp_filter=0", s.On.Name)
	came, _ := s.incoming()
	for _, from := range s.senders() {
		if h.own(from) != "" {
			continue // dropped with any setting: checkForged names it
		}
		// One that the rule does not take counts where none comes that it does: it would be next.
		if !s.takes(from) && (came > 0 || s.Live.Heard[from] > 0) || !s.filtersPath(h, from) {
			continue
		}
		back := s.Live.Back[from.String()]
		text := fmt.Sprintf("%s reverse path filtering drops what %s sends: ", word, from)
		if back == "" {
			text += "no route leads back to it"
			fix += fmt.Sprintf("; or a route back: ip route add %s/32 dev %s", from, s.On.Name)
		} else if back != s.On.Name {
			text += fmt.Sprintf("the way back to it is %s, not %s", back, s.On.Name)
			if mode == 1 {
				fix = fmt.Sprintf("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.%s.rp_filter=2", s.On.Name)
			}
		} else {
			continue
		}
		return one(s.finding(RPFilter, fix, text, counter, "ip route get "+from.String())), true
	}
	if h.grew("TcpExt.IPReversePathFilter") > 0 && len(s.senders()) == 0 {
		return one(s.finding(RPFilter, fix, word+" reverse path filtering drops what comes in from senders that this host would not answer by that interface", counter)), true
	}
	return nil, true
}

func checkPort(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || s.On.Index == 0 || !s.Live.Looked {
		return nil, false
	}
	ss := fmt.Sprintf("ss -ulpn sport = :%d, as root, names it", s.To.Port())
	if errors.Is(s.Live.Join, syscall.EADDRINUSE) {
		text, fix := s.Live.Join.Error(), "have it set SO_REUSEADDR before it binds, or stop it"
		if _, rest, is := strings.Cut(text, ": port "); is {
			text, _, _ = strings.Cut("port "+rest, ": have it")
		}
		return one(s.finding(PortTaken, fix, text, "a join of our own was refused (EADDRINUSE); "+ss)), true
	}
	_, after := h.Daemon.receiveStatus(s.Name)
	if !s.To.Addr().IsUnspecified() {
		return nil, s.Live.Join == nil
	}
	for _, text := range multicast.PortSharers(s.To.Port(), s.On) {
		if strings.HasPrefix(text, "topicast (") || strings.HasPrefix(text, "a program ") && after != nil && len(after.Sharers) == 0 && after.Reason == "" {
			continue // the bridge itself
		}
		return one(s.finding(PortTaken, "stop it, or have it use another port", text, ss)), true
	}
	return nil, true
}

func checkBuffer(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || s.On.Index == 0 {
		return nil, false
	}
	lost := h.Drops[s.To.Port()]
	_, after := h.Daemon.receiveStatus(s.Name)
	var counted uint64
	if after != nil && h.lately(after.LastDrop) {
		counted = after.Drops["receive_buffer"]
	}
	if lost == 0 && counted == 0 {
		return nil, true
	}
	fix := "fewer datagrams at once, or more processor for topicast: the buffer is as large as it asks for"
	if n, known := h.Sysctl("core/rmem_max"); known && n < multicast.ReceiveBuffer {
		fix = fmt.Sprintf("sysctl -w net.core.rmem_max=%d, and start topicast again", multicast.ReceiveBuffer)
	}
	n, _ := h.Sysctl("core/rmem_max")
	return one(s.finding(SocketBuffer, fix, "the receive buffer of a socket was full, and what came then is lost",
		fmt.Sprintf("sockets at port %d lost %d within %v (/proc/net/udp); the bridge counted %d (receive_buffer)", s.To.Port(), lost, h.Window, counted),
		fmt.Sprintf("net.core.rmem_max is %d", n))), true
}

func checkFragments(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send {
		_, after := h.Daemon.sendStatus(s.Name)
		if after == nil || !h.lately(after.LastDrop) || after.Drops["oversize"] == 0 {
			return nil, after != nil
		}
		return one(s.finding(MTU, fmt.Sprintf("ip link set %s mtu 9000 where the network takes it, oversize: fragment in the rule, or shorter messages", nameOf(s)),
			fmt.Sprintf("messages are longer than what leaves %s in one piece, or than a datagram: its mtu is %d bytes", nameOf(s), s.On.MTU), after.FirstDrops["oversize"])), true
	}
	if s.On.Index == 0 || s.proven() {
		return nil, s.On.Index != 0
	}
	family := "Ip."
	if s.To.Addr().Is6() {
		return nil, false // of IPv6 the counters are elsewhere, and the wire tells no more
	}
	came, whole, failed := h.grew(family+"ReasmReqds"), h.grew(family+"ReasmOKs"), h.grew(family+"ReasmFails")
	if s.Live.Wire != nil && s.Live.Wire.Fragments[s.To.Addr()] == 0 || (came == 0 || whole > 0) && failed == 0 {
		return nil, true
	}
	return one(s.finding(MTU, "find what drops fragments on the way: ping -M do -s 1472 HOST, from both sides; or send what fits the mtu",
		fmt.Sprintf("datagrams come to %s in fragments, and not all of one: a part is lost on the way, and with it the whole", s.On.Name),
		fmt.Sprintf("within %v %d fragments came, of which %d datagrams were put together (ReasmReqds, ReasmOKs); %d were given up (ReasmFails)", h.Window, came, whole, failed))), true
}
