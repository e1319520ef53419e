package receive

import (
	"topicast/bridge/account"
	"topicast/mapping"
)

// receiveReasons are the reasons that can happen to a receive rule, and to which, so that
// its series are there, with 0, before it does (increase() knows no first time).
var receiveReasons = [account.NumReasons]func(*Rule) bool{
	account.ReasonWhen:          func(r *Rule) bool { return !r.When.IsZero() },
	account.ReasonEmpty:         func(r *Rule) bool { return r.dropsEmpty() || r.Split != mapping.SplitNone },
	account.ReasonOversize:      func(r *Rule) bool { return r.Split != mapping.SplitNone },
	account.ReasonField:         func(r *Rule) bool { return r.Topic.VariesByPayload() },
	account.ReasonReceiveBuffer: anyReceive,
	account.ReasonOwn:           anyReceive, // the guard against loops
	account.ReasonSource:        func(r *Rule) bool { return len(r.Sources) > 0 },
	account.ReasonDuplicate:     func(r *Rule) bool { return r.merge != nil },
	account.ReasonBadTopic:      func(r *Rule) bool { return r.Topic.Varies() },
	account.ReasonUnchanged:     func(r *Rule) bool { return r.OnChange },
	account.ReasonSuperseded:    func(r *Rule) bool { return r.Every > 0 },
	account.ReasonBreaker:       func(r *Rule) bool { return r.breaker.Limit > 0 },
	account.ReasonOffline:       anyReceive,
	account.ReasonBrokerRefused: anyReceive,
	account.ReasonLoop:          func(r *Rule) bool { return r.delay != nil },
	account.ReasonQueueFull:     (*Rule).waits,
	account.ReasonSpoolFull:     (*Rule).spools,
	account.ReasonSpoolFailed:   (*Rule).spools,
	account.ReasonExpired:       func(r *Rule) bool { return r.spools() && r.path.maxAge > 0 },
	account.ReasonFlushed:       (*Rule).spools,
	account.ReasonStopped:       anyReceive,
}

// RemovedReasons can happen to what is left of a rule that a reload has removed.
var RemovedReasons = [account.NumReasons]bool{account.ReasonOffline: true, account.ReasonBrokerRefused: true, account.ReasonSpoolFull: true, account.ReasonSpoolFailed: true, account.ReasonExpired: true, account.ReasonFlushed: true, account.ReasonStopped: true}

// CanCount reports whether a reason can happen to the rule as it is configured.
func (r *Rule) CanCount(why account.Reason) bool {
	return receiveReasons[why] != nil && receiveReasons[why](r)
}

func anyReceive(*Rule) bool { return true }

// spools reports whether the rule has a place in the spool.
func (r *Rule) spools() bool { return r.spool != nil }

// dropsEmpty reports whether the rule leaves an empty datagram out.
func (r *Rule) dropsEmpty() bool { return r.DropEmpty && r.Encoding.Empties() }

// waits reports whether messages of the rule may wait in memory, within queue.size.
func (r *Rule) waits() bool { return r.QoS > 0 || r.paced() || r.delay != nil }
