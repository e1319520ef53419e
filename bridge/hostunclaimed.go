package bridge

import (
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
)

// HostUnclaimedStatus are the UDP datagrams that came to this host since the start and
// that no program took, topicast or another: of all ports, for the kernel counts no
// more exactly. Where a receive rule hears nothing and one of these grows, the sender
// may send to the host's address, by broadcast, or to another port of a group.
type HostUnclaimedStatus struct {
	Unicast   uint64 `json:"unicast"`
	Multicast uint64 `json:"multicast"` // broadcast too
}

// unclaimed is what the bridge keeps of those counts.
type unclaimed struct {
	start atomic.Pointer[multicast.HostUnclaimed] // nil: not known
	last  multicast.HostUnclaimed                 // at the last hint or look for one; of watch
}

// begin notes the counts of the start.
func (u *unclaimed) begin(n network) {
	if now, err := n.hostUnclaimed(); err == nil {
		u.start.Store(&now)
		u.last = now
	}
}

// hostUnclaimedStatus returns nil where nothing is known, or no rule receives.
func (b *Bridge) hostUnclaimedStatus() *HostUnclaimedStatus {
	start := b.unclaimed.start.Load()
	if start == nil || len(b.current().receive.Rules) == 0 {
		return nil
	}
	now, err := b.options.network.hostUnclaimed()
	if err != nil {
		return nil
	}
	since := now.Sub(*start)
	return &HostUnclaimedStatus{since.Unicast, since.Multicast}
}

// silentFor is how long a rule has to be up and hear nothing before it is worth a hint.
const silentFor = time.Minute

// logSilence logs, once a rule, that it has heard nothing since it is up though
// datagrams come that nobody takes. They may be others, so it asks.
func (b *Bridge) logSilence(now time.Time) {
	if b.unclaimed.start.Load() == nil {
		return
	}
	counts, err := b.options.network.hostUnclaimed()
	if err != nil {
		return
	}
	came := counts.Sub(b.unclaimed.last)
	b.unclaimed.last = counts
	if came == (multicast.HostUnclaimed{}) {
		return
	}
	silent := b.receive.Silent(now, silentFor)
	if len(silent) > 0 {
		question := "does the sender send to the address of this host, by broadcast, or to another port, instead of to the group? (for what comes to this host itself a rule has port in place of group)"
		if silent[0].Port != 0 {
			question = "does the sender send to another port, or to a group?"
		}
		b.log.Info("nothing heard yet, though datagrams come to this host that no program takes: "+question,
			"rule", silent[0].Name, "rules", len(silent), "unicast", came.Unicast, "multicast", came.Multicast)
	}
}
