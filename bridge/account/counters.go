package account

import (
	"errors"
	"iter"
	"log/slog"
	"strconv"
	"sync/atomic"
)

// A Counters is the account of what a rule has lost, by reason. Most of many rules
// lose nothing, and have no more than the pointers.
type Counters struct {
	Log    *slog.Logger
	Label  *Label   // what metrics call the rule; nil: by its name
	Follow Follower // is told of what is lost on disk; nil: nobody is
	lost   atomic.Pointer[losses]
	total  atomic.Pointer[Counters] // counts too, once the rule is removed, and forgotten (Removed)
}

// Begin says who is told of what is lost, and what metrics call the rule by: on is the interface of an instance of a
// rule with several, else "". Counters that go on over a reload have that, and are in use meanwhile.
func (c *Counters) Begin(log *slog.Logger, follow Follower, rule, on string) {
	if c.Log == nil {
		c.Log, c.Follow = log, follow
	}
	if label := (Label{rule, on}); on != "" && (c.Label == nil || *c.Label != label) {
		c.Label = &label
	}
}

// A Follower is told of losses of which no more is known than the rule, the reason and how many.
type Follower interface {
	FollowLoss(rule string, why Reason, n uint64)
}

// CountFor counts n of a rule of which no more is known, and reports what Count does.
func (c *Counters) CountFor(rule string, why Reason, n uint64) (first bool) {
	if c.Follow != nil {
		c.Follow.FollowLoss(rule, why, n)
	}
	return c.Count(why, n)
}

// A Label is what metrics call a rule that is an instance of one with several interfaces.
type Label struct{ Rule, Interface string }

type losses struct {
	by [NumReasons]struct {
		count atomic.Uint64
		first atomic.Pointer[string] // what was lost first, and its cause
	}
	last Moment // when something was dropped last, as NoteDrops found it
	seen uint64 // how much was dropped by then; of NoteDrops
}

// Count counts n that went no further, and reports whether to tell of it: of the first
// that is lost for a reason, with its cause, so that a mistake shows at once; the rest
// are left to the metrics, so that a stream of them does not bury the log.
func (c *Counters) Count(why Reason, n uint64) (first bool) {
	if total := c.total.Load(); total != nil {
		total.Count(why, n)
	}
	lost := c.lost.Load()
	if lost == nil {
		c.lost.CompareAndSwap(nil, new(losses))
		lost = c.lost.Load()
	}
	return lost.by[why].count.Add(n) == n && !why.Filtered()
}

// CountMany is CountFor where there may be none, and what was lost is logged elsewhere.
func (c *Counters) CountMany(rule string, why Reason, n int) {
	if n > 0 {
		c.CountFor(rule, why, uint64(n))
	}
}

// LogFirst logs the first loss of a kind, and keeps it for the status. what was lost
// is a topic or a datagram.
func (c *Counters) LogFirst(rule string, why Reason, key, what string, err error) {
	attrs := []any{"rule", rule, "reason", why.String(), key, what}
	first := key + " " + what
	if err != nil {
		attrs = append(attrs, "err", err)
		first += ": " + err.Error()
	}
	c.lost.Load().by[why].first.Store(&first)
	c.Log.Warn("dropped; further drops of this rule and reason are only counted", attrs...)
}

// Of is how often something went no further for this reason.
func (c *Counters) Of(why Reason) uint64 {
	if lost := c.lost.Load(); lost != nil {
		return lost.by[why].count.Load()
	}
	return 0
}

// Dropped is how much was dropped, for any reason.
func (c *Counters) Dropped() (n uint64) {
	for why, count := range c.All() {
		if !why.Filtered() {
			n += count
		}
	}
	return n
}

// NoteDrops takes note of the time if something was dropped since it was last called: a
// drop itself need not look at the clock.
func (c *Counters) NoteDrops(at int64) {
	lost := c.lost.Load()
	if lost == nil {
		return
	}
	if n := c.Dropped(); n != lost.seen {
		lost.seen = n
		lost.last.Put(at)
	}
}

// LastDrop is when something was dropped last, to the second; 0: never.
func (c *Counters) LastDrop() int64 {
	if lost := c.lost.Load(); lost != nil {
		return lost.last.Load()
	}
	return 0
}

// All are the reasons for which something went no further, and how often.
func (c *Counters) All() iter.Seq2[Reason, uint64] {
	return func(yield func(Reason, uint64) bool) {
		lost := c.lost.Load()
		if lost == nil {
			return
		}
		for why := range lost.by {
			if n := lost.by[why].count.Load(); n > 0 && !yield(Reason(why), n) {
				return
			}
		}
	}
}

// Describe lists for the status what was lost, the first of each reason, and what was
// filtered.
func (c *Counters) Describe() (drops map[string]uint64, firsts map[string]string, filtered map[string]uint64) {
	for why, n := range c.All() {
		if why.Filtered() {
			filtered = with(filtered, why.String(), n)
			continue
		}
		drops = with(drops, why.String(), n)
		if first := c.lost.Load().by[why].first.Load(); first != nil {
			firsts = with(firsts, why.String(), *first)
		}
	}
	return drops, firsts, filtered
}

// with sets a key of a map that may not be there yet.
func with[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = make(map[string]V)
	}
	m[key] = value
	return m
}

// SpoolLoss is the reason why the spool has not kept something.
func SpoolLoss(full bool) Reason {
	if full {
		return ReasonSpoolFull
	}
	return ReasonSpoolFailed
}

var errDamaged = errors.New("what the disk gives back is not what was written; is it failing?")

// CountSpoolLosses counts what was found too old on disk, or damaged.
func (c *Counters) CountSpoolLosses(rule string, expired, damaged int) {
	count := func(why Reason, n int, cause error) {
		if n > 0 && c.CountFor(rule, why, uint64(n)) {
			c.LogFirst(rule, why, "spooled", strconv.Itoa(n), cause)
		}
	}
	count(ReasonExpired, expired, nil)
	count(ReasonSpoolFailed, damaged, errDamaged)
}
