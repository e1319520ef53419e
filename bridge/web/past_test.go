package web

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"testing"
	"time"

	"topicast/bridge"
)

// rulesOf yields counts of so many rules.
func rulesOf(n int, in uint64) iter.Seq[bridge.RuleCounts] {
	return func(yield func(bridge.RuleCounts) bool) {
		for i := range n {
			if !yield(bridge.RuleCounts{Direction: "send", Name: fmt.Sprint(i), In: in, Dropped: in}) {
				return
			}
		}
	}
}

// However many rules there are, and however long it goes on, the graphs take so much memory and no more;
// and a rule that has never had anything takes none.
func TestGraphsAreBounded(t *testing.T) {
	p, now := newPast(), time.Now()
	const many = maxGraphs // two graphs each
	p.sample(rulesOf(many, 0), now)
	if p.graphs != 0 {
		t.Errorf("%d graphs of nothing", p.graphs)
	}
	for i := range 3 {
		p.sample(rulesOf(many, uint64(i+1)), now)
	}
	if p.graphs != maxGraphs {
		t.Errorf("%d graphs, want %d", p.graphs, maxGraphs)
	}
	if in, lost := p.last(fmt.Sprint(many - 1)); in != 1 || lost != 1 || p.graph(fmt.Sprint(many-1)).In != nil {
		t.Errorf("one without a graph has %d and %d", in, lost)
	}
	// A reload that removes rules gives their memory back, for others.
	p.sample(rulesOf(10, 4), now)
	if p.graphs != 20 || len(p.rules) != 10 {
		t.Errorf("%d graphs of %d rules", p.graphs, len(p.rules))
	}
}

// A graph goes round: it has the last five minutes.
func TestAGraphHasTheLastPoints(t *testing.T) {
	p, now := newPast(), time.Now()
	one := func(in uint64) {
		now = now.Add(samplePeriod)
		p.sample(slices.Values([]bridge.RuleCounts{{Direction: "receive", Name: "r", In: in, Out: in / 2}}), now)
	}
	one(100)
	if g := p.graph("r"); g.In != nil {
		t.Errorf("it begins with %v", g)
	}
	n := uint64(100)
	for i := range 1 + 2*graphPoints {
		n += uint64(i)
		one(n)
	}
	if g := p.graph("r"); len(g.In) != graphPoints || g.In[0] != graphPoints+1 || g.In[graphPoints-1] != 2*graphPoints || g.Lost != nil {
		t.Errorf("%d points: %v", len(g.In), g)
	}
	if p.newest[receiveIn] != 2*graphPoints || p.newest[receiveOut] != graphPoints || p.newest[sendIn] != 0 {
		t.Errorf("in all %v", p.newest)
	}
	// A counter that began anew, one that is beyond a point, and a sample that was late.
	one(7)
	if in, _ := p.last("r"); in != 7 {
		t.Errorf("anew: %d", in)
	}
	one(1 << 40)
	if in, _ := p.last("r"); in != math.MaxUint32 {
		t.Errorf("beyond: %d", in)
	}
	now = now.Add(2 * samplePeriod)
	one(1<<40 + 300)
	if in, _ := p.last("r"); in != 100 {
		t.Errorf("300 in three periods: %d", in)
	}
}

// To sample makes no garbage: it is done every other second, of all rules.
func TestASampleMakesNoGarbage(t *testing.T) {
	b := bridgeOf(t, 1000, 1000)
	p := newPast()
	p.sample(b.Counts(), time.Now())
	if made := testing.AllocsPerRun(10, func() { p.sample(b.Counts(), time.Now()) }); made > 10 {
		t.Errorf("%v allocations for 2000 rules", made)
	}
}
