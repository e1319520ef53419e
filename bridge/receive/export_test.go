package receive

import (
	"net/netip"
	"time"
	"unsafe"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spool"
)

// What the tests of this package, which stand outside of it, look at or do, and nobody else.

const (
	InflightSize    = inflightSize
	PendingCost     = pendingCost
	InflightMost    = inflightBytes / inflightCost
	MaxSenderBytes  = maxSenderBytes
	MaxPublications = maxPublications
	MaxEncoded      = maxEncoded
	MayBlock        = mayBlock
	MayBlockEncoded = mayBlockEncoded
)

// Driven reports whether a reason can happen to a receive rule at all.
func Driven(why account.Reason) bool { return receiveReasons[why] != nil }

// Flush publishes what a rule holds back.
func (r *Rule) Flush() { r.flush() }

// Take takes room in memory as a message of the rule does.
func (r *Rule) Take(payload int) bool { return r.budget.Acquire(payload) }

// PendingNow is InMemory once nobody is just moving what waits.
func (r *Rule) PendingNow() int {
	r.spool.mu.Lock()
	defer r.spool.mu.Unlock()
	return len(r.spool.pending)
}

// Testing is how many loop tests of a rule are under way.
func (r *Rule) Testing() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.topics.all {
		if t.test.Load() != nil {
			n++
		}
	}
	return n + len(r.topics.tested)
}

// Condemn has the breaker of a rule take a fingerprint for a loop.
func (r *Rule) Condemn(fingerprint uint64) {
	r.breaker.End(nil, nil, []uint64{fingerprint}, time.Now())
}

// Pardon has it take a fingerprint for an honest stream.
func (r *Rule) Pardon(fingerprint uint64) { r.breaker.End(nil, []uint64{fingerprint}, nil, time.Now()) }

// Returns reports whether a topic of a rule is known to come back.
func (r *Rule) Returns(topic string) bool { return r.topics.all[topic].returns.Load() }

// Spooling reports whether what the rule publishes goes by the spool now.
func (r *Rule) Spooling() bool { return r.spool.state.Load() != direct }

// Waiting is how many messages wait for the disk in memory.
func (r *Rule) Waiting() int { return int(r.spool.waiting.Load()) }

// Spooler tells the queues of rules apart, and UsesIt reports whether that of the rule knows so.
func (r *Rule) Spooler() any { return r.spool }
func (r *Rule) UsesIt() bool { return r.spool.rule.Load() == r }

// Copying reports whether there are copies of what the session has, and Copies is where.
func (r *Rule) Copying() bool        { return r.spool.copied() > 0 }
func (r *Rule) Copies() *spool.Queue { return r.spool.queue.Aside() }

// Untrimmed reports whether the pump has yet to look for copies to trim.
func (p *Path) Untrimmed() bool { return p.untrimmed.Load() }

// A Reader is the socket of a group at work.
type Reader struct{ r *groupReader }

// Reader is that of the i-th group of a generation.
func (g *Generation) Reader(i int) Reader { return Reader{g.memberships[i].reader} }

// Handle has a reader take datagrams as if it had read them.
func (r Reader) Handle(datagrams []multicast.Datagram) { r.r.handleBatch(datagrams) }

// During has something done while a batch is under way, which has one more datagram then.
func (r Reader) During(do func(), then multicast.Datagram) {
	r.r.batchMu.Lock()
	defer r.r.batchMu.Unlock()
	do()
	r.r.sender(then.Source, 0).actions[0].topic.carry(then.Payload, &arrival{}, &batch{now: time.Now()})
}

// Run reads a socket until it is closed.
func (r Reader) Run(s Receiver) { r.r.run(s) }

// Heard tells the sets of rules apart that a reader knows senders for.
func (r Reader) Heard() any { return r.r.lastListeners }

// Print is what the breaker knows a message by.
func Print(source netip.Addr, topic, payload string) uint64 {
	return loopguard.SourceDigest(source) ^ loopguard.Fingerprint([]byte(payload)) ^ loopguard.Fingerprint([]byte(topic))
}

// Topics is how many topics are remembered, of rules and of those that are gone, and what
// those of rules take.
func (p *Path) Topics() (n int, bytes int64) { return len(p.states), p.topicRoom.OfReceived() }

// SetTopicBytes makes the memory for topics smaller, before there are rules.
func (p *Path) SetTopicBytes(n int64) { p.topicRoom = account.NewMemBudget(n) }

// Notes reports whether what is published on a topic of the rule is taken note of.
func (r *Rule) Notes(topic string) bool {
	return r.path.states[topic] != nil
}

// Unsettled is how many messages of a batch from the disk are awaited.
func Unsettled(origin session.Origin) int { return int(origin.(*inflightBatch).left.Load()) }

// UnneededCopies is how many copies the disk may forget.
func (r *Rule) UnneededCopies() int { return r.spool.copies.Load().over() }

// MaxParts is how many messages a datagram brings that is split.
const MaxParts = maxParts

// SetPayloadTopicBytes bounds what is remembered of topics that stand in payloads, of rules that
// are made from now on.
func (p *Path) SetPayloadTopicBytes(n int64) { p.inPayloads = account.NewMemBudget(n) }

// PayloadTopicBytes is what they take.
func (p *Path) PayloadTopicBytes() int64 { return p.inPayloads.Bytes() }

// PayloadTopics is how many are remembered of a rule, and what they take.
func (r *Rule) PayloadTopics() (topics int, bytes int64) {
	r.inPayloads.mu.Lock()
	defer r.inPayloads.mu.Unlock()
	return len(r.inPayloads.now) + len(r.inPayloads.before), r.inPayloads.room.Used()
}

// SetMergeBytes bounds what is remembered for merge, of rules that are made from now on.
func (p *Path) SetMergeBytes(n int64) { p.mergeRoom = account.NewMemBudget(n) }

// MergeBytes is what that takes.
func (p *Path) MergeBytes() int64 { return p.mergeRoom.Bytes() }

// Merging is how many datagrams a rule remembers for merge, and for how many there is room.
func (r *Rule) Merging() (n, room int) {
	r.merge.mu.Lock()
	defer r.merge.mu.Unlock()
	return r.merge.recent.len(), len(r.merge.recent.heard)
}

const (
	MaxLegs       = maxLegs
	MaxRecent     = maxRecent
	MaxMergeBytes = maxMergeBytes
	RecentCost    = recentCost
)

// SizesOfRecent are what the code takes for recentCost.
var SizesOfRecent = int(unsafe.Sizeof(occurrence{}) + 2*unsafe.Sizeof(content{}))
