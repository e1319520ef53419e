// Package members knows which hosts of a network have joined a group, as far as this host can know.
//
// A host says that it has joined a group when it does, and whenever a querier asks all hosts (IGMP:
// RFC 2236, 3376; MLD: RFC 2710, 3810). Who hears that knows of members. That there are none is known
// only where a querier has asked, the time for the answers is over, and answers of others for other
// groups did come: a switch with IGMP snooping brings reports to the querier alone (RFC 4541, 2.1.1),
// so that behind one nothing is known, and that is what is said then.
package members

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"topicast/internal/frame"
)

const (
	// mostGroups bounds the groups that are kept of each family of an interface.
	mostGroups = 1024

	// mostHosts bounds who is kept of a group, and mostQueriers who asks.
	mostHosts    = 8
	mostQueriers = 4

	// sweepPause is the time from one search for groups to forget to the next.
	sweepPause = time.Second
)

// What a querier that says nothing else does (RFC 3376, 8; RFC 3810, 9).
const (
	queryInterval = 125 * time.Second
	robustness    = 2
	// grace is for answers that were sent at the end of their time.
	grace = time.Second
)

// Cycle is how long one has to listen until a querier has asked and all have answered, where its
// interval is the usual one.
const Cycle = queryInterval + 10*time.Second

// Table is what is known of one interface from what is heard there. It is not for several goroutines.
type Table struct {
	began    time.Time // since when reports are heard
	families [2]family // of IGMP and of MLD
}

// family is what is known of one of IPv4 and IPv6.
type family struct {
	queriers  map[netip.Addr]time.Time
	version   int           // the oldest that was asked in lately
	versioned time.Time     // when it was
	interval  time.Duration // from one general query to the next
	asked     time.Time     // the last general query
	waits     time.Time     // the one whose answers are waited for
	until     time.Time     // until then; zero: none is
	over      time.Time     // the last one whose answers are there
	answered  time.Time     // since then; zero: there is none
	heard     bool          // a report of another host, about any group, came since waits
	reached   bool          // one came in answer to over: so such reports do reach this host
	groups    map[netip.Addr]*group
	swept     time.Time // when groups were looked for last that may be forgotten
	left      time.Time // when one was left out, for there were too many
}

// group is what is known of one group.
type group struct {
	hosts []Member
	more  bool      // there are more hosts
	left  time.Time // the last that left
	own   bool      // this host has joined it
}

// A Member is a host that has joined a group, and when it last said so.
type Member struct {
	Host netip.Addr `json:"host"`
	At   time.Time  `json:"at"`
}

// NewTable begins with nothing known.
func NewTable(now time.Time) *Table {
	t := &Table{began: now}
	for i := range t.families {
		t.families[i] = family{queriers: make(map[netip.Addr]time.Time), groups: make(map[netip.Addr]*group), interval: queryInterval}
	}
	return t
}

func (t *Table) family(a netip.Addr) *family {
	if a.Is4() {
		return &t.families[0]
	}
	return &t.families[1]
}

// Hear takes in a packet; leaving: this host sends it. Those that are no reports and no queries
// are passed over.
func (t *Table) Hear(p frame.Packet, leaving bool, now time.Time) {
	if p.Kind != frame.Membership {
		return
	}
	from := p.Source.Addr()
	f := t.family(from)
	f.settle(now)
	if p.Query != nil {
		f.query(from, p.Query, now)
		return
	}
	for _, m := range p.Members {
		// RFC 3376, 4.2.13: one without an address reports too, before DHCP.
		f.report(from, m, leaving, now)
	}
	f.heard = f.heard || !leaving && len(p.Members) > 0
}

// settle notes that the time for answers is over.
func (f *family) settle(now time.Time) {
	if !f.until.IsZero() && now.After(f.until) {
		f.over, f.answered, f.reached, f.until = f.waits, f.until, f.heard, time.Time{}
	}
}

// query: one of the bridge or switch without an address asks too, at its start, and all answer; it is
// no querier that asks again (RFC 4541, 2.1.1).
func (f *family) query(from netip.Addr, q *frame.Query, now time.Time) {
	if q.Group.IsValid() {
		return // of one group: after somebody has left it
	}
	if q.Version <= f.version || now.Sub(f.versioned) > f.silence() { // RFC 3376, 7.2.1
		f.version, f.versioned = q.Version, now
	}
	// Who is asked twice answers the one that is to be answered first (RFC 3376, 5.2): one query with a
	// long time, which anybody can send, holds up no answer to others.
	f.asked = now
	if until := now.Add(q.Response + grace); f.until.IsZero() || until.Before(f.until) {
		f.waits, f.until, f.heard = now, until, false
	}
	if from.IsUnspecified() {
		return
	}
	if _, known := f.queriers[from]; !known && len(f.queriers) >= mostQueriers {
		maps.DeleteFunc(f.queriers, func(_ netip.Addr, at time.Time) bool { return now.Sub(at) > f.silence() })
	}
	if _, known := f.queriers[from]; known || len(f.queriers) < mostQueriers {
		f.queriers[from] = now
	}
	if f.interval = q.Interval; f.interval == 0 {
		f.interval = queryInterval // that another has told is not this one's
	}
}

// silence is how long nothing is heard of a querier that is there (RFC 3376, 8.5).
func (f *family) silence() time.Duration { return robustness*f.interval + 5*time.Second }

// lifetime is how long a host counts as a member after it said so, where it is asked again (RFC
// 3376, 8.4).
func (f *family) lifetime() time.Duration { return robustness*f.interval + 10*time.Second }

func (f *family) report(from netip.Addr, m frame.Member, own bool, now time.Time) {
	g := f.groups[m.Group]
	if g == nil {
		if len(f.groups) >= mostGroups {
			f.forget(now)
		}
		if len(f.groups) >= mostGroups {
			f.left = now
			return
		}
		g = &group{}
		f.groups[m.Group] = g
	}
	if own {
		g.own = !m.Leaving
		return
	}
	i := slices.IndexFunc(g.hosts, func(h Member) bool { return h.Host == from })
	switch {
	case m.Leaving:
		g.left = now
		if i >= 0 {
			g.hosts = slices.Delete(g.hosts, i, i+1)
		}
	case i >= 0:
		g.hosts[i].At = now
	case len(g.hosts) < mostHosts:
		g.hosts = append(g.hosts, Member{from, now})
	default:
		g.more = true
	}
}

// forget drops groups that nobody has said anything about for long. It looks for them no more often
// than once in sweepPause: reports of groups that do not exist cost no more than others.
func (f *family) forget(now time.Time) {
	if now.Sub(f.swept) < sweepPause {
		return
	}
	f.swept = now
	for a, g := range f.groups {
		g.expire(f, now)
		if len(g.hosts) == 0 && !g.own && now.Sub(g.left) > f.lifetime() {
			delete(f.groups, a)
		}
	}
}

// expire drops hosts that were asked again and said nothing.
func (g *group) expire(f *family, now time.Time) {
	if now.Sub(f.asked) > f.silence() {
		return // nobody asks
	}
	if g.more && len(g.hosts) == mostHosts && now.Sub(g.hosts[0].At) > f.lifetime() {
		g.more = false
	}
	g.hosts = slices.DeleteFunc(g.hosts, func(h Member) bool { return now.Sub(h.At) > f.lifetime() && f.answered.Sub(h.At) > f.interval })
}

// Queriers are those that asked lately.
func (t *Table) Queriers(now time.Time) (list []netip.Addr) {
	for i := range t.families {
		f := &t.families[i]
		for a, at := range f.queriers {
			if now.Sub(at) <= f.silence() {
				list = append(list, a)
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}
