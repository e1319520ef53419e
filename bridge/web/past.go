package web

import (
	"iter"
	"math"
	"time"

	"topicast/bridge"
)

const (
	// graphPoints is how many samples a graph has: five minutes, one each samplePeriod.
	graphPoints = 150

	// maxGraphs is how many are remembered: one of what came in for each rule that had anything
	// lately, and one of what it dropped. Of 10,000 rules that is 12 MB.
	maxGraphs = 20000
)

// past is what came in lately, and what was dropped, rule by rule. It is kept here and not by each
// page, so that whoever opens one because of a trouble sees how it began, if another one is open.
type past struct {
	at     int       // of the newest point in each ring
	round  uint64    // how many samples were taken
	time   time.Time // of the last
	rules  map[string]*series
	graphs int // how many rings there are
	totals [numTotals]ring
	newest [numTotals]uint32
}

// The totals, over all rules.
const (
	sendIn = iota // messages
	sendOut
	receiveIn // datagrams
	receiveOut
	dropped
	numTotals
)

// A ring has the points of a graph.
type ring [graphPoints]uint32

// series is what is remembered of a rule.
type series struct {
	in, out, lost    uint64 // as counted at the last sample
	newIn, newLost   uint32 // since the one before
	ringIn, ringLost *ring  // nil: it is all zero, or there is no room
	round            uint64 // of the last sample that had the rule
	newOut           uint32
}

func newPast() *past { return &past{rules: make(map[string]*series)} }

// sample takes the next point of each graph.
func (p *past) sample(all iter.Seq[bridge.RuleCounts], now time.Time) {
	took := now.Sub(p.time)
	p.round, p.time = p.round+1, now
	p.at = (p.at + 1) % graphPoints
	p.newest = [numTotals]uint32{}
	rules := 0
	for c := range all {
		rules++
		s := p.rules[c.Name]
		if s == nil {
			s = &series{in: c.In, out: c.Out, lost: c.Dropped}
			p.rules[c.Name] = s
		}
		s.round = p.round
		s.newIn, s.newOut, s.newLost = gain(&s.in, c.In, took), gain(&s.out, c.Out, took), gain(&s.lost, c.Dropped, took)
		p.put(&s.ringIn, s.newIn)
		p.put(&s.ringLost, s.newLost)
		in, out := sendIn, sendOut
		if c.Direction == "receive" {
			in, out = receiveIn, receiveOut
		}
		add(&p.newest[in], s.newIn)
		add(&p.newest[out], s.newOut)
		add(&p.newest[dropped], s.newLost)
	}
	for i, n := range p.newest {
		p.totals[i][p.at] = n
	}
	if rules < len(p.rules) {
		p.forget()
	}
}

// gain is how much a counter has grown in a samplePeriod; one that is less than it was began anew.
func gain(last *uint64, now uint64, took time.Duration) uint32 {
	n := now - *last
	if now < *last {
		n = now
	}
	*last = now
	if late := took - samplePeriod; late.Abs() > samplePeriod/10 && took > 0 { // a busy host, or one that slept
		n = uint64(math.Round(float64(n) * float64(samplePeriod) / float64(took)))
	}
	return uint32(min(n, math.MaxUint32))
}

func add(to *uint32, n uint32) { *to = uint32(min(uint64(*to)+uint64(n), math.MaxUint32)) }

// put writes a point. A graph takes memory from its first that is not zero.
func (p *past) put(r **ring, n uint32) {
	if *r == nil {
		if n == 0 || p.graphs >= maxGraphs {
			return
		}
		p.graphs++
		*r = new(ring)
	}
	(*r)[p.at] = n
}

// forget lets go of rules that a reload has removed.
func (p *past) forget() {
	for name, s := range p.rules {
		if s.round == p.round {
			continue
		}
		for _, r := range []*ring{s.ringIn, s.ringLost} {
			if r != nil {
				p.graphs--
			}
		}
		delete(p.rules, name)
	}
}

// points are those of a ring, the oldest first, from the first that is not zero on.
func (p *past) points(r *ring) []uint32 {
	if r == nil {
		return nil
	}
	all := append(append(make([]uint32, 0, graphPoints), r[p.at+1:]...), r[:p.at+1]...)
	for i, n := range all {
		if n != 0 {
			return all[i:]
		}
	}
	return nil
}

// A graph is what a page draws of a rule.
type graph struct {
	In   []uint32 `json:"in,omitempty"`
	Lost []uint32 `json:"lost,omitempty"`
}

// graph is that of a rule.
func (p *past) graph(rule string) (g graph) {
	if s := p.rules[rule]; s != nil {
		g = graph{p.points(s.ringIn), p.points(s.ringLost)}
	}
	return g
}

// last is the newest point of a rule.
func (p *past) last(rule string) (in, lost uint32) {
	if s := p.rules[rule]; s != nil {
		return s.newIn, s.newLost
	}
	return 0, 0
}
