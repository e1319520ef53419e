package loopguard

import "time"

// peers are what was learnt of sources. One that was heard often enough for long enough is
// known, and those who forge senders cannot have it forgotten: as long as they do not come
// again in a while, new ones take each other's place only.
type peers struct {
	known     generations
	entered   int // into known since its last turn, from newcomers
	turned    time.Time
	newcomers generations

	forgotten uint64    // newcomers, as there were too many
	crowded   time.Time // until when a new one may be somebody who was forgotten
}

// peer is what was learnt of one source: whether it says things of its own, as
// devices do, or only what others said, as bridges do.
type peer struct {
	originals, echoes int
	heard             int       // at most knownEvidence
	since             time.Time // heard first
	known             bool
}

const (
	// maxPeers bounds each half of the known ones, and of the newcomers. Half of that
	// may become known until those not heard since are forgotten, knownFor later.
	maxPeers = 1 << 12
	knownFor = time.Hour
	// What has become of a newcomer when it is taken for known.
	knownEvidence = 4
	knownAfter    = time.Second
	// crowdedFor is how long after newcomers were forgotten a new one gets the benefit of
	// the doubt: credit times what it says goes on though others have said it before.
	crowdedFor = time.Minute
	credit     = 8
	// maxEvidence bounds what is counted for and against a peer, so that the
	// judgement can change.
	maxEvidence = 64
)

func newPeers() peers { return peers{known: newGenerations(), newcomers: newGenerations()} }

func (ps *peers) len() int { return ps.known.len() + ps.newcomers.len() }

// find finds a peer, or makes a newcomer.
func (ps *peers) find(from uint64, now time.Time) *peer {
	if p := ps.known.find(from); p != nil {
		return p
	}
	if p := ps.newcomers.find(from); p != nil {
		return p
	}
	p := &peer{since: now}
	if now.Before(ps.crowded) {
		p.originals = credit
	}
	if ps.newcomers.full() {
		if n := ps.newcomers.turn(); n > 0 {
			ps.forgotten += uint64(n)
			ps.crowded = now.Add(crowdedFor)
		}
	}
	ps.newcomers.now[from] = p
	return p
}

// promote makes a newcomer that was heard once more known, if it is time to and there is room.
func (ps *peers) promote(from uint64, p *peer, now time.Time) {
	if p.known {
		return
	}
	if p.heard = min(p.heard+1, knownEvidence); p.heard < knownEvidence || now.Sub(p.since) < knownAfter {
		return
	}
	if ps.entered >= maxPeers/2 || ps.known.full() {
		if now.Sub(ps.turned) < knownFor {
			return
		}
		ps.known.turn()
		ps.turned, ps.entered = now, 0
	}
	p.known = true
	ps.entered++
	ps.known.now[from] = p
	ps.newcomers.remove(from)
}

// learn counts what is heard from a peer: what it says of its own speaks for a
// device, what others said before, for a bridge.
func (p *peer) learn(echo bool) {
	if echo {
		p.echoes++
	} else {
		p.originals++
	}
	if p.echoes+p.originals > maxEvidence {
		p.echoes, p.originals = p.echoes/2, p.originals/2
	}
}

// isBridge reports whether a peer mostly says what others said before.
func (p *peer) isBridge() bool { return p.originals <= p.echoes }

// generations are peers in two halves: the current ones, and the previous, which are forgotten at the
// next turn if they are not heard again.
type generations struct{ now, before map[uint64]*peer }

func newGenerations() generations {
	return generations{now: make(map[uint64]*peer)}
}

func (g *generations) len() int   { return len(g.now) + len(g.before) }
func (g *generations) full() bool { return len(g.now) >= maxPeers }

func (g *generations) find(from uint64) *peer {
	p := g.now[from]
	if p == nil {
		if p = g.before[from]; p != nil && !g.full() {
			delete(g.before, from)
			g.now[from] = p
		}
	}
	return p
}

// turn forgets the previous ones, and returns how many they were.
func (g *generations) turn() (forgotten int) {
	forgotten = len(g.before)
	g.now, g.before = make(map[uint64]*peer), g.now
	return forgotten
}

func (g *generations) remove(from uint64) {
	delete(g.now, from)
	delete(g.before, from)
}
