package bridge

import (
	"iter"
	"log/slog"
	"sync/atomic"

	"topicast/mapping"
)

// sendRule is a send rule at work: what it says, the binding it leaves through,
// and what has become of its messages so far.
type sendRule struct {
	*mapping.SendRule
	binding *binding
	log     *slog.Logger

	received  atomic.Uint64 // messages that matched
	sent      atomic.Uint64 // datagrams the kernel took
	sentBytes atomic.Uint64 // their payloads
	lost      atomic.Pointer[losses]
}

// losses is what a rule has lost, by reason. Most of many rules lose nothing, and
// have none.
type losses [numReasons]struct {
	count atomic.Uint64
	first atomic.Pointer[string] // topic and cause
}

// drop counts something lost. The first of its kind is logged with its cause,
// and the status keeps that, so that a mistake shows at once; the rest are left
// to the metrics, so that a stream of them does not bury the log.
func (r *sendRule) drop(why Reason, topic string, err error) {
	l := r.lost.Load()
	if l == nil {
		r.lost.CompareAndSwap(nil, new(losses))
		l = r.lost.Load()
	}
	if l[why].count.Add(1) > 1 || why == DropRetained {
		return
	}
	attrs := []any{"rule", r.Name, "reason", why.String(), "topic", topic}
	first := "topic " + topic
	if err != nil {
		attrs = append(attrs, "err", err)
		first += ": " + err.Error()
	}
	l[why].first.Store(&first)
	r.log.Warn("dropped; further drops of this rule and reason are only counted", attrs...)
}

// drops are the reasons for which something was lost, and how often.
func (r *sendRule) drops() iter.Seq2[Reason, uint64] {
	return func(yield func(Reason, uint64) bool) {
		l := r.lost.Load()
		if l == nil {
			return
		}
		for why := range l {
			if n := l[why].count.Load(); n > 0 && !yield(Reason(why), n) {
				return
			}
		}
	}
}

// took counts n datagrams with bytes of payload that the kernel took.
func (r *sendRule) took(n, bytes int) {
	r.sent.Add(uint64(n))
	r.sentBytes.Add(uint64(bytes))
}
