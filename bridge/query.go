package bridge

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/receive"
	"topicast/bridge/send"
)

// Query narrows a Status to some of its rules. The zero Query is all of them, in the
// order of the configuration.
type Query struct {
	Match string // only rules with this text in their name, filter, topic, group, interface or source; case does not matter
	State string // only rules that are this in the Summary: losing, pending, degraded, disabled, up or idle; "": any
	Sort  string // one of Sorts; "": as configured
	Limit int    // at most so many; 0: no limit
}

// Sorts are the orders that a Query can ask for.
func Sorts() []string { return []string{"table", "trouble", "name", "drops", "waiting", "last"} }

// Summary counts the rules by what becomes of their messages, each once.
type Summary struct {
	Rules    int `json:"rules"`    // all
	Matched  int `json:"matched"`  // that the query asks for, its limit aside; of those that have its text
	Losing   int `json:"losing"`   // dropped something in the last minute
	Pending  int `json:"pending"`  // else: their state
	Degraded int `json:"degraded"` // likewise
	Disabled int `json:"disabled"` // likewise, before all else
	Up       int `json:"up"`       // else: had a message in the last minute
	Idle     int `json:"idle"`     // else
}

// recent is how long a rule counts as losing after a drop, and as not idle after a
// message.
const recent = time.Minute

// The rules of a Summary, what is worst first.
const (
	ruleLosing = iota
	rulePending
	ruleDegraded
	ruleDisabled
	ruleUp
	ruleIdle
)

// Views are what a Query can ask for by State.
func Views() []string { return ruleViews[:] }

var ruleViews = [...]string{"losing", "pending", "degraded", "disabled", "up", "idle"}

// view is a rule in a list: what it takes to choose and to sort it, without the words.
type view struct {
	send    *send.Rule
	receive *receive.Rule // of the two one is set
	is      int           // ruleLosing or another
	key     int64         // the less, the further in front
}

func (v *view) name() string {
	if v.send != nil {
		return v.send.Name
	}
	return v.receive.Name
}

// look is what a view is made with.
type look struct {
	query Query
	now   time.Time
	sends *send.View
}

// choose finds the rules that the query asks for, in its order.
func (g *generation) choose(l *look) (chosen []view, sum Summary) {
	l.query.Match = strings.ToLower(l.query.Match)
	chosen = make([]view, 0, len(g.send.Rules)+len(g.receive.Rules))
	add := func(v view, state account.State, of *account.Counters, last int64) {
		sum.Rules++
		if l.query.Match != "" && !v.has(l) {
			return
		}
		v.is = viewOf(state, of.LastDrop(), last, l.now)
		*sum.of(v.is)++
		if l.query.State != "" && l.query.State != ruleViews[v.is] {
			return
		}
		switch l.query.Sort {
		case "trouble":
			v.key = int64(min(v.is, ruleUp)) // what comes and goes must not move all others
		case "drops":
			v.key = -int64(of.Dropped())
		case "last":
			if v.key = -last; last == 0 {
				v.key = math.MaxInt64
			}
		case "waiting":
			v.key = -v.waits()
		}
		chosen = append(chosen, v)
	}
	for _, r := range g.send.Rules {
		state, _ := l.sends.Judge(r)
		add(view{send: r}, state, &r.Counters, r.LastReceived.Load())
	}
	for _, r := range g.receive.Rules {
		state, _ := r.Judge(l.now)
		add(view{receive: r}, state, &r.Counters, r.LastReceived.Load())
	}
	sum.Matched = len(chosen)
	switch l.query.Sort {
	case "", "table":
	case "name":
		slices.SortStableFunc(chosen, func(a, b view) int { return strings.Compare(a.name(), b.name()) })
	default:
		slices.SortStableFunc(chosen, func(a, b view) int { return cmp.Compare(a.key, b.key) })
	}
	if n := l.query.Limit; n > 0 && n < len(chosen) {
		chosen = chosen[:n]
	}
	return chosen, sum
}

// viewOf is what a rule counts as in a Summary.
func viewOf(state account.State, drop, last int64, now time.Time) int {
	lately := func(mark int64) bool { return mark != 0 && account.SinceMoment(mark, now) < recent }
	return viewIs(state, lately(drop), lately(last))
}

// viewIs is that of a rule that has lost, or had, something lately.
func viewIs(state account.State, lost, had bool) int {
	switch {
	case state == account.StateDisabled:
		return ruleDisabled
	case lost:
		return ruleLosing
	case state == account.StatePending:
		return rulePending
	case state == account.StateDegraded:
		return ruleDegraded
	case had:
		return ruleUp
	}
	return ruleIdle
}

func (s *Summary) of(is int) *int {
	return [...]*int{&s.Losing, &s.Pending, &s.Degraded, &s.Disabled, &s.Up, &s.Idle}[is]
}

// waits is how many bytes of the rule wait, in memory and on disk.
func (v *view) waits() int64 {
	var memory, disk int64
	if v.send != nil {
		memory, disk = v.send.Waits()
	} else {
		memory, disk = v.receive.Waits()
	}
	return memory + disk
}

// has reports whether the text that the query looks for is in what the rule says.
func (v *view) has(l *look) bool {
	if v.send != nil {
		return l.sends.Mentions(v.send, l.query.Match)
	}
	return v.receive.Mentions(l.query.Match)
}

// ViewOf is what a rule counts as in a Summary, by what its status says.
func ViewOf(state account.State, lastDrop, lastReceived, now time.Time) string {
	lately := func(t time.Time) bool { return !t.IsZero() && now.Sub(t) < recent }
	return ruleViews[viewIs(state, lately(lastDrop), lately(lastReceived))]
}
