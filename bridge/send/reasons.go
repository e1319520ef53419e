package send

import (
	"errors"
	"syscall"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// sendReasons are the reasons that can happen to a send rule, and to which, so that its
// series are there, with 0, before it does (increase() knows no first time).
var sendReasons = [account.NumReasons]func(*Rule) bool{
	account.DropRetained:    func(r *Rule) bool { return r.Retained != mapping.RetainedAlways },
	account.DropWhen:        func(r *Rule) bool { return !r.When.IsZero() },
	account.DropEmpty:       func(r *Rule) bool { return r.DropEmpty },
	account.DropBadGroup:    func(r *Rule) bool { return r.makesGroups && r.Host.IsZero() },
	account.DropBadHost:     func(r *Rule) bool { return r.makesGroups && !r.Host.IsZero() },
	account.DropUnreachable: func(r *Rule) bool { return !r.Host.IsZero() },
	account.DropBadPayload:  func(r *Rule) bool { return !r.Payload.Raw() || !r.Counter.IsZero() },
	account.DropOversize:    anySend,
	account.DropRate:        (*Rule).paced,
	account.DropPending:     func(r *Rule) bool { return r.OnDown != mapping.OnDownLatest },
	account.DropNoBuffer:    anySend,
	account.DropFirewall:    anySend,
	account.DropRefused:     anySend,
	account.DropSuperseded:  func(r *Rule) bool { return r.KeepsLatest() },
	account.DropLoop:        func(r *Rule) bool { return r.guard != nil },
	account.DropQueueFull:   anySend,
	account.DropSpoolFull:   (*Rule).spools,
	account.DropSpoolFailed: (*Rule).spools,
	account.DropExpired:     func(r *Rule) bool { return r.MaxAge > 0 },
	account.DropRefreshFull: func(r *Rule) bool { return r.SendsAgain() },
	account.DropRemoved:     anySend,
	account.DropStopped:     anySend,
}

// RemovedReasons can happen to what is left of a rule that a reload has removed.
var RemovedReasons = [account.NumReasons]bool{account.DropSpoolFull: true, account.DropSpoolFailed: true, account.DropExpired: true, account.DropRemoved: true, account.DropStopped: true}

// CanCount reports whether a reason can happen to the rule as it is configured.
func (r *Rule) CanCount(why account.Reason) bool {
	return sendReasons[why] != nil && sendReasons[why](r)
}

func anySend(*Rule) bool { return true }

// badTarget is the reason of a topic that gives no target.
func badTarget(r *Rule) account.Reason {
	if r.Host.IsZero() {
		return account.DropBadGroup
	}
	return account.DropBadHost
}

// spools reports whether the rule has a place in the spool.
func (r *Rule) spools() bool { return r.spool != nil }

// reasonOf says why the kernel would not take a datagram.
func reasonOf(err error) account.Reason {
	switch {
	case errors.Is(err, multicast.ErrBadHost):
		return account.DropBadHost
	case errors.Is(err, multicast.ErrUnreachable):
		return account.DropUnreachable
	case errors.Is(err, multicast.ErrTooLong):
		return account.DropOversize
	case errors.Is(err, syscall.EPERM):
		return account.DropFirewall
	case errors.Is(err, multicast.ErrNoBuffer):
		return account.DropNoBuffer
	default:
		return account.DropRefused
	}
}
