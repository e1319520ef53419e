package send

import (
	"fmt"
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// Hosts whose link-layer address cannot be resolved. Before a datagram leaves for a host, the
// kernel resolves its address (ARP, neighbour discovery). Until that succeeds or fails, by default
// after 3 seconds, it queues the datagrams for the host, and charges them to the socket's send
// buffer: that is then full for the other hosts, too. So the binding keeps a state for each host,
// taken from the kernel's neighbour table, which it reads at most once a second while it sends:
//
//	reachable     datagrams leave as they come
//	resolving     the kernel is given a few datagrams; the others wait until the state is known
//	unreachable   the resolution failed. Datagrams wait if on_down says so, or are dropped
//	              (unreachable). A few are still sent, so that the kernel resolves again
//
// Acknowledgements go out in order, so a datagram that waits unacknowledged for one host would
// stop all other rules. Therefore datagrams wait for an unreachable host only on disk, or as the
// latest QoS 0 datagram of their topic. On disk a rule's messages have one order; so the messages
// of a rule with several hosts do not wait there, and no host of it delays another.
//
// Only the neighbour table counts. ICMP errors do not: anybody can forge them.

const (
	// maxHosts is how many hosts of a binding have a state; datagrams to others are sent unchecked.
	maxHosts = 1 << 12
	// unusedFor is for how long nothing is sent to a host that is not reachable before its state makes room for
	// another one. A publisher may name ever more hosts that are not there, and this once would be for good.
	unusedFor = 30 * time.Second
	// maxUnresolved is how many datagrams the kernel is given for a host that it is resolving, where
	// they could also wait, or the host is unreachable. Otherwise it is given more, because waiting
	// unacknowledged would stop all other rules: up to maxBuffered bytes, or a sixteenth of the send
	// buffer. The kernel queues 208 KiB for each neighbour, and drops more than that.
	maxUnresolved = 4
	maxBuffered   = 96 << 10

	reachableFor         = time.Second            // for how long a host is taken to be reachable without a check
	unresolvedFor        = 10 * time.Second       // the same for a host that needs no resolution (no neighbour entry)
	firstCheck           = time.Millisecond       // the first check of a host that is being resolved;
	lastCheck            = 250 * time.Millisecond // the checks become rarer, down to one in this time
	unreachableCheck     = 200 * time.Millisecond // between two checks of an unreachable host for which something waits,
	unreachableIdleCheck = 5 * time.Second        // or for which nothing waits
	resolveTimeout       = 4 * time.Second        // a host that is being resolved for so long is unreachable, whatever the kernel's settings
	probePause           = time.Second            // between two probes of an unreachable host

	// checkCost is the time allowed for each check, so that the checks of many hosts leave the processor to others.
	checkCost = 100 * time.Microsecond
	// checkTick is what the times of checks are rounded up to with more than fewHosts, so that they happen together.
	checkTick = 10 * time.Millisecond
	fewHosts  = 16
	// checksAtOnce is how many hosts are checked in a row, so that the reader does not wait long.
	checksAtOnce = 64
)

type hostState uint8

const (
	hostReachable hostState = iota
	hostResolving
	hostUnreachable
)

// host is one that a rule sends to. The binding's mu guards it.
type host struct {
	rule      *Rule
	addr      netip.Addr
	waitingIn *ruleQueue // the datagrams that wait for it in memory; nil: none

	state     hostState
	since     time.Time       // when resolving or unreachable began
	reach     multicast.Reach // the last state in the neighbour table
	checkedAt time.Time       // when that was read
	nextCheck time.Time       // when it is read next

	nextHop   netip.Addr // the neighbour that the kernel resolves: the host or a gateway
	nextHopAt time.Time  // when that was looked up

	asked       bool      // the kernel is resolving it, as far as is known
	skipped     bool      // it is taken for unreachable without having been asked for: too many others did not answer
	unlisted    bool      // there was no room for its state: nothing can wait for it
	passed      int       // datagrams given to the kernel since the host was last reachable
	firstPassed time.Time // the first of these
	buffered    int       // bytes of the send buffer that they may take
	probedAt    time.Time // when it was last probed while unreachable
	usedAt      time.Time // when something was last to be sent to it
	aside       uint64    // the flush in which a datagram for it was put aside
	ports       [2]uint16 // that it was sent to last; an ICMP error about another is not about us

	heapPlace // in hosts.due, unless it is reachable
}

// hosts are the states of a binding's hosts. Guarded by its mu.
type hosts struct {
	n        int            // that have a state
	due      dueHeap[*host] // those that are not reachable, by their next check
	buffered int            // bytes of the send buffer taken for hosts that are being resolved
	lost     []*host        // marked as unreachable while something waited for them: dropUnreachable
	tidied   time.Time      // when unused states were last removed
}

// before orders hosts by their next check.
func (h *host) before(o *host) bool { return h.nextCheck.Before(o.nextCheck) }

// reachable reports whether datagrams for the host may leave as they come. A nil host is a target
// without a state.
func (h *host) reachable() bool { return h == nil || h.state == hostReachable }

// unreachable reports whether the host's address could not be resolved.
func (h *host) unreachable() bool { return h != nil && h.state == hostUnreachable }

// sendsToHosts reports whether the rule's targets are hosts, which the kernel has to resolve. A
// broadcast address needs no resolution.
func (r *Rule) sendsToHosts() bool { return !r.Host.IsZero() }

// waitsForHost reports whether a message of the rule waits for an unreachable host.
func (r *Rule) waitsForHost(acknowledged bool) bool {
	switch {
	case r.OnDown == mapping.OnDownDrop:
		return false
	case !acknowledged:
		return r.OnDown == mapping.OnDownLatest
	}
	return r.spool != nil && !r.makesTargets
}

// maySend reports whether a datagram for a host may be sent now, and if so counts it as sent. waits
// says that the datagram can wait otherwise. Callers hold mu, and there is a socket.
func (b *binding) maySend(h *host, payload int, waits bool, now time.Time) bool {
	if h == nil {
		return true
	}
	h.usedAt = now
	if !h.nextCheck.After(now) || h.state == hostUnreachable && now.Sub(h.checkedAt) >= unreachableCheck {
		b.checkNeighbour(h, now)
	}
	switch h.state {
	case hostReachable:
		return true
	case hostResolving:
		if !b.mayAsk(h) && !h.rule.asking.progresses(now) {
			h.skipped = true
			b.markUnreachable(h, now)
			return false
		}
		return (h.passed < maxUnresolved || !waits) && b.reserveBuffer(h, payload, now)
	}
	return !waits && b.mayProbeWith(h, payload, now)
}

// sends notes the port that a datagram is sent to.
func (h *host) sends(port uint16) {
	if h != nil && h.ports[0] != port {
		h.ports = [2]uint16{port, h.ports[0]}
	}
}

// sentTo reports whether it was one of the last ones.
func (h *host) sentTo(port uint16) bool { return h.ports[0] == port || h.ports[1] == port }

// hasWaiting reports whether something waits for the host, in memory or on disk: that goes first.
func (h *host) hasWaiting() bool { return h != nil && (h.waitingIn != nil || h.rule.onDisk()) }

// reserveBuffer counts a datagram that the kernel is given for a host that it is resolving, if there is
// room in the send buffer: half of it for the first datagram of a host, a quarter for further ones
// and for unreachable hosts. Callers hold mu.
func (b *binding) reserveBuffer(h *host, payload int, now time.Time) bool {
	room, takes := b.socket.Buffer(), multicast.Buffered(payload) // the kernel doubles the size that was asked for (socket(7))
	if h.passed > 0 && h.buffered+takes > min(room/16, maxBuffered) {
		return false
	}
	if h.passed > 0 || h.state == hostUnreachable {
		room /= 2
	}
	if b.hosts.buffered+takes > room && b.hosts.buffered > 0 || !b.ask(h, now) {
		return false
	}
	if h.passed == 0 {
		h.firstPassed = now
	}
	h.passed++
	h.buffered += takes
	b.hosts.buffered += takes
	return true
}

// mayProbe reports whether it is time to probe an unreachable host, or a probe is under way and
// may have one more datagram. Callers hold mu.
func (b *binding) mayProbe(h *host, now time.Time) bool {
	if h.reach == multicast.ReachIncomplete {
		return h.passed < maxUnresolved
	}
	return now.Sub(h.probedAt) >= probePause && b.mayAsk(h)
}

// mayProbeWith reports whether a datagram for an unreachable host may be sent as a probe. Callers hold mu.
func (b *binding) mayProbeWith(h *host, payload int, now time.Time) bool {
	if !b.mayProbe(h, now) || !b.reserveBuffer(h, payload, now) {
		return false
	}
	if h.reach != multicast.ReachIncomplete {
		h.reach, h.probedAt = multicast.ReachIncomplete, now
		b.scheduleCheck(h, now, unreachableCheck)
	}
	return true
}

// checkNeighbour reads a host's state from the neighbour table. Callers hold mu, and there is a socket.
func (b *binding) checkNeighbour(h *host, now time.Time) {
	if h.state != hostReachable || now.Sub(h.nextHopAt) >= unresolvedFor {
		h.nextHop, h.nextHopAt = b.socket.NextHop(h.addr), now
	}
	h.reach, h.checkedAt = b.socket.Reach(h.nextHop), now
	if h.reach != multicast.ReachIncomplete {
		b.asksNoMore(h)
		b.hosts.buffered -= h.buffered // they have left, or are lost
		h.buffered = 0
		if h.state == hostUnreachable {
			h.passed = 0
		}
	}
	switch {
	case h.reach == multicast.ReachUnknown:
		b.markReachable(h, now, unresolvedFor)
	case h.reach == multicast.ReachKnown:
		b.markReachable(h, now, reachableFor)
	case h.state == hostReachable:
		b.markResolving(h, now)
	case h.state == hostUnreachable:
		later := unreachableIdleCheck
		if h.reach == multicast.ReachIncomplete || h.waitingIn != nil || h.rule.onDisk() && !h.rule.makesTargets {
			later = unreachableCheck
		}
		b.scheduleCheck(h, now, later)
	case h.passed > 0 && (h.reach == multicast.ReachFailed || now.Sub(h.firstPassed) >= resolveTimeout):
		b.markUnreachable(h, now)
	default:
		if h.reach == multicast.ReachNone {
			h.passed = 0 // the kernel has removed the entry
		}
		b.scheduleCheck(h, now, max(min(now.Sub(h.since), lastCheck), firstCheck))
	}
}

// markResolving begins the state in which the kernel resolves a host's address. Callers hold mu.
func (b *binding) markResolving(h *host, now time.Time) {
	b.queue.forHosts += b.queue.waitingFor(h)
	h.state, h.since, h.passed = hostResolving, now, 0
	b.hosts.due.push(h)
	b.scheduleCheck(h, now, firstCheck)
	b.wakeBy(h.nextCheck)
}

// scheduleCheck has a host checked after a time, later where many are to be checked. Callers hold mu.
func (b *binding) scheduleCheck(h *host, now time.Time, d time.Duration) {
	many := len(b.hosts.due)
	if h.nextCheck = now.Add(max(d, time.Duration(many)*checkCost)); many > fewHosts {
		h.nextCheck = h.nextCheck.Truncate(checkTick).Add(checkTick)
	}
	b.hosts.due.fix(h)
}

// markUnreachable begins the state in which a host's address could not be resolved. What waits for it is looked
// at later (dropUnreachable): who asks for the host's state may be about to send some of it. Callers hold mu.
func (b *binding) markUnreachable(h *host, now time.Time) {
	h.state, h.since = hostUnreachable, now
	b.scheduleCheck(h, now, unreachableCheck)
	h.rule.down.add(h.addr, now)
	if h.skipped {
		b.log.Warn("a host is not asked for, as too many others of its rule do not answer; it is when there is something for it and room", "rule", h.rule.Name,
			"host", h.addr, "interface", b.source.Interface, "asked_for_at_a_time", h.rule.asking.n)
	} else {
		b.log.Warn("a host does not answer; it is asked again as long as there is something for it", "rule", h.rule.Name,
			"host", h.addr, "interface", b.source.Interface, "asked_for", h.nextHop)
	}
	if h.waitingIn != nil {
		b.hosts.lost = append(b.hosts.lost, h)
		b.wake()
	}
}

// dropUnreachable drops what was waiting for the hosts that were marked as unreachable, unless it is to wait on.
// Callers hold mu, and are not gathering what waits.
func (b *binding) dropUnreachable() {
	for _, h := range b.hosts.lost {
		l := h.waitingIn
		if l == nil || h.state != hostUnreachable {
			continue
		}
		for w := l.first; w != nil; {
			next := w.next
			switch {
			case !w.rule.waitsForHost(w.ack != nil):
				b.giveUp(w, account.ReasonUnreachable, h.errUnreachable())
			case w.superseded():
				b.giveUp(w, account.ReasonSuperseded, nil)
			}
			w = next
		}
		b.spillQueue(l)
	}
	clear(b.hosts.lost)
	b.hosts.lost = b.hosts.lost[:0]
}

// markReachable has datagrams for a host leave as they come, until it is checked after a time. Callers hold mu.
func (b *binding) markReachable(h *host, now time.Time, holds time.Duration) {
	was := h.state
	if was == hostUnreachable {
		h.rule.errors.forget(h.addr)
	}
	b.clearUnreachable(h)
	h.nextCheck = now.Add(holds)
	if was == hostUnreachable {
		b.log.Info("a host answers again", "rule", h.rule.Name, "host", h.addr, "interface", b.source.Interface,
			"after", now.Sub(h.since).Round(time.Millisecond))
	}
}

// clearUnreachable takes a host to be reachable, without a word in the log. Callers hold mu.
func (b *binding) clearUnreachable(h *host) {
	if h.state == hostReachable {
		return
	}
	if h.state == hostUnreachable {
		h.rule.down.remove(h.addr)
	}
	b.queue.forHosts -= b.queue.waitingFor(h)
	b.asksNoMore(h)
	b.hosts.due.remove(h)
	b.hosts.buffered -= h.buffered
	h.state, h.skipped, h.buffered, h.passed, h.nextCheck = hostReachable, false, 0, 0, time.Time{}
	if h.rule.spool != nil && !h.rule.makesTargets {
		h.rule.spooling.notBefore = time.Time{}
		b.again = true // the drain has skipped what is on disk
	}
}

// hostCheckDue reports whether a host is to be checked now. Callers hold mu.
func (b *binding) hostCheckDue(now time.Time) bool {
	return len(b.hosts.due) > 0 && !b.hosts.due[0].nextCheck.After(now)
}

// clearAllUnreachable is called when the socket is closed: then the source is at fault, and no host. Callers
// hold mu.
func (b *binding) clearAllUnreachable() {
	for len(b.hosts.due) > 0 {
		b.clearUnreachable(b.hosts.due[0])
	}
}

// checkHosts checks the hosts whose time has come, and probes the unreachable ones for which something
// waits in memory. Callers hold mu, and there is a socket.
func (b *binding) checkHosts(now time.Time) {
	b.dropUnreachable() // of those that others have checked
	due := &b.hosts.due
	for n := 0; n < checksAtOnce && b.socket != nil && len(*due) > 0 && !(*due)[0].nextCheck.After(now); n++ {
		h := (*due)[0]
		b.checkNeighbour(h, now)
		b.dropUnreachable()
		if h.state != hostUnreachable || h.waitingIn == nil {
			continue
		}
		if !b.mayProbe(h, now) { // what was to leave as a probe, and others were faster
			b.hosts.lost = append(b.hosts.lost, h)
			b.dropUnreachable()
			continue
		}
		w := h.waitingIn.first
		b.probeHost(h, multicast.Datagram{To: w.to, Payload: w.payload}, now)
	}
}

// probeHost makes the kernel resolve an unreachable host again, by sending a copy of the datagram that
// waits for it: that one goes on waiting. Callers hold mu, and there is a socket.
func (b *binding) probeHost(h *host, d multicast.Datagram, now time.Time) {
	if h.reach != multicast.ReachIncomplete && b.mayProbeWith(h, len(d.Payload), now) {
		b.counters.number(0, h.rule)
		_, _ = b.transmit(nil, []multicast.Datagram{d}, false, nil, func(int, error) {})
	}
}

// errUnreachable is why a datagram is dropped as unreachable.
func (h *host) errUnreachable() error {
	switch {
	case h.unlisted:
		return fmt.Errorf("host %s is not asked for on its link: it is known of %d hosts already whether they answer, which is all there is room for", h.addr, maxHosts)
	case h.skipped:
		return fmt.Errorf("host %s is not asked for on its link yet: %d other hosts of the rule are, and do not answer", h.addr, h.rule.asking.n)
	}
	return fmt.Errorf("host %s does not answer on its link; it has not since %s", h.addr, h.since.Format(time.RFC3339))
}

// awaitsHost reports whether the rule has a single host, and that is not reachable.
func (r *Rule) awaitsHost() bool {
	if r.makesTargets {
		return false
	}
	for _, h := range r.hosts {
		return !h.reachable()
	}
	return false
}

// waitingFor returns how many datagrams wait for a host alone, and not for their rate as well.
func (q *queue) waitingFor(h *host) int {
	if h.waitingIn == nil || h.rule.paced() {
		return 0
	}
	return h.waitingIn.n
}
