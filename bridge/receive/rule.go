package receive

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/mapping"
)

// Rule is a receive rule at work.
type Rule struct {
	*mapping.ReceiveRule
	*receiveTotals
	number          uint64 // tells it from others in the loop guard; not 0
	path            *Path
	disabled        *account.Disabled // nil: it is not
	memberships     []*membership
	breaker         loopguard.Breaker
	crowd           senderShare
	inspectsPayload bool // it looks into datagrams (content.go)
	bears           bool // its messages carry user properties (properties.go)
	inPayloads      payloadTopics
	delay           *delayQueue         // nil: the rule is on no cycle
	merge           *merge              // nil: the rule does not merge
	is              uint64              // its identity for package spill (kept); 0: not computed yet
	spool           *publishSpool       // nil: there is no spool, or the rule publishes with QoS 0
	budget          *account.RuleBudget // of what waits in memory, for the broker or for its time

	loggedState   account.State // the state that was logged last; on the goroutine of followInterfaces
	loggedReason  string        // and its reason
	silenceLogged bool          // its silence was logged; on the goroutine of watch
	watched       *watched      // nil: the rule expects nothing

	mu     sync.Mutex
	topics topicMemory
}

// receiveTotals is what has become of a rule's datagrams. It outlives the rule, if
// the next table has one of that name.
type receiveTotals struct {
	account.Counters
	received     atomic.Uint64 // datagrams that arrived
	published    atomic.Uint64 // messages that the broker has
	failures     atomic.Uint64 // messages lost on the way to the broker, which on_change must not take for published
	LastReceived account.Moment
}

// account is what the losses of the rule are counted by once it is gone.
func (r *Rule) account() (name string, of *receiveTotals) { return r.Name, r.receiveTotals }

// Totals are how many datagrams arrived, and how many messages the broker has.
func (r *Rule) Totals() (received, published uint64) {
	return r.received.Load(), r.published.Load()
}

// InMemory is how many messages of the rule wait in memory for the broker; what the
// session has is not among them.
func (r *Rule) InMemory() int {
	if r.spool == nil {
		return 0
	}
	return int(r.spool.waiting.Load())
}

// InSpool is how many messages of the rule are on disk, with the copies of what the session
// has.
func (r *Rule) InSpool() int {
	if r.spool == nil {
		return 0
	}
	return r.spool.onDisk()
}

// Waits is how many bytes of the rule wait: in memory, with what the session has, and in the
// spool.
func (r *Rule) Waits() (memory, disk int64) {
	if r.spool != nil {
		disk = r.spool.queue.Bytes()
	}
	return r.budget.Used(), disk
}

// flush publishes at once what the rule holds back.
func (r *Rule) flush() {
	if r.delay != nil {
		r.delay.flush()
	}
	r.mu.Lock()
	topics := slices.Collect(maps.Values(r.topics.all))
	r.mu.Unlock()
	for _, t := range topics {
		t.state.flush(r)
	}
	r.breaker.StopTests() // last, as the others may begin a test
}

// drop counts a datagram that is lost, and logs the first of its kind.
func (r *Rule) drop(why account.Reason, topic []byte, a *arrival, payload []byte, err error) {
	if r.lose(why, topic, a, payload, err) {
		r.LogFirst(r.Name, why, "datagram", a.String(), err)
	}
}

// dropFull counts a datagram for which there is no room in memory.
func (r *Rule) dropFull(topic []byte, a *arrival, payload []byte) {
	r.drop(account.ReasonQueueFull, topic, a, payload, &queueFull{r.budget.Used(), r.path.budget.Bytes()})
}

// queueFull is why there is no room. It is worded for who reads it: of a flood that is hardly any.
type queueFull struct{ rule, all int64 }

func (e *queueFull) Error() string {
	return fmt.Sprintf("queue.size: %d bytes of the rule are waiting, %d in all", e.rule, e.all)
}

// logLoop logs that a loop was found, and that what goes round is dropped.
func (r *Rule) logLoop(t *ruleTopic, a *arrival, now time.Time) {
	if r.breaker.LogDue(now) {
		r.Log.Error("what the rule publishes comes back through other programs, and is dropped for a while: let the two directions have different topics",
			"rule", r.Name, "topic", string(t.name), "datagram", a.String(), "for", loopguard.Cooldown)
	}
}

// Mentions reports whether a text, in lower case, is in what the rule says.
func (r *Rule) Mentions(text string) bool {
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	return in(r.Name) || in(r.Topic.String()) || in(r.Interface) ||
		r.Port != 0 && in(r.Heard()) || slices.ContainsFunc(r.Groups, func(g mapping.GroupRange) bool { return in(g.String()) }) ||
		slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return in(mapping.PrefixText(p)) })
}
