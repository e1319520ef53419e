package bridge

import (
	"fmt"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/send"
	"topicast/bridge/session"
)

// A Condition is something that is not as it should be: a part of topicast that is
// pending, so that it is not ready, or degraded, so that it works in part.
type Condition struct {
	Name   string        `json:"name"`           // of the part: broker, subscriptions, spool, descriptors, queue, acknowledgements, interfaces, rule
	Rule   string        `json:"rule,omitempty"` // which one, of a rule; whose messages; the one that is the cause
	State  account.State `json:"state"`          // pending or degraded
	Reason string        `json:"reason"`
	Count  int           `json:"count,omitempty"` // of messages: queue, acknowledgements
	Since  time.Time     `json:"since,omitzero"`  // likewise
}

// String is a line for people and for programs: what, its state, the reason, with
// ": " in between.
func (c Condition) String() string {
	if c.Rule != "" {
		return fmt.Sprintf("%s %s: %s: %s", c.Name, c.Rule, c.State, c.Reason)
	}
	return fmt.Sprintf("%s: %s: %s", c.Name, c.State, c.Reason)
}

// Readiness reports whether messages can flow, and what is not as it should be.
type Readiness struct {
	Ready      bool        // nothing is pending
	Conditions []Condition // what concerns all rules first, then what is pending
	More       int         // how many more there are
}

// maxConditions is how many are listed: with 10,000 rules on one interface, all are
// pending at once.
const maxConditions = 100

// Readiness is for whoever asks often: a Status has every rule.
func (b *Bridge) Readiness() Readiness {
	state := b.session.State()
	return b.readiness(b.current().overview(b.brokerStatus(state), state, time.Now()))
}

// ackPatience is how long the broker may acknowledge nothing until that is told.
const ackPatience = 30 * time.Second

// pacePatience is how long messages may wait for max_rate until that is told: a burst is what they are
// to wait in.
const pacePatience = 30 * time.Second

// overview is a generation and the session at one moment.
type overview struct {
	*generation
	now     time.Time
	broker  BrokerStatus
	session session.State
	sends   *send.View
	working map[string]bool // rules with several interfaces that work by one of them; nil: nobody has asked
}

func (g *generation) overview(broker BrokerStatus, state session.State, now time.Time) *overview {
	return &overview{generation: g, now: now, broker: broker, session: state, sends: g.send.View(state.Troubled, now)}
}

// judged is the state of a rule, and why it is so where it is not up.
type judged struct {
	name, common, on string // on: the interface, of an instance
	state            account.State
	reason           string
	spared           bool // it is not up, by an interface that only a pattern names, and the rule works by another
}

// judge reports the state of each rule, those of send first. It makes no garbage by the rule.
func (o *overview) judge(tell func(judged)) {
	for i, r := range o.send.Rules {
		state, reason := o.sends.Judge(r)
		tell(judged{r.Name, r.Common, r.Instance(), state, reason, state == account.StatePending && o.table.SendByPattern(i) && o.works(r.Common)})
	}
	for i, r := range o.receive.Rules {
		state, reason := r.Judge(o.now)
		tell(judged{r.Name, r.Common, r.Instance(), state, reason, state == account.StatePending && o.table.ReceiveByPattern(i) && o.works(r.Common)})
	}
}

// works reports whether a rule that has several interfaces works by one of them.
func (o *overview) works(rule string) bool {
	if o.working == nil {
		o.working = make(map[string]bool)
		for _, r := range o.send.Rules {
			if state, _ := o.sends.Judge(r); r.Instance() != "" && works(state) {
				o.working[r.Common] = true
			}
		}
		for _, r := range o.receive.Rules {
			if state, _ := r.Judge(o.now); r.Instance() != "" && works(state) {
				o.working[r.Common] = true
			}
		}
	}
	return o.working[rule]
}

func works(state account.State) bool {
	return state == account.StateUp || state == account.StateDegraded
}

func (b *Bridge) readiness(o *overview) Readiness {
	r := Readiness{Ready: true}
	var degraded []Condition
	b.conditions(o, func(c Condition) {
		list := &degraded
		if c.State == account.StatePending {
			r.Ready, list = false, &r.Conditions
		}
		if len(*list) < maxConditions {
			*list = append(*list, c)
		} else {
			r.More++
		}
	})
	n := min(len(degraded), maxConditions-len(r.Conditions))
	r.More += len(degraded) - n
	r.Conditions = append(r.Conditions, degraded[:n]...)
	return r
}

// conditions reports each part that is not as it should be. Whoever knows of another
// adds it here: /readyz, /status and the status page have it from here alone. It makes
// no garbage by the rule.
func (b *Bridge) conditions(o *overview, tell func(Condition)) {
	o.brokerConditions(tell)
	if err := b.options.Spool.spoolErr(); err != nil {
		c := Condition{Name: "spool", State: account.StatePending, Reason: err.Error()}
		if !o.usesSpool() {
			c.State = account.StateDegraded
		}
		tell(c)
	}
	if state, short := o.shortage(); short != "" {
		tell(Condition{Name: "descriptors", State: state, Reason: short})
	}
	b.withheld(o.session, o.now, tell)
	for _, w := range o.table.Beyond() {
		tell(Condition{Name: "interfaces", State: account.StateDegraded, Reason: w.Text})
	}
	o.judge(func(r judged) {
		switch {
		case r.spared:
			tell(Condition{Name: "rule", Rule: r.name, State: account.StateDegraded, Reason: r.reason})
		case r.state != account.StateUp && r.state != account.StateDisabled: // which somebody wants so
			tell(Condition{Name: "rule", Rule: r.name, State: r.state, Reason: r.reason})
		}
	})
}

// brokerConditions reports what is not as it should be between us and the broker.
func (o *overview) brokerConditions(tell func(Condition)) {
	switch {
	case !o.broker.Connected && o.broker.Error != "":
		tell(Condition{Name: "broker", State: account.StatePending, Reason: "no connection to the broker: " + o.broker.Error})
	case !o.broker.Connected:
		tell(Condition{Name: "broker", State: account.StatePending, Reason: "no connection to the broker"})
	case o.broker.Unsteady:
		tell(Condition{Name: "broker", State: account.StateDegraded,
			Reason: fmt.Sprintf("the connection is lost again and again, %d times lately: %s", o.broker.Losses, o.broker.LastLoss)})
	}
	if since := o.session.AcksSince; o.broker.Connected && !since.IsZero() && o.now.Sub(since) >= ackPatience {
		tell(Condition{Name: "broker", State: account.StateDegraded, Count: o.session.Outstanding, Since: since,
			Reason: fmt.Sprintf("the broker acknowledges no messages since %s, though it answers otherwise, and %d are on their way to it; its log may say why",
				since.UTC().Format(time.RFC3339), o.session.Outstanding)})
	}
	if since := o.session.QuotaSince; o.broker.Connected && !since.IsZero() {
		tell(Condition{Name: "broker", State: account.StateDegraded, Count: o.session.Outstanding, Since: since,
			Reason: fmt.Sprintf("since %s the broker refuses messages because its quota is exceeded, and gets them again later: %d are on their way; have the rules publish less (every, on_change), or set broker.max_rate to what it allows",
				since.UTC().Format(time.RFC3339), o.session.Outstanding)})
	}
	if since := o.session.PacedSince; o.broker.Connected && !since.IsZero() && o.now.Sub(since) >= pacePatience {
		tell(Condition{Name: "broker", State: account.StateDegraded, Count: o.session.Outstanding, Since: since,
			Reason: fmt.Sprintf("since %s more comes than broker.max_rate lets through, %d a second: %d messages are on their way; raise it, or have the rules publish less (every, on_change)",
				since.UTC().Format(time.RFC3339), o.session.Limits.MessageRate, o.session.Outstanding)})
	}
	if o.broker.Connected && o.broker.Unanswered > 0 {
		tell(Condition{Name: "subscriptions", State: account.StatePending,
			Reason: fmt.Sprintf("the broker has not confirmed %d subscriptions yet", o.broker.Unanswered)})
	}
	if n, why := surplus(o.session.Troubled); n > 0 {
		tell(Condition{Name: "subscriptions", State: account.StatePending, Reason: fmt.Sprintf("%d are left out: %s", n, why)})
	}
}

// surplus counts the subscriptions that are left out because the broker takes no more.
func surplus(subs []session.SubscriptionState) (n int, why string) {
	for _, s := range subs {
		if s.Surplus {
			n, why = n+1, s.Err
		}
	}
	return n, why
}

// sentences say why topicast is not ready. Many rules with one trouble make one.
func (o *overview) sentences(conditions []Condition) (why []string) {
	queues := 0
	for _, c := range conditions {
		switch {
		case c.State != account.StatePending || c.Name == "rule":
		case c.Name == "queue" && queues > 0: // one of them says enough
			queues++
		default:
			why = append(why, c.Reason)
			if c.Name == "queue" {
				queues++
			}
		}
	}
	if queues > 1 {
		why = append(why, fmt.Sprintf("there was no room for messages of %d more rules", queues-1))
	}
	type pending struct {
		rule  string // the first
		rules int
	}
	var reasons []string
	of := make(map[string]*pending)
	o.judge(func(r judged) {
		switch p := of[r.reason]; {
		case r.state != account.StatePending || r.spared:
		case p != nil:
			p.rules++
		case len(reasons) < maxConditions:
			of[r.reason] = &pending{r.name, 1}
			reasons = append(reasons, r.reason)
		}
	})
	for _, reason := range reasons {
		if p := of[reason]; p.rules == 1 {
			why = append(why, fmt.Sprintf("rule %s is pending: %s", p.rule, reason))
		} else {
			why = append(why, fmt.Sprintf("%d rules are pending: %s", p.rules, reason))
		}
	}
	return why
}
