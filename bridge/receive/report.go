package receive

import (
	"time"

	"topicast/bridge/account"
	"topicast/bridge/tap"
)

// What watchers are told (package tap). Each datagram is reported where it is decided what
// becomes of it: what is published, as it is handed to the session; what goes no further, by the
// function that counts it; what waits, as it is put where it waits.

// report tells of a datagram of the rule, or a message in it. topic is nil where it is not known.
func (r *Rule) report(what tap.Decision, topic []byte, a *arrival, payload []byte, reason, detail string) {
	on := r.path.tap
	if !on.On() {
		return
	}
	now := time.Now()
	on.Tell(tap.Event{
		Time: now, Direction: tap.Receive, Decision: what, Rule: r.Name, Topic: string(topic), To: a.To, Source: a.Source,
		Interface: a.Interface, Bytes: len(payload), Payload: payload, Latency: max(now.Sub(a.At), 0), Reason: reason, Detail: detail, Datagram: a.number,
	})
}

// reportHeard tells that a datagram has come.
func (r *Rule) reportHeard(a *arrival, payload []byte) {
	r.path.tap.Tell(tap.Event{
		Time: a.At, Direction: tap.Receive, Decision: tap.Heard, Rule: r.Name, To: a.To, Source: a.Source,
		Interface: a.Interface, Bytes: len(payload), Payload: payload, Datagram: a.number,
	})
}

// lose counts a datagram that goes no further, and reports whether it is to be logged.
func (r *Rule) lose(why account.Reason, topic []byte, a *arrival, payload []byte, err error) (first bool) {
	if r.path.tap.On() {
		decision, detail := tap.Dropped, ""
		if why.Filtered() {
			decision = tap.Filtered
		}
		if err != nil {
			detail = err.Error()
		}
		r.report(decision, topic, a, payload, why.String(), detail)
	}
	return r.Count(why, 1)
}

// loseMany counts n of which no more is known, and logs the first of their kind. what and key say
// what they were.
func (r *Rule) loseMany(why account.Reason, n uint64, key, what string, err error) {
	if r.path.tap.On() {
		r.path.tap.Tell(tap.LossOf(tap.Receive, r.Name, why.String(), why.Filtered(), n, err))
	}
	if r.Count(why, n) {
		r.LogFirst(r.Name, why, key, what, err)
	}
}

// reportSpooled tells of a message that has waited and is handed to the session now.
func (r *Rule) reportSpooled(topic, payload []byte, waited time.Duration) {
	if on := r.path.tap; on.On() {
		on.Tell(tap.Event{
			Time: time.Now(), Direction: tap.Receive, Decision: tap.Published, Rule: r.Name, Topic: string(topic),
			Bytes: len(payload), Payload: payload, Latency: waited, Detail: "has waited for the broker",
		})
	}
}

// whyWaiting is why a message goes into the spool.
func (s *publishSpool) whyWaiting() string {
	switch {
	case !s.path.online.Load():
		return "no connection to the broker"
	case s.flowing():
		return "behind what waits for the broker"
	}
	return "the broker is slower than datagrams come"
}

// FollowLoss implements account.Follower.
func (p *Path) FollowLoss(rule string, why account.Reason, n uint64) {
	if p.tap.On() {
		p.tap.Tell(tap.LossOf(tap.Receive, rule, why.String(), why.Filtered(), n, nil))
	}
}
