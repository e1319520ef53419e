package bridge

import (
	"log/slog"
	"sync/atomic"

	"topicast/mapping"
)

// sendRule is a send rule at work: what it says, the binding it leaves through,
// and what has become of its messages so far.
type sendRule struct {
	mapping.SendRule
	binding *binding
	log     *slog.Logger

	received  atomic.Uint64 // messages that matched
	sent      atomic.Uint64 // datagrams the kernel took
	sentBytes atomic.Uint64 // their payloads
	drops     [numReasons]atomic.Uint64
	causes    [numReasons]atomic.Pointer[string] // of the first of each
}

// drop counts something lost. The first of its kind is logged with its cause,
// and the status keeps that, so that a mistake shows at once; the rest are left to the metrics, so that a
// stream of them does not bury the log.
func (r *sendRule) drop(why Reason, topic string, err error) {
	if r.drops[why].Add(1) > 1 || why == DropRetained {
		return
	}
	attrs := []any{"rule", r.Name, "reason", why.String(), "topic", topic}
	cause := "topic " + topic
	if err != nil {
		attrs = append(attrs, "err", err)
		cause += ": " + err.Error()
	}
	r.causes[why].Store(&cause)
	r.log.Warn("dropped; further drops of this rule and reason are only counted", attrs...)
}

// took counts n datagrams with bytes of payload that the kernel took.
func (r *sendRule) took(n, bytes int) {
	r.sent.Add(uint64(n))
	r.sentBytes.Add(uint64(bytes))
}
