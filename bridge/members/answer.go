package members

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"topicast/bridge/multicast"
)

// State is what is known of the members of a group.
type State string

const (
	Some    State = "some"    // there are members
	None    State = "none"    // nobody has joined
	Unknown State = "unknown" // it cannot be known
)

// An Answer is who listens to a group on an interface.
type Answer struct {
	Group     string   `json:"group"` // or the prefix of several
	Interface string   `json:"interface"`
	State     State    `json:"state"`
	Hosts     []Member `json:"hosts,omitempty"` // the first of them
	Ports     []string `json:"ports,omitempty"` // of a bridge, behind which they are
	More      bool     `json:"more,omitempty"`  // there are more than these
	Why       string   `json:"why,omitempty"`   // on what None rests, or why it cannot be known
}

// Knowledge is all that is known of an interface.
type Knowledge struct {
	On     multicast.Interface
	Table  *Table            // nil: reports may not be heard
	NoEars string            // why not
	Bridge *multicast.Bridge // nil: the interface is no bridge
}

// Of says who has joined a group.
func (k *Knowledge) Of(group netip.Addr, now time.Time) Answer {
	return k.of(group, Answer{Group: group.String(), Interface: k.On.Name}, now)
}

// Within says so of the groups of a prefix: of one group whatever is known of it; of several those
// that somebody has joined, most of them, and where there is none one answer for all.
func (k *Knowledge) Within(groups netip.Prefix, most int, now time.Time) (list []Answer) {
	if groups.IsSingleIP() {
		return []Answer{k.Of(groups.Addr(), now)}
	}
	// An address of the prefix that nobody has joined speaks for them all, but for one that somebody has left.
	none := k.of(groups.Addr(), Answer{Interface: k.On.Name}, now)
	for _, g := range k.joined(groups) {
		switch a := k.Of(g, now); {
		case a.State == Some && len(list) < most:
			list = append(list, a)
		case a.State == Unknown && none.State == None:
			none = a
		}
	}
	if len(list) == 0 {
		none.Group = groups.String()
		list = append(list, none)
	}
	return list
}

// joined are the groups of a prefix that there is something known of, in their order.
func (k *Knowledge) joined(groups netip.Prefix) (list []netip.Addr) {
	if k.Bridge != nil && k.Bridge.Snooping {
		list = slices.Collect(maps.Keys(k.Bridge.Members))
	} else if k.Table != nil {
		list = slices.Collect(maps.Keys(k.Table.family(groups.Addr()).groups))
	}
	list = slices.DeleteFunc(list, func(g netip.Addr) bool { return !groups.Contains(g) })
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

func (k *Knowledge) of(group netip.Addr, a Answer, now time.Time) Answer {
	link := "IGMP"
	if group.Is6() {
		link = "MLD"
	}
	if b := k.Bridge; b != nil && b.Snooping && !group.IsLinkLocalMulticast() {
		return a.ofBridge(b, group, link)
	}
	if group.IsLinkLocalMulticast() {
		return a.ofLink(k.Table, group, now)
	}
	if k.Table == nil {
		return a.unknown("%s", k.NoEars)
	}
	return a.ofTable(k.Table, group, link, now)
}

func (a Answer) unknown(format string, args ...any) Answer {
	a.State, a.Why = Unknown, fmt.Sprintf(format, args...)
	return a
}

func (a Answer) none(format string, args ...any) Answer {
	a.State, a.Why = None, fmt.Sprintf(format, args...)
	return a
}

// ofBridge goes by the table of a bridge, which takes the reports to itself.
func (a Answer) ofBridge(b *multicast.Bridge, group netip.Addr, link string) Answer {
	if a.Ports = b.Members[group]; len(a.Ports) > 0 {
		a.State = Some
		return a
	}
	switch {
	case len(b.Routers) > 0:
		return a.unknown("behind %s of the bridge %s is a router or querier, to which groups go whoever has joined them; of the other ports nobody has", strings.Join(b.Routers, ", "), a.Interface)
	case !b.Querier(group):
		return a.unknown("the bridge %s snoops on %s and nobody asks for reports: it knows of those that joined lately alone, and of this group of none", a.Interface, link)
	}
	return a.none("bridge mdb show dev %s does not have it, and there is a querier", a.Interface)
}

// ofLink is of a group that stays on the link: no switch goes by who has joined it (RFC 4541, 2.1.2),
// and not every host says so.
func (a Answer) ofLink(t *Table, group netip.Addr, now time.Time) Answer {
	if t != nil {
		if hosts, more := t.hosts(group, now); len(hosts) > 0 {
			a.State, a.Hosts, a.More = Some, hosts, more
			return a
		}
	}
	return a.unknown("%s is a group of the link, which every host gets and not every one says that it joins", group)
}

// hosts are those that are known to have joined a group.
func (t *Table) hosts(group netip.Addr, now time.Time) (list []Member, more bool) {
	f := t.family(group)
	f.settle(now)
	g := f.groups[group]
	if g == nil {
		return nil, false
	}
	g.expire(f, now)
	return slices.Clone(g.hosts), g.more
}

// ofTable goes by what was heard.
func (a Answer) ofTable(t *Table, group netip.Addr, link string, now time.Time) Answer {
	if a.Hosts, a.More = t.hosts(group, now); len(a.Hosts) > 0 {
		a.State = Some
		return a
	}
	f := t.family(group)
	g := f.groups[group]
	listened := now.Sub(t.began).Round(time.Second)
	switch {
	case f.asked.IsZero():
		return a.unknown("no querier of %s has asked on %s within %v, and hosts report by themselves only when they join: where there is a querier it asks every %v, where there is none nobody can know", link, a.Interface, listened, queryInterval)
	case now.Sub(f.asked) > f.silence():
		return a.unknown("the querier of %s on %s has not asked for %v, so nobody reports", link, a.Interface, now.Sub(f.asked).Round(time.Second))
	case f.answered.IsZero():
		return a.unknown("the answers to a query of %s on %s may still come, until %s", link, a.Interface, f.until.Format(time.TimeOnly))
	case !f.reached:
		return a.unknown("a querier asks on %s, and this host hears no answer of any other: a switch with %s snooping brings them to the querier alone, or there is no other host; the switch's own table of groups tells", a.Interface, link)
	case g != nil && g.left.After(f.answered):
		return a.unknown("somebody has left it at %s, and others may be there until the next query is answered", g.left.Format(time.TimeOnly))
	case g != nil && g.own && f.version < quiet(group):
		return a.unknown("this host has joined it itself, and by %sv%d others keep silent once one has answered", link, f.version)
	case g == nil && !f.left.Before(f.over) && !f.left.IsZero(): // it would have reported since
		return a.unknown("more than %d groups are joined on %s", mostGroups, a.Interface)
	}
	return a.none("hosts on %s have answered the query of %s for other groups, and nobody for this one", a.Interface, f.over.Format(time.TimeOnly))
}

// quiet is the version of IGMP, or of MLD, from which on every host answers for itself.
func quiet(group netip.Addr) int {
	if group.Is4() {
		return 3
	}
	return 2
}

// String is the answer in a sentence.
func (a Answer) String() string {
	switch a.State {
	case Some:
		var who []string
		for _, h := range a.Hosts {
			if h.Host.IsUnspecified() {
				who = append(who, "a host without an address")
			} else {
				who = append(who, h.Host.String())
			}
		}
		for _, p := range a.Ports {
			who = append(who, "somebody behind "+p)
		}
		const most = 4
		text := strings.Join(who[:min(len(who), most)], ", ")
		if a.More || len(who) > most {
			text += " and others"
		}
		if len(who) == 1 && !a.More {
			return fmt.Sprintf("%s on %s has joined %s", text, a.Interface, a.Group)
		}
		return fmt.Sprintf("%s on %s have joined %s", text, a.Interface, a.Group)
	case None:
		return fmt.Sprintf("nobody on %s has joined %s: %s", a.Interface, a.Group, a.Why)
	}
	return fmt.Sprintf("whether anybody on %s has joined %s: %s", a.Interface, a.Group, a.Why)
}
