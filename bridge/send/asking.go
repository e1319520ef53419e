package send

import "time"

// Who may publish to a rule whose host is a template can name ever more hosts that are not there. The
// kernel asks for each for 3 seconds, and keeps an entry of its neighbour table for it meanwhile. That
// table has room for 1,024 (net.ipv4.neigh.default.gc_thresh3), in all namespaces together, groups
// included: once it is full nothing can leave to a group or a host that is not in it. So the hosts that
// are asked for at a time are bounded, and each rule may have as many of them as are left: one alone
// gets half, and there is always room for one more rule.

const (
	// maxAsked is how many hosts the kernel is asked for at a time.
	maxAsked = 512
	// A host that finds no room waits for it as long as others of its rule find some, so many of them in
	// this time: of hosts that answer thousands find their turn within a second. Of hosts that do not
	// answer no rule has more than 85 a second asked for (half of maxAsked, each for 3 seconds).
	progressCount  = 64
	progressWithin = 500 * time.Millisecond
)

// asking are the hosts of a rule that the kernel is asked for. Guarded by the binding's mu.
type asking struct {
	n     int
	begun []time.Time // when the last progressCount of them began, a ring; nil: none did yet
	next  int         // the oldest of these
}

// ask counts a host as one that the kernel is asked for. It reports false if there are too many.
// Callers hold mu.
func (b *binding) ask(h *host, now time.Time) bool {
	if h.asked {
		return true
	}
	r := h.rule
	if !b.mayAsk(h) {
		return false
	}
	if r.asking.begun == nil {
		r.asking.begun = make([]time.Time, progressCount)
	}
	b.path.askedHosts.Add(1)
	r.asking.n++
	r.asking.begun[r.asking.next] = now
	r.asking.next = (r.asking.next + 1) % progressCount
	h.asked, h.skipped = true, false
	return true
}

// mayAsk reports whether the kernel may be asked for one more host of a rule. Those that did not answer get half
// of what others get, so that a new one finds room beside them. Callers hold mu.
func (b *binding) mayAsk(h *host) bool {
	if h.asked {
		return true
	}
	left := maxAsked - int(b.path.askedHosts.Load())
	if h.state == hostUnreachable {
		left /= 2
	}
	return h.rule.asking.n < left
}

// progresses reports whether others of the rule found room lately, so that a host may wait for it.
func (a *asking) progresses(now time.Time) bool {
	return a.begun == nil || now.Sub(a.begun[a.next]) < progressWithin
}

// asksNoMore notes that the kernel does not ask for a host any more. Callers hold mu.
func (b *binding) asksNoMore(h *host) {
	if h.asked {
		h.asked = false
		h.rule.asking.n--
		b.path.askedHosts.Add(-1)
	}
}
