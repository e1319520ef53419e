package send

import (
	"net/netip"
	"time"

	"topicast/bridge/multicast"
)

// The states of hosts that a binding keeps: which there are, which make room, and what becomes of them at a reload.

// hostOf returns the state of a host of a rule; nil: it has none. Where there is no room for one more state, a host
// that the kernel does not know gets one that is kept nowhere: what is for it is dropped. Callers hold mu.
func (b *binding) hostOf(r *Rule, a netip.Addr) *host {
	h := r.hosts[a]
	switch {
	case h != nil || !r.sendsToHosts():
		return h
	case r.waitingIn != nil: // something may wait that came before there was room for one more
		return nil
	case b.hosts.n >= maxHosts && !b.forgetHosts(time.Now()):
		return b.unlistedHost(r, a, time.Now())
	}
	h = &host{rule: r, addr: a}
	if r.hosts == nil {
		r.hosts = make(map[netip.Addr]*host)
	}
	r.hosts[a] = h
	b.hosts.n++
	return h
}

// unlistedHost is the state of a host that there is no room for: nil if the kernel knows it, or needs not to.
// Callers hold mu.
func (b *binding) unlistedHost(r *Rule, a netip.Addr, now time.Time) *host {
	if b.socket == nil {
		return nil
	}
	switch b.socket.Reach(b.socket.NextHop(a)) {
	case multicast.ReachKnown, multicast.ReachUnknown:
		return nil
	}
	return &host{rule: r, addr: a, state: hostUnreachable, since: now, skipped: true, unlisted: true, checkedAt: now, nextCheck: now.Add(time.Second), probedAt: now}
}

// forgetHosts removes the states of hosts that are not in use, of those that are not reachable after a while
// (unusedFor), and reports whether there is room for one more. Callers hold mu.
func (b *binding) forgetHosts(now time.Time) bool {
	if now.Sub(b.hosts.tidied) < time.Second {
		return false
	}
	b.hosts.tidied = now
	for _, r := range b.path.working.Load().Rules {
		if r.binding != b {
			continue
		}
		for a, h := range r.hosts {
			switch {
			case h.waitingIn != nil, h.state == hostReachable && !h.nextCheck.Before(now):
				continue
			case h.state != hostReachable:
				if !r.makesTargets || now.Sub(h.usedAt) < unusedFor && !h.skipped {
					continue
				}
				b.clearUnreachable(h)
			}
			delete(r.hosts, a)
			b.hosts.n--
		}
	}
	return b.hosts.n < maxHosts
}

// carryOverHosts hands the states of a rule's hosts to the rule that replaces it, where both send by this
// binding; to is nil where none does. Callers hold the path's mu, and nothing waits in memory.
func (b *binding) carryOverHosts(from, to *Rule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a, h := range from.hosts {
		if to == nil || to.binding != b || to.hosts[a] != nil || !to.sendsToHosts() {
			b.clearUnreachable(h)
			b.hosts.n--
			continue
		}
		if h.state == hostUnreachable {
			from.down.remove(a)
			to.down.add(a, h.since)
		}
		if h.asked {
			from.asking.n--
			to.asking.n++
		}
		h.rule = to
		if to.hosts == nil {
			to.hosts = make(map[netip.Addr]*host)
		}
		to.hosts[a] = h
	}
	from.hosts = nil
}
