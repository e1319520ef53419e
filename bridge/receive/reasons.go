package receive

import (
	"topicast/bridge/account"
	"topicast/mapping"
)

// receiveReasons are the reasons that can happen to a receive rule, and to which, so that
// its series are there, with 0, before it does (increase() knows no first time).
var receiveReasons = [account.NumReasons]func(*Rule) bool{
	account.DropWhen:          func(r *Rule) bool { return !r.When.IsZero() },
	account.DropEmpty:         func(r *Rule) bool { return r.dropsEmpty() || r.Split != mapping.SplitNone },
	account.DropOversize:      func(r *Rule) bool { return r.Split != mapping.SplitNone },
	account.DropField:         func(r *Rule) bool { return r.Topic.VariesByPayload() },
	account.DropReceiveBuffer: anyReceive,
	account.DropOwn:           anyReceive, // the guard against loops
	account.DropSource:        func(r *Rule) bool { return len(r.Sources) > 0 },
	account.DropBadTopic:      func(r *Rule) bool { return r.Topic.Varies() },
	account.DropUnchanged:     func(r *Rule) bool { return r.OnChange },
	account.DropSuperseded:    func(r *Rule) bool { return r.Every > 0 },
	account.DropBreaker:       func(r *Rule) bool { return r.breaker.Limit > 0 },
	account.DropOffline:       anyReceive,
	account.DropBrokerRefused: anyReceive,
	account.DropLoop:          func(r *Rule) bool { return r.delay != nil },
	account.DropQueueFull:     (*Rule).waits,
	account.DropSpoolFull:     (*Rule).spools,
	account.DropSpoolFailed:   (*Rule).spools,
	account.DropExpired:       func(r *Rule) bool { return r.spools() && r.path.maxAge > 0 },
	account.DropStopped:       anyReceive,
}

// RemovedReasons can happen to what is left of a rule that a reload has removed.
var RemovedReasons = [account.NumReasons]bool{account.DropOffline: true, account.DropBrokerRefused: true, account.DropSpoolFull: true, account.DropSpoolFailed: true, account.DropExpired: true, account.DropStopped: true}

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
