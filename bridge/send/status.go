package send

import (
	"fmt"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// Status is one send rule: what it says, what it does now, and what has become of
// its messages since the start.
type Status struct {
	Name       string            `json:"name"`
	Rule       string            `json:"rule,omitempty"` // what the configuration calls it, of a rule with several interfaces: this is it by one of them
	Direction  string            `json:"direction"`      // send
	Filter     string            `json:"filter"`
	Share      string            `json:"share,omitempty"` // the shared subscription by which it comes
	Group      string            `json:"group,omitempty"`
	Host       string            `json:"host,omitempty"` // in place of group
	Interface  string            `json:"interface,omitempty"`
	Source     string            `json:"source,omitempty"` // with the port once it is up
	State      account.State     `json:"state"`
	Reason     string            `json:"reason,omitempty"`
	Since      time.Time         `json:"since"`
	SelfTest   SelfTest          `json:"self_test"`
	Unclaimed  uint64            `json:"unclaimed"`            // datagrams that came to the port it sends from, and that nobody takes; rules of one port share the count
	OneByOne   string            `json:"one_by_one,omitempty"` // why datagrams are given to the kernel one by one, where they could leave in runs
	Received   uint64            `json:"messages_received"`
	Sent       uint64            `json:"datagrams_sent"`
	SentBytes  uint64            `json:"sent_bytes"`
	Left       uint64            `json:"messages_left"`                 // left with the broker for want of room; each counts as received again when it is repeated
	Again      uint64            `json:"datagrams_sent_again"`          // of those that were sent, by repeat and refresh
	Kept       int               `json:"topics_sent_again"`             // of which the last datagram is kept for that
	Down       int               `json:"hosts_down,omitempty"`          // how many of its hosts do not answer
	HostsDown  []HostDown        `json:"down,omitempty"`                // those of them that do not for the longest, 16 at the most
	ICMPErrors uint64            `json:"icmp_errors,omitempty"`         // that came about its datagrams to hosts
	HostErrors []HostError       `json:"host_errors,omitempty"`         // by host, those that came last, 16 at the most
	Answers    uint64            `json:"answers,omitempty"`             // datagrams that came back, of a rule with answer
	Answered   uint64            `json:"requests_answered,omitempty"`   // requests that had one, at least
	Unanswered uint64            `json:"requests_unanswered,omitempty"` // and that had none
	Members    []members.Answer  `json:"members,omitempty"`             // who has joined its groups, of a rule with members, 16 at the most
	Drops      map[string]uint64 `json:"drops,omitempty"`               // what was lost, by reason
	FirstDrops map[string]string `json:"first_drops,omitempty"`         // topic and cause of the first of each reason
	Filtered   map[string]uint64 `json:"filtered,omitempty"`            // what the configuration asks not to carry, by reason
	account.Lately
}

// SelfTest is what the binding's probe of itself showed.
type SelfTest struct {
	Result string `json:"result,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// troubles are subscriptions that the broker has not granted as asked, and what there is
// to say of each.
type troubles struct {
	filters []mapping.Filter
	texts   []string
	set     *mapping.FilterSet // of filters; nil: there are none
}

func (t *troubles) add(f mapping.Filter, text string) {
	t.filters, t.texts = append(t.filters, f), append(t.texts, text)
}

// covering returns what there is to say of a filter.
func (t *troubles) covering(f mapping.Filter) (text string, ok bool) {
	if t.set == nil {
		return "", false
	}
	i := t.set.Covering(f)
	if i < 0 {
		return "", false
	}
	return t.texts[i], true
}

// troubled divides the subscriptions in trouble into those that were refused, and
// those that were granted with less than was asked for.
func troubled(subs []session.SubscriptionState) (refused, lowered troubles) {
	for _, s := range subs {
		switch f, err := mapping.ParseFilter(mapping.Unshared(s.Filter)); {
		case err != nil:
		case s.Active:
			lowered.add(f, fmt.Sprintf("the subscription to %s is %s", f, s.Err))
		case s.Surplus: // one reason for many rules
			refused.add(f, s.Err)
		default:
			refused.add(f, fmt.Sprintf("no subscription to %s: %s", f, s.Err))
		}
	}
	for _, t := range []*troubles{&refused, &lowered} {
		if t.filters != nil {
			t.set = mapping.NewFilterSet(t.filters)
		}
	}
	return refused, lowered
}

// View is what is known of the bindings, each asked once, and of the subscriptions that the
// broker has not granted as asked: what the status of each rule is made with.
type View struct {
	now              time.Time
	bindings         map[*binding]Status
	refused, lowered troubles
}

// View looks at the bindings, each once, however many rules it has. It waits for none that is
// sending (shown.go).
func (g *Generation) View(subs []session.SubscriptionState, now time.Time) *View {
	v := &View{now: now, bindings: make(map[*binding]Status, len(g.bindings))}
	v.refused, v.lowered = troubled(subs)
	for _, b := range g.bindings {
		var s Status
		b.describe(&s)
		v.bindings[b] = s
	}
	return v
}

// Status is a rule as it is now; place is its place in the list.
func (v *View) Status(r *Rule, place int) Status {
	s := v.bindings[r.binding]
	s.Name, s.Direction, s.Filter, s.Group, s.Host = r.Name, "send", r.Filter.String(), r.Group.String(), r.Host.String()
	s.Share = r.Share
	if r.Instance() != "" {
		s.Rule = r.Common
	}
	s.Received, s.Sent, s.SentBytes = r.Totals()
	s.Left = r.Left()
	s.Again, s.Kept = r.SentAgain()
	s.Answers, s.Answered, s.Unanswered = r.Answers()
	s.Down, s.HostsDown = r.HostsDown(), r.down.list()
	s.ICMPErrors, s.HostErrors = r.HostErrors(), r.errors.list()
	if s.State, s.Reason = v.Judge(r); r.disabled != nil {
		s.Since = r.disabled.Since
	}
	s.Drops, s.FirstDrops, s.Filtered = r.Counters.Describe()
	s.Lately = account.Lately{LastSent: r.lastSent.Time(v.now), WaitingMemory: r.InMemory(), WaitingDisk: r.InSpool(), Place: place}
	s.WaitingBytes, s.DiskBytes = r.Waits()
	s.Lately.Mark(&r.Counters, &r.LastReceived, v.now)
	return s
}

// Judge returns the state of a rule, and why it is so: by its binding, and by what the
// broker says to its subscription. It makes no garbage.
func (v *View) Judge(r *Rule) (account.State, string) {
	if r.disabled != nil {
		return account.StateDisabled, r.disabled.Reason()
	}
	s := v.bindings[r.binding]
	if text, ok := v.refused.covering(r.Filter); ok {
		return account.StatePending, text
	}
	if text, ok := v.lowered.covering(r.Filter); ok && s.State == account.StateUp {
		return account.StateDegraded, text
	}
	if r.diverted != nil && s.State == account.StateUp {
		return account.StateDegraded, r.diverted.binding.blocked
	}
	if s.State == account.StateUp && !r.makesTargets && r.HostsDown() > 0 {
		return account.StateDegraded, "the host does not answer"
	}
	if s.State == account.StateUp && !r.makesTargets && r.sendsToHosts() {
		if text := r.errors.latest(v.now); text != "" {
			return account.StateDegraded, text
		}
	}
	return s.State, s.Reason
}

// Unclaimed is how many datagrams came to the port that a rule sends from.
func (v *View) Unclaimed(r *Rule) uint64 { return v.bindings[r.binding].Unclaimed }

// Verified reports whether the self-test of a rule's binding saw what it is to see.
func (v *View) Verified(r *Rule) bool {
	return v.bindings[r.binding].SelfTest.Result == multicast.ProbeVerified.String()
}

// Mentions reports whether a text, in lower case, is in what a rule says.
func (v *View) Mentions(r *Rule, text string) bool {
	s := v.bindings[r.binding]
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	return in(r.Name) || in(r.Filter.String()) || in(r.To().String()) || in(s.Interface) || in(s.Source)
}

// describe fills in the binding's part.
func (b *binding) describe(s *Status) {
	b.shown.mu.Lock()
	defer b.shown.mu.Unlock()
	s.State, s.Reason, s.Since = b.state, b.reason, b.since
	switch {
	case !b.hangs.IsZero():
		s.State, s.Reason, s.Since = account.StateDegraded, "the kernel does not return from a send on interface "+b.on, b.hangs
	case b.stuck != "":
		s.State, s.Reason, s.Since = account.StateDegraded, b.stuck, b.stuckSince
	}
	s.Interface, s.Unclaimed = b.want.Interface, b.unclaimed
	if b.want.Source.IsValid() {
		s.Source = mapping.PrefixText(b.want.Source)
	}
	if b.from.IsValid() {
		s.Interface, s.Source = b.on, b.from.String()
		s.OneByOne = b.unsegmented
	}
	if b.probe != (multicast.Probe{}) {
		s.SelfTest = SelfTest{Result: b.probe.Result.String(), Detail: b.probe.Detail}
	}
}
