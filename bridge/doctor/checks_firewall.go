package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
)

// The checks of the firewall of this host, and of its address translation.

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
	proven := s.Live.Probe != nil && s.Live.Probe.Result == multicast.ProbeVerified
	return nil, proven || h.Rules != nil && !h.Legacy
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

// unreadFirewall is unread, and that of what leaves or comes in it hangs on a rule that is not understood.
func unreadFirewall(s *Subject, h *Snapshot) bool {
	if unread(s, h) || s.Err != nil || s.On.Index == 0 || s.proven() {
		return unread(s, h)
	}
	if s.Send {
		v, _, _ := s.stopped(h)
		return v.Unknown
	}
	_, from := s.incoming()
	v, _ := h.Rules.Stops(s.in(from), arriving...)
	return v.Unknown
}

// leaving and arriving are the hooks that what leaves, and comes in, comes through.
var (
	leaving  = []string{"output", "postrouting", "egress", "output/bridge", "postrouting/bridge"}
	arriving = []string{"ingress", "prerouting/bridge", "input/bridge", "prerouting", "input"}
)

func checkEgress(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if h.Rules != nil {
		if v, p, stopped := s.stopped(h); stopped && !v.Unknown {
			to := s.target()
			if p != s.out() {
				to = netip.AddrPortFrom(p.To, p.Port).String()
			}
			return one(s.finding(EgressFirewall, v.Insertion(p), fmt.Sprintf("the firewall of this host does not let datagrams from %s to %s leave", s.Source.Addr, to),
				v.String())), true
		}
	}
	if p := s.Live.Probe; p != nil && p.Result == multicast.ProbeRefused {
		fix, evidence := s.refusal(h)
		return one(s.finding(EgressFirewall, fix, p.Detail, append(evidence, "the self-test was refused (EPERM)")...)), true
	}
	return nil, h.Rules != nil
}

// stopped finds what does not let the datagrams of a subject leave, and which of them.
func (s *Subject) stopped(h *Snapshot) (v Verdict, p Packet, is bool) {
	for _, out := range s.outs(h) {
		if w, stopped := h.Rules.Stops(out, leaving...); stopped && (!is || !w.Unknown) {
			v, p, is = w, out, true
			if !v.Unknown {
				break
			}
		}
	}
	return v, p, is
}

// outs are the datagrams of a subject as they leave: of a rule whose target depends on the message one for all, and
// one for each target that the bridge names in what it says of losses, as a rule of the firewall may be for that alone.
func (s *Subject) outs(h *Snapshot) (list []Packet) {
	list = []Packet{s.out()}
	_, after := h.Daemon.sendStatus(s.Name)
	if s.Exact || after == nil {
		return list
	}
	for _, r := range account.Reasons() {
		to, named := sentAt(after.FirstDrops[r.String()])
		if !named || s.Groups.IsValid() && !s.Groups.Contains(to.Addr()) {
			continue
		}
		p := s.out()
		p.IPv6, p.To, p.Port, p.Groups = to.Addr().Is6(), to.Addr().WithZone(""), to.Port(), ""
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// sentAt is where a datagram was to go, in what the bridge says of its loss (multicast.Sender: "send to …", "send 12
// bytes to …"). What is before that is the topic, which may be anything.
func sentAt(first string) (to netip.AddrPort, named bool) {
	words := strings.Fields(first[strings.LastIndex(first, ": send ")+1:])
	if i := slices.Index(words, "to"); i >= 0 && i+1 < len(words) {
		a, err := netip.ParseAddrPort(words[i+1])
		return a, err == nil
	}
	return to, false
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
		return nil, !v.Unknown
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
