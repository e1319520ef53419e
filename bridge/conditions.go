package bridge

import (
	"fmt"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
)

// A Condition is something that is not as it should be: a part of topicast that is
// pending, so that it is not ready, or degraded, so that it works in part.
type Condition struct {
	Name   string        `json:"name"`           // of the part: broker, subscriptions, spool, descriptors, queue, acknowledgements, rule
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
	return b.readiness(b.brokerStatus(state), state)
}

func (b *Bridge) readiness(broker BrokerStatus, state session.State) Readiness {
	r := Readiness{Ready: true}
	var degraded []Condition
	b.conditions(broker, state, func(c Condition) {
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
func (b *Bridge) conditions(broker BrokerStatus, state session.State, tell func(Condition)) {
	switch {
	case !broker.Connected && broker.Error != "":
		tell(Condition{Name: "broker", State: account.StatePending, Reason: "no connection to the broker: " + broker.Error})
	case !broker.Connected:
		tell(Condition{Name: "broker", State: account.StatePending, Reason: "no connection to the broker"})
	case broker.Unsteady:
		tell(Condition{Name: "broker", State: account.StateDegraded,
			Reason: fmt.Sprintf("the connection is lost again and again, %d times lately: %s", broker.Losses, broker.LastLoss)})
	}
	if broker.Connected && broker.Unanswered > 0 {
		tell(Condition{Name: "subscriptions", State: account.StatePending,
			Reason: fmt.Sprintf("the broker has not confirmed %d subscriptions yet", broker.Unanswered)})
	}
	if n, why := surplus(state.Troubled); n > 0 {
		tell(Condition{Name: "subscriptions", State: account.StatePending, Reason: fmt.Sprintf("%d are left out: %s", n, why)})
	}
	if err := b.options.Spool.spoolErr(); err != nil {
		c := Condition{Name: "spool", State: account.StatePending, Reason: err.Error()}
		if !b.current().usesSpool() {
			c.State = account.StateDegraded
		}
		tell(c)
	}
	if short := b.current().shortage(); short != "" {
		tell(Condition{Name: "descriptors", State: account.StateDegraded, Reason: short})
	}
	b.withheld(state, time.Now(), tell)
	b.current().judge(state.Troubled, func(rule string, is account.State, reason string) {
		if is != account.StateUp {
			tell(Condition{Name: "rule", Rule: rule, State: is, Reason: reason})
		}
	})
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
func (g *generation) sentences(conditions []Condition, subs []session.SubscriptionState) (why []string) {
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
	g.judge(subs, func(rule string, is account.State, reason string) {
		switch p := of[reason]; {
		case is != account.StatePending:
		case p != nil:
			p.rules++
		case len(reasons) < maxConditions:
			of[reason] = &pending{rule, 1}
			reasons = append(reasons, reason)
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
