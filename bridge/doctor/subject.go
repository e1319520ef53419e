package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge"
	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// mostAnswers bounds the groups of a rule of which it is said who has joined them.
const mostAnswers = 4

// A Subject is one way that is looked at: a rule by one interface, or a group that is asked about.
type Subject struct {
	Name   string // of the rule; "" where there is none
	Of     string // as the output calls it: "rule lamps (send[0])"
	Send   bool
	To     netip.AddrPort // the group or host, or one of a template's; of what comes to this host, an unspecified address and the port
	Exact  bool           // To is the only one that is looked at
	Only   bool           // sending: and the only one that the rule sends to
	Groups netip.Prefix   // sending to groups that depend on the message: those that it may be; else not valid

	Interface string                    // as it was asked for
	On        multicast.Interface       // the one that it is; no index: there is none
	Err       error                     // why there is none, or no source
	Source    multicast.Source          // sending: where it leaves from
	Wanted    netip.Prefix              // sending: the source that was asked for
	Sources   []netip.Prefix            // receiving: the senders that are taken; none: all
	Hears     func(netip.AddrPort) bool // receiving: whether the rule has a group; nil: To alone
	All       []GroupSet                // receiving: all that the rule listens for; none: To alone was asked about
	Found     bool                      // receiving: a group of many, looked at because something comes for it
	TTL       uint8
	Loopback  bool  // sending: programs of this host hear it too
	Asks      bool  // sending: what comes back to its port is published
	Said      *Said // what check says of it on this host

	Topic    string // sending: the topic that it was asked about; "": none was
	TopicErr error  // why the rule makes no target of it

	Live Live // what the look of some seconds has shown
}

// Said is what check says of a key.
type Said struct{ Key, Text, Hint string }

// A GroupSet is groups of one port.
type GroupSet struct {
	Groups string // as nft has them: an address, a range, or a set of these; "": what comes to this host itself
	Port   uint16
}

// group reports whether it is about a group, not about a host.
func (s *Subject) group() bool { return s.To.Addr().IsMulticast() }

// hears reports whether the rule of the subject has a group.
func (s *Subject) hears(to netip.AddrPort) bool { return to == s.To || s.Hears != nil && s.Hears(to) }

// takes reports whether the rule takes what a sender sends.
func (s *Subject) takes(from netip.Addr) bool {
	return len(s.Sources) == 0 || slices.ContainsFunc(s.Sources, func(p netip.Prefix) bool { return p.Contains(from) })
}

// Live is what was seen while Look listened.
type Live struct {
	Looked bool // it was one of those that are listened for

	Probe *multicast.Probe   // sending: the self-test; nil: none was made
	Join  error              // receiving: why it could not be joined
	Heard map[netip.Addr]int // receiving: what reached a socket, by sender; nil: nothing was joined
	Early int                // of what was on the wire, what came before that
	Wire  *Wire              // what was on the wire; nil: that may not be seen
	NoTap string             // why not

	Flag     bool              // the interface has the flag MULTICAST
	Bridge   *multicast.Bridge // where the interface is one
	NoBridge error             // why it cannot be asked
	Back     map[string]string // the interface that leads back to a sender, "" is none
}

// members says who has joined the group, or of several those that somebody has joined; else what it
// takes to know.
func (s *Subject) members(h *Snapshot) []members.Answer {
	k := members.Knowledge{On: s.On, Bridge: s.Live.Bridge, NoEars: s.Live.NoTap}
	if s.Live.Wire != nil {
		k.Table = s.Live.Wire.Members
	}
	groups := s.Groups
	if !groups.IsValid() {
		groups = netip.PrefixFrom(s.To.Addr(), s.To.Addr().BitLen())
	}
	own := s.ofSent(k, k.Within(groups, mostAnswers, h.Now), h.Now)
	if own[0].State != members.Unknown {
		return own
	}
	// The running bridge has listened for longer, where the rule has members.
	if _, after := h.Daemon.sendStatus(s.Name); after != nil {
		known := slices.DeleteFunc(slices.Clone(after.Members), func(m members.Answer) bool {
			return m.State == members.Unknown || !s.Groups.IsValid() && m.Group != own[0].Group
		})
		if len(known) > 0 {
			return known[:min(len(known), mostAnswers)]
		}
	}
	return own
}

// target is where it sends to, in words.
func (s *Subject) target() string {
	if s.Exact || !s.Groups.IsValid() {
		return s.To.String()
	}
	if s.To.Port() == 0 {
		return "groups of " + s.Groups.String()
	}
	return fmt.Sprintf("groups of %s, port %d,", s.Groups, s.To.Port())
}

// sentTo are the groups of a rule with many that datagrams left for meanwhile, in their order.
func (s *Subject) sentTo() (groups []netip.Addr) {
	if s.Exact || !s.Groups.IsValid() || s.Live.Wire == nil {
		return nil
	}
	for f := range s.Live.Wire.Flows {
		to := f.To.Addr()
		if f.Sent && s.Groups.Contains(to) && (s.To.Port() == 0 || f.To.Port() == s.To.Port()) && !slices.Contains(groups, to) {
			groups = append(groups, to)
		}
	}
	slices.SortFunc(groups, netip.Addr.Compare)
	return groups
}

// ofSent puts what is known of the groups that it really sends to before what is of others, and in place of
// what is of all that it may send to.
func (s *Subject) ofSent(k members.Knowledge, others []members.Answer, now time.Time) (list []members.Answer) {
	sent := s.sentTo()
	if len(sent) == 0 {
		return others
	}
	for _, g := range sent[:min(len(sent), mostAnswers)] {
		list = append(list, k.Of(g, now))
	}
	for _, a := range others {
		known := slices.ContainsFunc(list, func(b members.Answer) bool { return b.Group == a.Group })
		if a.State == members.Some && !known && len(list) < mostAnswers {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b members.Answer) int {
		unknown := func(m members.Answer) int {
			if m.State == members.Unknown {
				return 1
			}
			return 0
		}
		return unknown(a) - unknown(b)
	})
	return list
}

// heard is how many datagrams reached a socket, from senders that are taken and from others.
func (l *Live) heard(s *Subject) (taken, others int, foreign netip.Addr) {
	for from, n := range l.Heard {
		if s.takes(from) {
			taken += n
		} else {
			others, foreign = others+n, from
		}
	}
	return taken, others, foreign
}

// A Snapshot is what Look has seen of the host, apart from the subjects.
type Snapshot struct {
	Interfaces    []multicast.Interface
	Sysctl        func(key string) (int, bool) // a number of /proc/sys/net
	Before, After Counters
	Drops         map[uint16]uint64 // of the sockets at a port, within the window
	Rules         *Ruleset          // nil: the firewall cannot be read
	NoRules       string            // why not
	Legacy        bool              // there are tables of iptables-legacy, which nft does not list
	Window        time.Duration
	Found         []*Subject // groups that are looked at because something comes for them
	Daemon        Daemon
	Now           time.Time
	Step          time.Duration // by how much the clock was set within the window
	FileTime      time.Time     // when the configuration was written; zero: there is none
}

// A Daemon is what the running bridge says of itself.
type Daemon struct {
	Asked         bool // there is a configuration, so one should run
	Off           bool // it has neither a control socket nor a web page: it cannot be asked
	At            string
	Err           error
	Before, After *bridge.Status

	// By name, of Before and After.
	sends    [2]map[string]*send.Status
	receives [2]map[string]*receive.Status
}

// sendStatus are the two accounts of a send rule; nil: there is none.
func (d *Daemon) sendStatus(name string) (before, after *send.Status) {
	d.index()
	return d.sends[0][name], d.sends[1][name]
}

// receiveStatus are those of a receive rule.
func (d *Daemon) receiveStatus(name string) (before, after *receive.Status) {
	d.index()
	return d.receives[0][name], d.receives[1][name]
}

// index finds the rules by their names, once: there may be 10,000 of them.
func (d *Daemon) index() {
	if d.sends[0] != nil {
		return
	}
	for i, s := range []*bridge.Status{d.Before, d.After} {
		d.sends[i], d.receives[i] = make(map[string]*send.Status), make(map[string]*receive.Status)
		if s == nil {
			continue
		}
		for n := range s.Rules {
			d.sends[i][s.Rules[n].Name] = &s.Rules[n]
		}
		for n := range s.Receive {
			d.receives[i][s.Receive[n].Name] = &s.Receive[n]
		}
	}
}
