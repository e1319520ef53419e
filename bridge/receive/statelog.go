package receive

import (
	"strings"

	"topicast/bridge/account"
)

// maxNamed is how many rules get a line each that change their state together, in the same
// way and for the same reason. With more the first one stands for all: thousands of rules
// have one interface.
const maxNamed = 5

// stateChange is what the log tells of a rule.
type stateChange struct {
	rule   *Rule
	status Status
	kind   stateKind
}

// stateKind is what changes of one kind have in common.
type stateKind struct {
	state     account.State
	on, cause string
}

// logStateChanges logs what has become of the memberships of rules, where it has changed.
func (p *Path) logStateChanges() {
	var changes []stateChange
	of := make(map[stateKind]int)
	for _, r := range p.working.Load().Rules {
		if s, changed := r.stateChange(); changed {
			c := stateChange{r, s, stateKind{s.State, s.Interface, constantPart(r.loggedReason)}}
			changes = append(changes, c)
			of[c.kind]++
		}
	}
	for _, c := range changes {
		switch n := of[c.kind]; {
		case n == 0: // the first has told of it
		case n <= maxNamed:
			c.log()
		default:
			c.log("more_rules", n-1)
			of[c.kind] = 0
		}
	}
}

// stateChange is what has become of the rule's memberships, and reports whether that is
// another state than the one that was logged last, or pending for another reason.
func (r *Rule) stateChange() (s Status, changed bool) {
	if r.disabled != nil { // whoever has done it has logged it
		return s, false
	}
	r.describeReaders(&s)
	cause, _, _ := strings.Cut(s.Reason, " (") // what is in brackets may change with every look
	if s.State == r.loggedState && (s.State != account.StatePending || cause == r.loggedReason) {
		return s, false
	}
	r.loggedState, r.loggedReason = s.State, cause
	return s, true
}

func (c *stateChange) log(more ...any) {
	s := &c.status
	attrs := append([]any{"rule", c.rule.Name}, more...)
	attrs = append(attrs, "interface", s.Interface, "joined", s.Joined)
	if s.Buffer > 0 {
		attrs = append(attrs, "buffer", s.Buffer)
	}
	if s.State == account.StateUp {
		c.rule.Log.Info("receiving", attrs...)
		return
	}
	c.rule.Log.Warn("receive rule "+string(s.State)+"; it goes on by itself when it can", append(attrs, "groups", s.Sockets, "err", s.Reason)...)
}

// constantPart is a reason without its numbers, which differ from group to group.
func constantPart(reason string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, reason)
}
