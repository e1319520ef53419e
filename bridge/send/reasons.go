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
	account.ReasonDisabled:    func(r *Rule) bool { return r.disabled != nil },
	account.ReasonRetained:    func(r *Rule) bool { return r.Retained != mapping.RetainedAlways },
	account.ReasonWhen:        func(r *Rule) bool { return !r.When.IsZero() },
	account.ReasonEmpty:       func(r *Rule) bool { return r.DropEmpty },
	account.ReasonBadGroup:    func(r *Rule) bool { return r.makesTargets && r.Host.IsZero() },
	account.ReasonBadHost:     func(r *Rule) bool { return r.makesTargets && !r.Host.IsZero() },
	account.ReasonUnreachable: func(r *Rule) bool { return !r.Host.IsZero() },
	account.ReasonBadPayload:  func(r *Rule) bool { return !r.Payload.Raw() || !r.Counter.IsZero() || r.ExpectsAnswers() },
	account.ReasonOversize:    anySend,
	account.ReasonRate:        (*Rule).paced,
	account.ReasonPending:     func(r *Rule) bool { return r.OnDown != mapping.OnDownLatest },
	account.ReasonNoBuffer:    anySend,
	account.ReasonFirewall:    anySend,
	account.ReasonRefused:     anySend,
	account.ReasonSuperseded:  func(r *Rule) bool { return r.KeepsLatest() },
	account.ReasonLoop:        func(r *Rule) bool { return r.guard != nil },
	account.ReasonQueueFull:   anySend,
	account.ReasonSpoolFull:   (*Rule).spools,
	account.ReasonSpoolFailed: (*Rule).spools,
	account.ReasonExpired:     anySend, // a message may say itself for how long it is good
	// Of answers.
	account.ReasonUnasked:       (*Rule).ExpectsAnswers,
	account.ReasonReceiveBuffer: (*Rule).ExpectsAnswers,
	account.ReasonBadTopic:      (*Rule).ExpectsAnswers,
	account.ReasonField:         func(r *Rule) bool { return r.ExpectsAnswers() && r.Answer.Topic.VariesByPayload() },
	account.ReasonBrokerRefused: (*Rule).ExpectsAnswers,

	account.ReasonRefreshFull: func(r *Rule) bool { return r.SendsAgain() },
	account.ReasonFlushed:     anySend,
	account.ReasonRemoved:     anySend,
	account.ReasonStopped:     anySend,
}

// RemovedReasons can happen to what is left of a rule that a reload has removed.
var RemovedReasons = [account.NumReasons]bool{account.ReasonSpoolFull: true, account.ReasonSpoolFailed: true, account.ReasonExpired: true, account.ReasonFlushed: true, account.ReasonRemoved: true, account.ReasonStopped: true}

// CanCount reports whether a reason can happen to the rule as it is configured.
func (r *Rule) CanCount(why account.Reason) bool {
	return sendReasons[why] != nil && sendReasons[why](r)
}

func anySend(*Rule) bool { return true }

// badTarget is the reason of a topic that gives no target.
func badTarget(r *Rule) account.Reason {
	switch {
	case r.disabled != nil:
		return account.ReasonDisabled
	case r.Host.IsZero():
		return account.ReasonBadGroup
	}
	return account.ReasonBadHost
}

// spools reports whether the rule has a place in the spool.
func (r *Rule) spools() bool { return r.spool != nil }

// reasonOf says why the kernel would not take a datagram.
func reasonOf(err error) account.Reason {
	switch {
	case errors.Is(err, multicast.ErrBadHost):
		return account.ReasonBadHost
	case errors.Is(err, multicast.ErrUnreachable):
		return account.ReasonUnreachable
	case errors.Is(err, multicast.ErrTooLong):
		return account.ReasonOversize
	case errors.Is(err, syscall.EPERM):
		return account.ReasonFirewall
	case errors.Is(err, multicast.ErrNoBuffer):
		return account.ReasonNoBuffer
	default:
		return account.ReasonRefused
	}
}
