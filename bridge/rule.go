package bridge

import (
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"topicast/mapping"
)

// sendRule is a send rule at work: what it says, the binding it leaves through,
// and what has become of its messages so far.
type sendRule struct {
	*mapping.SendRule
	*sendAccount
	binding *binding
	guard   *memory // of the loop guard, for a rule that can feed a receive rule; else nil
	disk    *disk   // what of it is in the spool; nil: there is none
	stale   bool    // another table is in force; under the path's mu
}

// sendAccount is what has become of a rule's messages. It outlives the rule, if the
// next table has one of that name.
type sendAccount struct {
	ledger
	received  atomic.Uint64 // messages that matched
	sent      atomic.Uint64 // datagrams the kernel took
	sentBytes atomic.Uint64 // their payloads
}

// drop counts a message that is lost, and tells of the first of its kind.
func (r *sendRule) drop(why Reason, topic string, err error) {
	if r.lose(why, 1) {
		r.tell(r.Name, why, "topic", topic, err)
	}
}

// took counts n datagrams with bytes of payload that the kernel took.
func (r *sendRule) took(n, bytes int) {
	r.sent.Add(uint64(n))
	r.sentBytes.Add(uint64(bytes))
}

// receiveRule is a receive rule at work.
type receiveRule struct {
	*mapping.ReceiveRule
	*receiveAccount
	path        *receivePath
	memberships []*membership
	breaker     breaker
	hold        *hold   // nil: the rule is on no cycle
	detour      *detour // nil: there is no spool, or the rule publishes with QoS 0

	told State // of the look at the interfaces: what was logged last

	mu      sync.Mutex
	outlets map[string]*outlet
}

// receiveAccount is what has become of a rule's datagrams. It outlives the rule, if
// the next table has one of that name.
type receiveAccount struct {
	ledger
	received  atomic.Uint64 // datagrams that arrived
	published atomic.Uint64 // messages that the broker has
	failures  atomic.Uint64 // messages lost on the way to the broker, which on_change must not take for published
}

// flush publishes at once what the rule holds back.
func (r *receiveRule) flush() {
	if r.hold != nil {
		r.hold.flush()
	}
	r.mu.Lock()
	outlets := slices.Collect(maps.Values(r.outlets))
	r.mu.Unlock()
	for _, o := range outlets {
		o.flush()
	}
}

// forget lets go of the topics of a rule that hears nothing any more.
func (r *receiveRule) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.path.topics.Add(-int64(len(r.outlets)))
	r.outlets = nil
}

// drop counts a datagram that is lost, and tells of the first of its kind.
func (r *receiveRule) drop(why Reason, a *arrival, err error) {
	if r.lose(why, 1) {
		r.tell(r.Name, why, "datagram", a.String(), err)
	}
}

// tellState logs what has become of the rule's memberships, if that is news.
func (r *receiveRule) tellState() {
	var s ReceiveStatus
	r.joined(&s)
	if s.State == r.told {
		return
	}
	r.told = s.State
	attrs := []any{"rule", r.Name, "interface", s.Interface, "joined", s.Joined}
	if s.Buffer > 0 {
		attrs = append(attrs, "buffer", s.Buffer)
	}
	if s.State == StateUp {
		r.log.Info("receiving", attrs...)
	} else {
		r.log.Warn("receive rule "+string(s.State)+"; it goes on by itself when it can", append(attrs, "groups", s.Sockets, "err", s.Reason)...)
	}
}

// ranAway tells that the breaker has stopped the rule.
func (r *receiveRule) ranAway(o *outlet, a *arrival, now time.Time) {
	until := r.breaker.resting(now)
	r.log.Error("the rule ran away and is stopped for a while: does what it publishes come back as a datagram, through another bridge?",
		"rule", r.Name, "topic", string(o.topic), "datagram", a.String(), "breaker", r.breaker.limit, "until", until.Format(time.TimeOnly))
}

// A ledger is the account of what a rule has lost, by reason. Most of many rules
// lose nothing, and have no more than the pointer.
type ledger struct {
	log  *slog.Logger
	lost atomic.Pointer[losses]
}

type losses [numReasons]struct {
	count atomic.Uint64
	first atomic.Pointer[string] // what was lost first, and its cause
}

// lose counts n that are lost, and says whether to tell of it: of the first of
// its kind, with its cause, so that a mistake shows at once; the rest are left to
// the metrics, so that a stream of them does not bury the log.
func (l *ledger) lose(why Reason, n uint64) (first bool) {
	lost := l.lost.Load()
	if lost == nil {
		l.lost.CompareAndSwap(nil, new(losses))
		lost = l.lost.Load()
	}
	return lost[why].count.Add(n) == n && !why.intended()
}

// tell logs the first loss of a kind, and keeps it for the status. what was lost
// is a topic or a datagram.
func (l *ledger) tell(rule string, why Reason, key, what string, err error) {
	attrs := []any{"rule", rule, "reason", why.String(), key, what}
	first := key + " " + what
	if err != nil {
		attrs = append(attrs, "err", err)
		first += ": " + err.Error()
	}
	l.lost.Load()[why].first.Store(&first)
	l.log.Warn("dropped; further drops of this rule and reason are only counted", attrs...)
}

// drops are the reasons for which something was lost, and how often.
func (l *ledger) drops() iter.Seq2[Reason, uint64] {
	return func(yield func(Reason, uint64) bool) {
		lost := l.lost.Load()
		if lost == nil {
			return
		}
		for why := range lost {
			if n := lost[why].count.Load(); n > 0 && !yield(Reason(why), n) {
				return
			}
		}
	}
}

// describe lists the losses for the status: how many, and the first of each.
func (l *ledger) describe() (drops map[string]uint64, firsts map[string]string) {
	for why, n := range l.drops() {
		if drops == nil {
			drops, firsts = make(map[string]uint64), make(map[string]string)
		}
		drops[why.String()] = n
		if first := l.lost.Load()[why].first.Load(); first != nil {
			firsts[why.String()] = *first
		}
	}
	return drops, firsts
}
