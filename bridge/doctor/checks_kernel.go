package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// The checks of what the kernel of this host does to a datagram.

func checkNAT(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if !s.Send || s.Err != nil {
		return nil, false
	}
	if p := s.Live.Probe; p != nil && p.Result == multicast.ProbeRewritten {
		text, fix, _ := strings.Cut(p.Detail, "; ")
		evidence := fmt.Sprintf("the self-test left from %s and came back from %s", p.Wanted, p.Seen)
		if h.Rules != nil {
			if v, is := h.Rules.Rewrites(s.out()); is {
				evidence += "; " + v.String()
				fix = s.exemption(v)
			}
		}
		return one(s.finding(NAT, fix, text, evidence)), true
	}
	if h.Rules != nil {
		if v, is := h.Rules.Rewrites(s.out()); is {
			return one(s.finding(NAT, s.exemption(v), fmt.Sprintf("a NAT rule changes the source of what leaves for %s", strings.TrimSuffix(s.target(), ",")), v.String())), true
		}
	}
	return nil, s.Live.Probe != nil || h.Rules != nil
}

// exemption is the command that exempts what the rule sends from NAT: of groups all, for the self-test of
// the running topicast goes to another one and would still be changed.
func (s *Subject) exemption(v Verdict) string {
	p := s.out()
	if s.group() {
		p.Groups, p.Port = "224.0.0.0/4", 0
		if p.IPv6 {
			p.Groups = "ff00::/8"
		}
	}
	return v.Insertion(p)
}

// checkFirewall looks at the rules, where they can be read, and at what they did.
func checkFirewall(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Err != nil || s.On.Index == 0 {
		return nil, false
	}
	if s.Send {
		return checkEgress(s, h)
	}
	return checkIngress(s, h)
}

// leaving and arriving are the hooks that what leaves, and comes in, comes through.
var (
	leaving  = []string{"output", "postrouting", "egress", "output/bridge", "postrouting/bridge"}
	arriving = []string{"ingress", "prerouting/bridge", "input/bridge", "prerouting", "input"}
)

func checkEgress(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if h.Rules != nil {
		if v, stopped := h.Rules.Stops(s.out(), leaving...); stopped && !v.Unknown {
			return one(s.finding(EgressFirewall, v.Insertion(s.out()), fmt.Sprintf("the firewall of this host does not let datagrams from %s to %s leave", s.Source.Addr, s.target()),
				v.String())), true
		}
	}
	if p := s.Live.Probe; p != nil && p.Result == multicast.ProbeRefused {
		fix, evidence := s.refusal(h)
		return one(s.finding(EgressFirewall, fix, p.Detail, append(evidence, "the self-test was refused (EPERM)")...)), true
	}
	return nil, h.Rules != nil
}

// outgoing is how many datagrams to the target left by the interface.
func (s *Subject) outgoing() (n int) {
	for f, m := range s.Live.Wire.Flows {
		if f.Sent && f.To == s.To {
			n += m
		}
	}
	return n
}

// incoming is how many datagrams for the subject were overheard, and from whom one of them was.
func (s *Subject) incoming() (n int, from netip.Addr) {
	if s.Live.Wire == nil {
		return 0, from
	}
	for f, m := range s.Live.Wire.Flows {
		if !f.Sent && f.To == s.To && s.takes(f.From.Addr()) {
			n, from = n+m, f.From.Addr()
		}
	}
	return n, from
}

// blocked reports whether datagrams came to the interface and none reached a socket.
func (s *Subject) blocked() (n int, from netip.Addr) {
	if s.Send || !s.group() || s.Live.Heard == nil || s.On.HeardOn != "" || s.proven() {
		return 0, from
	}
	n, from = s.incoming()
	return n - min(n, s.Live.Early), from
}

func checkIngress(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	n, from := s.blocked()
	if s.proven() {
		return nil, true
	}
	evidence := []string{}
	if n > 0 {
		evidence = append(evidence, fmt.Sprintf("%s for %s came in by %s within %v, and none reached a socket", plural(n, "datagram"), s.To, s.On.Name, h.Window))
	}
	if h.Rules != nil {
		p := s.in(from)
		if v, stopped := h.Rules.Stops(p, arriving...); stopped && (!v.Unknown || n > 0 && !s.filtersPath(h, from)) {
			fix := v.admission(s, p)
			if q, also := h.Rules.Stops(query(s), "prerouting", "input"); also && !q.Unknown && !s.To.Addr().Is6() {
				fix += "; " + q.Insertion(query(s))
			}
			return one(s.finding(IngressFirewall, fix, fmt.Sprintf("the firewall of this host drops datagrams to %s that come in by %s", s.place(), s.On.Name),
				append([]string{v.String()}, evidence...)...)), true
		}
	}
	if n > 0 && h.Rules != nil {
		if v, is := h.Rules.Redirects(s.in(from)); is {
			return one(s.finding(IngressFirewall, v.Insertion(s.in(from)), fmt.Sprintf("a NAT rule of this host sends what comes for %s elsewhere", s.To),
				append([]string{v.String()}, evidence...)...)), true
		}
	}
	if n > 0 && h.own(from) == "" && !s.filtersPath(h, from) {
		if h.Rules != nil && !h.Legacy {
			return one(s.finding(IngressFirewall, "tc filter show dev "+s.On.Name+" ingress, and bpftool net, show filters of the interface; sysctl -w net.ipv4.conf.all.log_martians=1 has dmesg name what the kernel takes for forged",
				"datagrams reach the interface and no socket, and no rule of nftables drops them: a filter of the interface or the kernel itself does", evidence...)), true
		}
		return one(s.finding(IngressFirewall, "nft list ruleset (and iptables-legacy -S), as root, shows the rule: accept udp dport "+fmt.Sprint(s.To.Port())+" by "+s.On.Name,
			"datagrams reach the interface and no socket: a firewall of this host drops them", evidence...)), true
	}
	return nil, h.Rules != nil
}

// admission is the command that lets in all that the rule listens for, as what drops one of its groups
// mostly drops the others: the first four alone are looked at.
func (v Verdict) admission(s *Subject, p Packet) string {
	if len(s.All) == 0 {
		return v.Insertion(p)
	}
	var commands []string
	for _, g := range s.All {
		p.Groups, p.Port = g.Groups, g.Port
		commands = append(commands, v.Insertion(p))
	}
	return strings.Join(commands, "; ")
}

// place is where datagrams go that are received, in words.
func (s *Subject) place() string {
	if s.To.Addr().IsUnspecified() {
		return fmt.Sprintf("port %d of this host", s.To.Port())
	}
	return s.To.String()
}

// checkAnswers looks whether what devices answer to the port of a rule gets through the firewall. What answers
// a group comes from an address that nothing was sent to, so that conntrack takes it for new.
func checkAnswers(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if !s.Send || !s.Asks || s.Err != nil || s.On.Index == 0 || s.On.Loopback || h.Rules == nil {
		return nil, false
	}
	before, after := h.Daemon.sendStatus(s.Name)
	if before != nil && after != nil && after.Answers > before.Answers {
		return nil, true
	}
	p := Packet{IPv6: s.Source.Addr.Is6(), Protocol: "udp", To: s.Source.Addr, Port: s.Source.Binding.SourcePort, In: s.On.Name, Answer: !s.asksMany()}
	if p.Answer && s.Exact {
		p.From = s.To.Addr()
	}
	if p.Port == 0 && after != nil {
		at, err := netip.ParseAddrPort(after.Source)
		if err != nil {
			return nil, false
		}
		p.Port = at.Port()
	}
	if p.Port == 0 {
		return nil, false
	}
	v, stopped := h.Rules.Stops(p, arriving...)
	if !stopped || v.Unknown {
		return nil, true
	}
	evidence := []string{v.String()}
	if !p.Answer {
		evidence = append(evidence, "who answers a group, or a broadcast, does so from an address of its own: ct state established does not let that in")
	}
	fix := v.Insertion(p)
	if s.Source.Binding.SourcePort == 0 {
		fix = "give the rule a source_port, and accept that: " + fix
		if from := s.To.Port(); from != 0 { // mostly the port that was asked: SSDP, WS-Discovery, mDNS, KNX, CoAP
			p.Port, p.FromPort = 0, from
			fix = v.Insertion(p) + "; or, where answers come from another port, give the rule a source_port and accept that as dport"
		}
	}
	return one(s.finding(IngressFirewall, fix, fmt.Sprintf("the firewall of this host drops answers that come by %s to the port that the rule sends from", s.On.Name), evidence...)), true
}

// asksMany reports whether others than the target may answer: a group, or a broadcast address.
func (s *Subject) asksMany() bool {
	to := s.To.Addr()
	return s.group() || to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		slices.ContainsFunc(s.On.Addresses, func(a multicast.Address) bool { return a.Broadcast == to && to.IsValid() })
}

// own is the interface of this host that has an address; "": none has.
func (h *Snapshot) own(a netip.Addr) string {
	for _, on := range h.Interfaces {
		if owns(on, a) {
			return on.Name
		}
	}
	return ""
}

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
	for _, way := range []struct {
		p     Packet
		hooks []string
		text  string
	}{
		{report(s), leaving, "reports do not leave"},
		{query(s), arriving, "queries do not come in, so that memberships are not renewed"},
	} {
		if v, stopped := h.Rules.Stops(way.p, way.hooks...); stopped && !v.Unknown {
			fixes = append(fixes, v.Insertion(way.p))
			evidence = append(evidence, way.text+": "+v.String())
		}
	}
	if len(fixes) == 0 || s.proven() {
		return nil, true
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
		return nil, true
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
		return nil, true
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
