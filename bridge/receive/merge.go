package receive

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
)

// Copies of a stream that come by several ways, as of a redundant pair of senders or of
// networks (SMPTE ST 2022-7, RFC 7198), become one (merge). Each way is a leg: an interface and
// the address of a sender. What a leg brings first is published at once, and what another leg
// has brought before is left out; nothing waits, and nothing is put in order. Who brought what
// is told by payload and topic alone. Of equal payloads the n-th of a leg is the n-th of each
// other, so that a device may repeat itself; a leg that lacks some is level with the others
// again when the time is over.
//
// What cannot be remembered is published once more rather than lost, and counted.
type merge struct {
	within atomic.Int64 // how long after the first the copies may come
	room   *account.RuleBudget
	reason atomic.Pointer[string] // what is wrong with legs; nil: nothing

	mu       sync.Mutex
	now      int64 // the latest moment so far: readers take theirs at the same time
	recent   recent
	most     int    // occurrences at a time, since the room was looked at
	looked   int64  // moment of that
	unmerged uint64 // datagrams of which a copy may have been published too
	told     bool   // that there are such
	replaced bool   // a leg, since they were looked at
	keys     [maxLegs]uint64
	legs     [maxLegs]leg
	inUse    int // of these, from the first on
	closed   bool
}

const (
	// maxLegs is how many legs a rule has. Of a further one all is published.
	maxLegs = 16
	// maxMergeBytes bounds what is remembered for merge, of all rules. A quarter is kept for
	// these, each the same part.
	maxMergeBytes = 16 << 20
)

// mergeFor is what a rule of the configuration merges by, at all of its interfaces, in this table
// and the one before.
func (g *Generation) mergeFor(p *Path, name string, before *Generation) *merge {
	m := g.merges[name]
	if m == nil {
		if m = before.merges[name]; m == nil {
			m = &merge{room: p.mergeRoom.ForRule()}
		}
		if g.merges == nil {
			g.merges = make(map[string]*merge)
		}
		g.merges[name] = m
	}
	return m
}

// activateMerges has what is remembered for merge follow the rules of a table.
func (g *Generation) activateMerges(p *Path) {
	p.mergeRoom.Divide(0, len(g.merges))
	taking := make(map[*merge][]*Rule)
	for _, r := range g.Rules {
		if r.merge != nil {
			r.merge.within.Store(int64(r.Merge))
			taking[r.merge] = append(taking[r.merge], r)
		}
	}
	for m, rules := range taking {
		m.dismiss(func(source netip.Addr) bool {
			return !slices.ContainsFunc(rules, func(r *Rule) bool { return r.accepts(source) })
		})
	}
}

// retireMerges forgets what no rule of the next generation merges.
func (g *Generation) retireMerges(next *Generation) {
	for name, m := range g.merges {
		if next.merges[name] != m {
			m.close()
		}
	}
}

func (m *merge) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.resize(0)
}

// isDuplicate reports whether another leg has brought a datagram already. Two topics do
// not share one: seed is what tells the topic of this one from others.
func (m *merge) isDuplicate(r *groupReader, source netip.Addr, from, seed uint64, payload []byte, at int64) bool {
	digest, key := loopguard.Fingerprint(payload)^seed, from^r.digest
	m.mu.Lock()
	defer m.mu.Unlock()
	at = m.advance(at)
	m.expire(at)
	i := m.legOf(key, r.name, source)
	if i < 0 || len(m.recent.heard) == 0 && !m.makeRoom() {
		m.unmerged++
		return false
	}
	l := &m.legs[i]
	l.hear(at)
	c := m.recent.find(digest)
	if c.by[i] < c.n {
		c.by[i]++
		m.duplicate(c, i, at)
		return true
	}
	if m.recent.full() {
		if !m.makeRoom() {
			m.forgetOldest()
			m.unmerged++
		}
		c = m.recent.find(digest) // others have moved
	}
	m.recent.add(c, digest, at)
	c.by[i]++
	m.most = max(m.most, m.recent.len())
	return false
}

// advance is the moment of what is to be done now: no earlier than that of what was done before.
func (m *merge) advance(at int64) int64 {
	if m.inUse == 0 {
		m.now, m.looked = at, at
	}
	m.now = max(m.now, at)
	return m.now
}

// duplicate takes note that a leg has brought what was published already.
func (m *merge) duplicate(c *content, i int, at int64) {
	l := &m.legs[i]
	l.duplicates++
	if c.by[i] == c.n { // else it is the copy of an earlier one
		l.lags(time.Duration(at - c.last))
	}
	l.learn(at)
	for j := range m.legs[:m.inUse] {
		if j != i && c.by[j] >= c.by[i] {
			m.legs[j].learn(at)
		}
	}
}

// expire forgets what is over. What a leg has not brought by then it is missing.
func (m *merge) expire(now int64) {
	within := m.within.Load()
	for m.recent.len() > 0 {
		o := m.recent.oldest()
		if now-o.at <= within {
			return
		}
		c := m.recent.find(o.digest)
		known := m.broughtByKnown(c)
		for i := range m.legs[:m.inUse] {
			brought := c.by[i] > 0
			if brought {
				c.by[i]--
			}
			if known {
				m.legs[i].expect(o.at, brought)
			}
		}
		m.recent.forget(c)
	}
}

// broughtByKnown reports whether a leg that is known has brought the oldest of a content:
// what somebody else sends to the group is none that legs are missing.
func (m *merge) broughtByKnown(c *content) bool {
	for i := range m.legs[:m.inUse] {
		if c.by[i] > 0 && m.legs[i].known() {
			return true
		}
	}
	return false
}

// forgetOldest forgets an occurrence before its time: copies of it will be published.
func (m *merge) forgetOldest() {
	c := m.recent.find(m.recent.oldest().digest)
	for i := range c.by {
		if c.by[i] > 0 {
			c.by[i]--
		}
	}
	m.recent.forget(c)
}

// makeRoom makes room for twice as many occurrences, if there is any.
func (m *merge) makeRoom() bool {
	n := max(fewRecent, 2*len(m.recent.heard))
	return n <= maxRecent && !m.closed && m.resize(n)
}

// resize takes room for n occurrences in place of what there is.
func (m *merge) resize(n int) bool {
	was := len(m.recent.heard)
	if n > 0 && !m.room.Acquire(n*recentCost) {
		return false
	}
	m.recent.resize(n)
	if was > 0 {
		m.room.Release(1, was*recentCost)
	}
	return true
}

// shrinkAfter is how long room is kept that is not needed.
const shrinkAfter = time.Minute

// tidy gives back room that was not needed lately.
func (m *merge) tidy(now int64) {
	m.expire(now)
	if time.Duration(now-m.looked) < shrinkAfter {
		return
	}
	if n := max(fewRecent, 1<<bits.Len(uint(2*m.most))); n < len(m.recent.heard) {
		m.resize(n)
	}
	m.looked, m.most = now, m.recent.len()
}
