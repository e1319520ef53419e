package bridge

import (
	"fmt"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/send"
	"topicast/bridge/session"
)

// What the broker keeps for us: messages that there was no room for, and those that we have
// and do not acknowledge. It has only so many on their way (mosquitto: 20,
// max_inflight_messages), so that one rule whose messages wait in memory can keep those of
// all others from coming.

// withheldPatience is how long a message may wait in memory before it is reported: while
// nothing is wrong, they wait for milliseconds.
const withheldPatience = 5 * time.Second

// withheld reports the messages that stay with the broker, and why. Where there are any it looks at
// all bindings.
func (b *Bridge) withheld(state session.State, now time.Time, tell func(Condition)) {
	due := b.send.RedeliveryDue()
	if !due && state.Held == 0 {
		return
	}
	oldest, largest, others := b.send.Blockers()
	if due {
		b.leftWithBroker(largest, tell)
	}
	if state.Held == 0 || oldest.Since.IsZero() || now.Sub(oldest.Since) < withheldPatience {
		return
	}
	reason := fmt.Sprintf("%d messages of the broker are not acknowledged; the oldest waits in memory for rule %s since %s: %s",
		state.Held, oldest.Rule, oldest.Since.Format(time.DateTime), oldest.Why)
	if others > 1 {
		reason += fmt.Sprintf(" (and others for %d more interfaces or sources)", others-1)
	}
	tell(Condition{Name: "acknowledgements", Rule: oldest.Rule, State: account.StateDegraded, Count: state.Held, Since: oldest.Since,
		Reason: reason + "; the broker has only so many on their way, and may send none to other rules before; " + b.whyNotOnDisk()})
}

// leftWithBroker reports, by rule, what there was no room for.
func (b *Bridge) leftWithBroker(largest send.Blocker, tell func(Condition)) {
	cause := "there is room again, and the broker will be asked to repeat them"
	switch received := b.budget.OfReceived(); {
	case received > b.budget.Size()/8 && received > largest.Bytes:
		cause = "most of it is taken by what receive rules have for the broker, which does not take it fast enough"
	case !largest.Since.IsZero():
		cause = fmt.Sprintf("most of it is taken by what waits for rule %s: %s", largest.Rule, largest.Why)
	}
	for _, r := range b.current().send.Rules {
		n, since := r.LeftWithBroker(time.Now())
		if n == 0 {
			continue
		}
		tell(Condition{Name: "queue", Rule: r.Name, State: account.StatePending, Count: n, Since: since,
			Reason: fmt.Sprintf("there was no room in memory (queue.size) for %d messages of rule %s since %s, which stay with the broker, unacknowledged; %s; %s",
				n, r.Name, since.Format(time.DateTime), cause, b.whyNotOnDisk())})
	}
}

// whyNotOnDisk says why messages are not in the spool.
func (b *Bridge) whyNotOnDisk() string {
	o := &b.options.Spool
	switch err := o.spoolErr(); {
	case err != nil:
		return "the spool cannot be used"
	case o.On == nil:
		return "with a spool (spool.dir) they would be on disk, and acknowledged"
	}
	return "they are not in the spool, which their rule does not use, or which is slow"
}
