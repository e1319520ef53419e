package loopguard

import (
	"net/netip"
	"sync"
	"time"
)

// DedupCache knows what may come back, by whom, how often, and for how long.
type DedupCache struct {
	max  int
	time time.Duration

	mu      sync.Mutex
	entries map[digest]*dedupEntry
	ring    []logEntry // in the order of their time; the length is a power of two
	head    uint64
	tail    uint64
	peers   map[netip.Addr]*peerStats
}

// dedupEntry is what is known of one digest. Whatever we sent each other bridge may send
// once as well; and whatever we heard of one source, each of the others.
type dedupEntry struct {
	sent         int
	observations []observation
}

// observation is what one rule heard of one source.
type observation struct {
	by        uint64 // number of the rule
	from      netip.Addr
	originals int // heard of it, and not known
	echoes    int // heard of it, and known
}

// logEntry is one event of an entry, in the order of time.
type logEntry struct {
	digest digest
	until  time.Time
	by     uint64 // number of the rule; 0: sent
	from   netip.Addr
}

// peerStats is what was learnt of a source: whether it says things of its own, as
// devices do, or only what others said, as bridges do.
type peerStats struct{ originals, echoes int }

const (
	maxPeers = 1 << 12
	// maxEvidence bounds what is counted for and against a peer, so that the
	// judgement can change.
	maxEvidence = 64
)

// NewDedupCache makes a cache that knows nothing yet.
func NewDedupCache(o Options) *DedupCache {
	return &DedupCache{max: o.Memory, time: o.Time, entries: make(map[digest]*dedupEntry), peers: make(map[netip.Addr]*peerStats)}
}

// Add expects a digest to come back: once to us, or once of each other bridge.
func (c *DedupCache) Add(t digest, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	c.entry(t).sent++
	c.record(logEntry{digest: t, until: now.Add(c.time)})
}

// TakeBack reports whether a digest that only comes back to us has come back.
func (c *DedupCache) TakeBack(t digest, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	return c.entries[t] != nil && c.known(t, 0, netip.Addr{})
}

// HeardBefore reports whether a rule hears a digest from a source because another bridge has
// sent it too. What is new is remembered, for other bridges will.
func (c *DedupCache) HeardBefore(t digest, by uint64, from netip.Addr, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	s := c.peers[from]
	if s == nil {
		if len(c.peers) >= maxPeers {
			clear(c.peers)
		}
		s = new(peerStats)
		c.peers[from] = s
	}
	known := c.entries[t] != nil && c.known(t, by, from)
	if s.learn(known); known && s.originals <= s.echoes {
		return true
	}
	c.entry(t).observationOf(by, from).originals++
	c.record(logEntry{t, now.Add(c.time), by, from})
	return false
}

// learn counts what is heard from a peer: what it says of its own speaks for a
// device, what others said before, for a bridge.
func (s *peerStats) learn(known bool) {
	if known {
		s.echoes++
	} else {
		s.originals++
	}
	if s.echoes+s.originals > maxEvidence {
		s.echoes, s.originals = s.echoes/2, s.originals/2
	}
}

// known reports whether a digest may come from a source once more, and counts it as come.
func (c *DedupCache) known(t digest, by uint64, from netip.Addr) bool {
	e := c.entries[t]
	h := e.observationOf(by, from)
	if h.echoes >= e.expected(h) {
		return false
	}
	h.echoes++
	return true
}

// expected is how often a digest may come from a source in all.
func (e *dedupEntry) expected(of *observation) int {
	n := e.sent
	for i := range e.observations {
		if h := &e.observations[i]; h.by == of.by && h.from != of.from {
			n += h.originals
		}
	}
	return n
}

func (e *dedupEntry) observationOf(by uint64, from netip.Addr) *observation {
	for i := range e.observations {
		if h := &e.observations[i]; h.by == by && h.from == from {
			return h
		}
	}
	e.observations = append(e.observations, observation{by: by, from: from})
	return &e.observations[len(e.observations)-1]
}

func (c *DedupCache) entry(t digest) *dedupEntry {
	e := c.entries[t]
	if e == nil {
		e = new(dedupEntry)
		c.entries[t] = e
	}
	return e
}

// record appends an event to the log. Beyond the limit the oldest is forgotten.
func (c *DedupCache) record(x logEntry) {
	if c.tail-c.head == uint64(c.max) {
		c.forget()
	}
	if c.tail-c.head == uint64(len(c.ring)) {
		c.grow()
	}
	c.ring[c.tail&uint64(len(c.ring)-1)] = x
	c.tail++
}

func (c *DedupCache) expire(now time.Time) {
	for c.head < c.tail && c.ring[c.head&uint64(len(c.ring)-1)].until.Before(now) {
		c.forget()
	}
}

// forget drops the oldest event. Equal digests are one as good as another, so what
// came back stands for the oldest.
func (c *DedupCache) forget() {
	x := c.ring[c.head&uint64(len(c.ring)-1)]
	c.head++
	e := c.entries[x.digest]
	if x.by == 0 {
		e.sent--
	} else {
		e.observationOf(x.by, x.from).originals--
	}
	left := e.sent
	for i := range e.observations {
		h := &e.observations[i]
		left += h.originals
		if expected := x.by == 0 || h.by == x.by && h.from != x.from; expected && h.echoes > 0 {
			h.echoes--
		}
	}
	if left == 0 {
		delete(c.entries, x.digest)
	}
}

func (c *DedupCache) grow() {
	old := c.ring
	c.ring = make([]logEntry, max(64, 2*len(old)))
	for i := c.head; i < c.tail; i++ {
		c.ring[i&uint64(len(c.ring)-1)] = old[i&uint64(len(old)-1)]
	}
}
