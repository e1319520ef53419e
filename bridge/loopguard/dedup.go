package loopguard

import (
	"sync"
	"time"
)

// DedupCache knows what may come back, by whom, how often, and for how long. What it does
// for one datagram does not depend on how much it knows: those who forge senders can
// make it forget each other, and cannot make it slow.
type DedupCache struct {
	time time.Duration

	mu           sync.Mutex
	said         map[Digest]*tally
	heard        map[heardKey]*tally
	observations map[observationKey]*observation
	log          eventLog
	peers        peers
}

// tally counts events of one digest: that we sent it or published it, or that one rule heard
// it, of any source. Both numbers only grow, so that they are places in a row: what
// is between them is remembered.
type tally struct {
	added, forgotten uint64
	trusted          int // of those remembered, of known peers
	users            int // observations and events that need it
}

func (t *tally) live() uint64 { return t.added - t.forgotten }

// count counts an event, and uncount takes the oldest back.
func (t *tally) count(kind eventKind) {
	t.added++
	if kind == ofKnown {
		t.trusted++
	}
}

func (t *tally) uncount(kind eventKind) {
	t.forgotten++
	if kind == ofKnown {
		t.trusted--
	}
}

type heardKey struct {
	digest Digest
	by     uint64 // number of the rule
}

type observationKey struct {
	heardKey
	from uint64 // SourceDigest of the source
}

// observation is what one rule heard of one source. Whatever we sent, each other bridge may
// send once as well, and whatever we heard of one source, each of the others: all that
// was sent and heard makes one row for the observation, less its own, and
// each echo takes the next place in it.
type observation struct {
	key         observationKey
	said, heard *tally
	own         tally  // of heard, what came of this source
	next        uint64 // place in the row
	events      int    // that are remembered
}

// NewDedupCache makes a cache that knows nothing yet.
func NewDedupCache(o Options) *DedupCache {
	return &DedupCache{
		time: o.Time, log: newEventLog(o.Memory), peers: newPeers(),
		said: make(map[Digest]*tally), heard: make(map[heardKey]*tally), observations: make(map[observationKey]*observation),
	}
}

// Add expects a digest to come back: once to us, or once of each other bridge.
func (c *DedupCache) Add(t Digest, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	use(c.said, t).count(ours)
	c.record(event{kind: ours, digest: t}, now)
}

// TakeBack reports whether a digest that only comes back to us has come back.
func (c *DedupCache) TakeBack(t Digest, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	if c.said[t] == nil {
		return false
	}
	o := c.observation(observationKey{heardKey: heardKey{digest: t}})
	known := o.takeEcho()
	if known {
		c.record(event{kind: ours, echo: true, of: o}, now)
	}
	c.forgetUnused(o)
	return known
}

// HeardBefore reports whether a rule hears a digest because another bridge has sent it too;
// from is the SourceDigest of who did. What is new is remembered, for other bridges will.
func (c *DedupCache) HeardBefore(t Digest, by, from uint64, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	p := c.peers.find(from, now)
	o := c.observation(observationKey{heardKey{t, by}, from})
	kind := ofNewcomer
	if p.known {
		kind = ofKnown
	}
	echo := o.takeEcho()
	if !echo || o.believable() {
		p.learn(echo)
	}
	c.peers.promote(from, p, now)
	if echo && p.isBridge() {
		c.record(event{kind: kind, echo: true, of: o}, now)
		return true
	}
	o.heard.count(kind)
	o.own.count(kind)
	c.record(event{kind: kind, of: o}, now)
	return false
}

// takeEcho reports whether a digest may come once more from the source, and counts it as
// come.
func (o *observation) takeEcho() bool {
	o.next = max(o.next, o.said.forgotten+o.heard.forgotten-o.own.forgotten)
	if o.next == o.said.added+o.heard.added-o.own.added {
		return false
	}
	o.next++
	return true
}

// believable reports whether an echo says something about who sent it: we sent it ourselves,
// or heard it from somebody who is known. Who forges a sender could else say before what a
// device is about to say, and have it taken for a bridge.
func (o *observation) believable() bool {
	return o.said.live() > 0 || o.heard.trusted > o.own.trusted
}

// use finds a tally, or makes one, for one more user.
func use[K comparable](all map[K]*tally, k K) *tally {
	t := all[k]
	if t == nil {
		t = new(tally)
		all[k] = t
	}
	t.users++
	return t
}

func unuse[K comparable](all map[K]*tally, k K) {
	if t := all[k]; t.users > 1 {
		t.users--
	} else {
		delete(all, k)
	}
}

func (c *DedupCache) observation(k observationKey) *observation {
	o := c.observations[k]
	if o == nil {
		o = &observation{key: k, said: use(c.said, k.digest), heard: use(c.heard, k.heardKey)}
		c.observations[k] = o
	}
	return o
}

// forgetUnused forgets an observation of which no event is remembered.
func (c *DedupCache) forgetUnused(o *observation) {
	if o.events > 0 {
		return
	}
	delete(c.observations, o.key)
	unuse(c.said, o.key.digest)
	unuse(c.heard, o.key.heardKey)
}

// record remembers an event. Beyond the limit another one is forgotten.
func (c *DedupCache) record(e event, now time.Time) {
	if e.of != nil {
		e.of.events++
	}
	for c.log.full() {
		c.forget(c.log.evict(e.kind))
	}
	e.until = now.Add(c.time)
	c.log.append(e)
}

// expire forgets what is over.
func (c *DedupCache) expire(now time.Time) {
	for kind := range eventKinds {
		for e := c.log.oldest(kind); e != nil && e.until.Before(now); e = c.log.oldest(kind) {
			c.forget(c.log.pop(kind))
		}
	}
}

// forget takes back what an event counts. Equal digests are one as good as another, so what
// came back stands for the oldest. An echo is forgotten later than what it is one
// of, so that nothing is left of it.
func (c *DedupCache) forget(e event) {
	o := e.of
	if o == nil {
		c.said[e.digest].uncount(ours)
		unuse(c.said, e.digest)
		return
	}
	if !e.echo {
		o.heard.uncount(e.kind)
		o.own.uncount(e.kind)
	}
	o.events--
	c.forgetUnused(o)
}

// Usage is what the cache has in use, and what it had to forget before its time.
type Usage struct {
	Remembered       int    `json:"remembered"`                  // messages and datagrams, within loops.memory
	Forgotten        uint64 `json:"forgotten,omitempty"`         // of these, before loops.time was over, as there were too many
	Senders          int    `json:"senders"`                     // of which it is known whether they are bridges
	SendersForgotten uint64 `json:"senders_forgotten,omitempty"` // as there were too many
}

// Usage is that of now.
func (c *DedupCache) Usage() Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Usage{c.log.len(), c.log.evicted, c.peers.len(), c.peers.forgotten}
}
