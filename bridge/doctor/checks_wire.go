package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// The checks of what is on the wire, where it may be seen.

// checkWire looks for datagrams that come otherwise than they are waited for.
func checkWire(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	t := s.Live.Wire
	if s.Send || t == nil || !s.group() || !s.Exact {
		return nil, false
	}
	if n, _ := s.incoming(); n > 0 || s.proven() {
		return nil, true
	}
	var near []Flow
	unicast := Flow{}
	for f := range t.Flows {
		to := f.To
		switch {
		case f.Sent || !s.takes(f.From.Addr()) || common(to):
		case to.Port() == s.To.Port() && owns(s.On, to.Addr()):
			unicast = f
		case to.Addr() == s.To.Addr() && to.Port() != s.To.Port() && !s.hears(to), to.Addr().IsMulticast() && to.Port() == s.To.Port() && to.Addr() != s.To.Addr() && !s.hears(to) && !h.known(to):
			near = append(near, f)
		}
	}
	if unicast.To.IsValid() {
		found = append(found, s.finding(Unicast, fmt.Sprintf("have %s send to %s, or write port: %d in place of group", unicast.From.Addr(), s.To, s.To.Port()),
			fmt.Sprintf("%s sends to this host itself, not to the group", unicast.From.Addr()),
			fmt.Sprintf("%s from %s to %s within %v", plural(t.Flows[unicast], "datagram"), unicast.From, unicast.To, h.Window)))
	}
	if len(near) > 0 {
		slices.SortFunc(near, func(a, b Flow) int { return strings.Compare(a.To.String(), b.To.String()) })
		var evidence []string
		for _, f := range near[:min(len(near), 4)] {
			evidence = append(evidence, fmt.Sprintf("%s from %s to %s within %v", plural(t.Flows[f], "datagram"), f.From, f.To, h.Window))
		}
		found = append(found, s.finding(WrongTarget, "write group: "+near[0].To.String()+", or have the sender send to "+s.To.String(),
			fmt.Sprintf("nothing comes for %s, but for %s", s.To, near[0].To), evidence...))
	}
	return found, true
}

// common reports whether a group is one that every network is full of: those of the link, of
// discovery protocols and the like say nothing about a rule.
func common(to netip.AddrPort) bool {
	switch to.Port() {
	case 1900, 3702, 5353, 5355:
		return true
	}
	return to.Addr().Is4() && to.Addr().IsLinkLocalMulticast() && to.Addr().As4()[2] == 0 && to.Port() < 1024
}

func owns(on multicast.Interface, a netip.Addr) bool {
	return slices.ContainsFunc(on.Addresses, func(own multicast.Address) bool { return own.Prefix.Addr() == a })
}

// known reports whether a rule of the running bridge hears a group already.
func (h *Snapshot) known(to netip.AddrPort) bool {
	if h.Daemon.After == nil {
		return false
	}
	for i := range h.Daemon.After.Receive {
		for _, text := range h.Daemon.After.Receive[i].Groups {
			if g, err := mapping.ParseGroupRange(text); err == nil && g.Contains(to) {
				return true
			}
		}
	}
	return false
}

// checkSenders looks at who sends, where only some are taken.
func checkSenders(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	if s.Send || len(s.Sources) == 0 || !s.Live.Looked {
		return nil, false
	}
	taken, others, foreign := s.Live.heard(s)
	if s.Live.Wire != nil && others == 0 {
		for f, n := range s.Live.Wire.Flows {
			if !f.Sent && f.To == s.To && !s.takes(f.From.Addr()) {
				others, foreign = others+n, f.From.Addr()
			}
		}
	}
	if taken > 0 || others == 0 {
		return nil, true
	}
	if n, _ := s.incoming(); n > 0 {
		return nil, true
	}
	return one(s.finding(SourceFiltered, fmt.Sprintf("add %s to source of the rule, or leave source out", foreign),
		fmt.Sprintf("%s sends, and the rule takes only what comes from %s", foreign, prefixes(s.Sources)),
		fmt.Sprintf("%s for %s within %v, none of a sender that is taken", plural(others, "datagram"), s.To, h.Window))), true
}

func prefixes(list []netip.Prefix) string {
	var words []string
	for _, p := range list {
		if p.IsSingleIP() {
			words = append(words, p.Addr().String())
		} else {
			words = append(words, p.String())
		}
	}
	return strings.Join(words, ", ")
}

// mostGroups bounds the groups that a line names.
const mostGroups = 8

// seen is what came and left, in a line.
func seen(s *Subject, h *Snapshot) (texts []string) {
	texts = s.lostBefore(h)
	if !s.Live.Looked {
		return texts
	}
	t := s.Live.Wire
	switch {
	case s.Send && t != nil && s.Exact:
		if n := s.outgoing(); n > 0 {
			texts = append(texts, fmt.Sprintf("%s for %s left by %s", plural(n, "datagram"), s.To, s.On.Name))
		}
	case !s.Send && s.Live.Heard != nil:
		taken, others, _ := s.Live.heard(s)
		texts = append(texts, fmt.Sprintf("%s for %s reached a socket by %s", plural(taken+others, "datagram"), s.To, s.On.Name))
	}
	texts = append(texts, s.repeated(h)...)
	return append(texts, s.listeners(h)...)
}

// listeners is who listens to the group that it sends to, as far as that is known, and who asks.
func (s *Subject) listeners(h *Snapshot) (texts []string) {
	if !s.group() || s.On.Loopback {
		return nil
	}
	if s.Send {
		for _, a := range s.members(h) {
			if a.State != members.Unknown {
				texts = append(texts, a.String())
			}
		}
	}
	if t := s.Live.Wire; t != nil {
		for _, q := range t.Members.Queriers(h.Now) {
			texts = append(texts, fmt.Sprintf("%v is a querier on %s", q, s.On.Name))
		}
	}
	return texts
}

// unseen is what cannot be known, and what it would take.
func unseen(h *Snapshot, subjects []*Subject) (texts []string) {
	var silent []*Subject
	add(&texts, h.NoRules)
	if h.Legacy {
		add(&texts, "the rules of iptables-legacy, which nft does not list: iptables-legacy -S and ip6tables-legacy -S, as root")
	}
	for _, s := range subjects {
		if _, after := h.Daemon.sendStatus(s.Name); s.Send && after != nil && after.Received == 0 && len(after.Filtered) == 0 && h.Daemon.After.Broker.Connected {
			add(&texts, fmt.Sprintf("whether anything is published on %s: the broker has handed out nothing since the start; mosquitto_sub -t '%[1]s', as topicast's user, tells (a broker may grant a filter and withhold what it is for, as mosquitto does by an acl_file)", onWire(after.Filter)))
		}
		if !s.Live.Looked {
			continue
		}
		if s.Live.NoTap != "" {
			add(&texts, "what is on the wire of "+s.On.Name+": "+s.Live.NoTap+": run this as root, and it shows what comes and reaches no socket, what comes for other groups and ports, and who listens")
			if n := h.grew("Udp.IgnoredMulti"); n > 0 && !s.Send {
				add(&texts, fmt.Sprintf("which groups and ports %s were for, that came and that no program wanted", plural(int(n), "datagram")))
			}
			if n := h.grew("Udp.NoPorts"); n > 0 && !s.Send {
				add(&texts, fmt.Sprintf("which ports %s were for, that came to this host itself and that no program has", plural(int(n), "datagram")))
			}
		}
		if w := s.Live.Wire; w != nil && w.Lost > 0 {
			add(&texts, fmt.Sprintf("%s on the wire of %s, which came faster than they were looked at", plural(int(w.Lost), "packet"), s.On.Name))
		}
		if s.Live.NoBridge != nil {
			add(&texts, s.Live.NoBridge.Error())
		}
		if s.Send && !s.group() && !s.On.Loopback {
			add(&texts, s.untold())
		}
		if s.On.Loopback || !s.group() {
			continue
		}
		n, _ := s.incoming()
		switch {
		case s.Send:
			if a := s.members(h)[0]; a.State == members.Unknown {
				text := a.String()
				if s.Live.Wire != nil && h.Window < members.Cycle && (s.Live.Bridge == nil || !s.Live.Bridge.Snooping) {
					text += fmt.Sprintf("; --for %ds listens for as long as that takes", int(members.Cycle.Seconds()))
				}
				add(&texts, text)
			}
			if s.TTL == 1 {
				add(&texts, "whether the devices are behind a router, which a ttl of 1 does not cross")
			}
		case n == 0 && !s.arrived():
			silent = append(silent, s)
		}
	}
	add(&texts, keptBySwitches(silent)...)
	return texts
}

// keptBySwitches is said once of an interface, whatever number of groups nothing came for.
func keptBySwitches(silent []*Subject) (texts []string) {
	groups, first := make(map[int][]string), make(map[int]*Subject)
	for _, s := range silent {
		if on := s.On.Index; !slices.Contains(groups[on], s.To.String()) {
			groups[on] = append(groups[on], s.To.String())
			first[on] = cmp.Or(first[on], s)
		}
	}
	for _, s := range silent {
		if first[s.On.Index] != s {
			continue
		}
		list := groups[s.On.Index]
		text := strings.Join(list[:min(len(list), mostGroups)], ", ")
		if more := len(list) - mostGroups; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		texts = append(texts, fmt.Sprintf("whether a switch keeps groups from %s: nothing came for %s, so the sender is silent, sends elsewhere (to a group that hardware may filter, for nobody here has joined it), or a switch that snoops on IGMP without a querier has forgotten this host; %s on the sender's port of the switch tells", s.On.Name, text, s.listening()))
	}
	return texts
}
