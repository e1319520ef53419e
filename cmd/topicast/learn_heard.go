package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"topicast/bridge/multicast"
	"topicast/internal/frame"
	"topicast/internal/recognise"
)

// What learn remembers of what anybody on the network can send.
const (
	maxFlows       = 256 // groups and ports
	maxFlowSenders = 64  // of each flow, by address
	maxMembers     = 256 // groups that others have joined
	maxMemberHosts = 8   // of each group
	beginning      = 16  // bytes of the first datagram that are shown
)

// learner is what has been heard.
type learner struct {
	on      multicast.Interface
	took    time.Duration
	joined  int
	packets bool // by a packet socket
	lost    uint64

	mu         sync.Mutex
	flows      map[netip.AddrPort]*heardFlow // by group and port; what comes to this host itself has no address
	members    map[netip.Addr][]netip.Addr   // who has joined
	beyond     uint64                        // datagrams of flows that there was no room for
	unmembered uint64                        // reports likewise
}

// heardFlow is the datagrams to one group and port, or to one port of this host.
type heardFlow struct {
	to                  netip.AddrPort
	flow                *recognise.Flow
	datagrams           uint64
	senders             map[netip.Addr]uint64
	moreSenders         bool
	least, most         int // bytes
	begins              []byte
	unicasts, broadcast uint64
	recognise.Finding   // when it is over
}

func newLearner(on multicast.Interface) *learner {
	return &learner{on: on, flows: make(map[netip.AddrPort]*heardFlow), members: make(map[netip.Addr][]netip.Addr)}
}

// heard takes a datagram in. It keeps nothing of the payload but the first bytes.
func (l *learner) heard(source, to netip.AddrPort, payload []byte) {
	if multicast.IsProbe(to.Addr()) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	broadcast := l.broadcast(to.Addr())
	key := to
	if !to.Addr().IsMulticast() {
		key = netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())
	}
	f := l.flows[key]
	if f == nil {
		if len(l.flows) >= maxFlows {
			l.beyond++
			return
		}
		f = &heardFlow{to: key, flow: recognise.NewFlow(key), senders: make(map[netip.Addr]uint64), least: len(payload), begins: slices.Clone(payload[:min(len(payload), beginning)])}
		l.flows[key] = f
	}
	f.flow.Add(source, payload)
	f.datagrams++
	f.least, f.most = min(f.least, len(payload)), max(f.most, len(payload))
	switch {
	case broadcast:
		f.broadcast++
	case !to.Addr().IsMulticast():
		f.unicasts++
	}
	if _, known := f.senders[source.Addr()]; known || len(f.senders) < maxFlowSenders {
		f.senders[source.Addr()]++
	} else {
		f.moreSenders = true
	}
}

// broadcast reports whether an address is one of the network's broadcast addresses.
func (l *learner) broadcast(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		slices.ContainsFunc(l.on.Addresses, func(on multicast.Address) bool { return on.Broadcast.IsValid() && on.Broadcast == a })
}

// member takes in what a report says, and reports whether the group is to be joined: groups
// that no switch holds back (RFC 4541, 2.1.2) are not.
func (l *learner) member(host netip.Addr, m frame.Member) (join bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.Leaving || multicast.IsProbe(m.Group) {
		return false
	}
	hosts, known := l.members[m.Group]
	if !known && len(l.members) >= maxMembers {
		l.unmembered++
		return false
	}
	if !slices.Contains(hosts, host) && len(hosts) < maxMemberHosts {
		hosts = append(hosts, host)
	}
	l.members[m.Group] = hosts
	return !m.Group.IsLinkLocalMulticast()
}

// found is what was heard, most telling first: what is known, and then what is not, by how
// much there was of it. What came to this host itself, and is nothing known, is left out.
func (l *learner) found() (flows []*heardFlow, leftOut int) {
	for _, f := range l.flows {
		f.Finding = f.flow.Finding()
		if f.Protocol == recognise.Unknown && f.unicasts > 0 && f.broadcast == 0 {
			leftOut++
			continue
		}
		flows = append(flows, f)
	}
	slices.SortFunc(flows, func(a, b *heardFlow) int {
		unknown := func(f *heardFlow) int {
			if f.Protocol == recognise.Unknown {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(unknown(a), unknown(b)), cmp.Compare(strings.ToLower(string(a.Protocol)), strings.ToLower(string(b.Protocol))), a.to.Compare(b.to))
	})
	return flows, leftOut
}

// senderList are the first few senders, those with most datagrams first.
func (f *heardFlow) senderList(most int) (list []netip.Addr) {
	for a := range f.senders {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b netip.Addr) int { return cmp.Or(cmp.Compare(f.senders[b], f.senders[a]), a.Compare(b)) })
	return list[:min(len(list), most)]
}

// silent are the groups that others have joined and nothing was heard of, but for those of
// the link, which are of its protocols.
func (l *learner) silent() (groups []netip.Addr) {
	heard := make(map[netip.Addr]bool)
	for to := range l.flows {
		heard[to.Addr()] = true
	}
	return slices.DeleteFunc(l.joinedByOthers(), func(g netip.Addr) bool { return heard[g] || g.IsLinkLocalMulticast() })
}

// joinedByOthers are all groups that reports were about.
func (l *learner) joinedByOthers() (groups []netip.Addr) {
	return slices.SortedFunc(maps.Keys(l.members), netip.Addr.Compare)
}

// tellBounds says what is missing.
func (l *learner) tellBounds(errOut io.Writer) {
	if l.lost > 0 {
		printWarning(errOut, fmt.Sprintf("%s came faster than they could be read, and are lost: rates are too low", count(l.lost, "packet")))
	}
	if l.beyond > 0 {
		printWarning(errOut, fmt.Sprintf("%s were to more than %d groups and ports, and are left out", count(l.beyond, "datagram"), maxFlows))
	}
	if l.unmembered > 0 {
		printWarning(errOut, fmt.Sprintf("more than %d groups are joined by others: some are left out", maxMembers))
	}
}

// whyNothing is what to do where nothing was heard.
func (l *learner) whyNothing() string {
	if !l.packets {
		return "as root, or with CAP_NET_RAW, it hears more than the well-known groups; --group names others"
	}
	return "is it the right interface? A switch with IGMP snooping brings only what is joined here: --group names a group; --for listens for longer"
}
