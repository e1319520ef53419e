package send

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"topicast/bridge/account"
	"topicast/bridge/lastsent"
	"topicast/bridge/loopguard"
	"topicast/bridge/tap"
	"topicast/mapping"
)

// Rule is a send rule at work: what it says, the binding it leaves through,
// and what has become of its messages so far.
type Rule struct {
	*mapping.SendRule
	*sendTotals
	binding       *binding
	disabled      *account.Disabled     // nil: it is not
	tap           *tap.Tap              // is told what becomes of messages
	diverted      *diverted             // nil: all its groups leave through it
	guard         *loopguard.DedupCache // of the loop guard, for a rule that can feed a receive rule; else nil
	spool         *spoolQueue           // its queue in the spool; nil: it does not use the spool
	spooling      spoolState            // how far sending from the spool is; under the binding's mu
	is            uint64                // its identity for package spill (kept); 0: not computed yet
	subscriptions []uint32              // the identifiers of those that cover it; nil: no filter overlaps another
	stale         bool                  // another table is in force; under the path's mu
	successor     *Rule                 // the rule of that table which takes over; nil: none; likewise
	waitsFunc     func() bool           // the method value waits, made once; under the path's mu
	topics        topicShare            // what is remembered of its topics; under the path's mu
	came          int                   // messages that are not counted as received yet; likewise
	waitingIn     *ruleQueue            // what waits in the binding's memory; nil: nothing does; under that binding's mu
	room          account.Share         // what waits there for hosts takes; likewise
	hosts         map[netip.Addr]*host  // what is known of its hosts; likewise
	asking        asking                // those that the kernel is asked for; likewise

	replyRefused    atomic.Bool      // the log has said of a response topic that it is not used
	retired         atomic.Bool      // stale, for those without the path's mu
	answerPublisher *answerPublisher // nil: the rule publishes nothing
	makesTargets    bool             // the target varies: with the topic,
	byPayload       bool             // with the payload or user properties too,
	byProperty      []string         // which are these
	makesPayloads   bool             // what it sends may be another payload than that of the message, or none
	broadcasts      bool             // what it sends may go to a broadcast address
	settings        uint64           // the key of what it sends by
}

// waits reports whether anything of the rule waits.
func (r *Rule) waits() bool { return r.InMemory() > 0 || r.InSpool() > 0 }

// sentKey is the key by which package lastsent remembers what was last sent to a target for a topic.
func (r *Rule) sentKey(topic string, to netip.AddrPort) uint64 {
	return lastsent.Key(r.Name, topic, to.String())
}

// settingsKey stands for all settings that decide what the datagrams of a topic are and how they leave. What was
// sent by others counts as another payload, so that one which comes after that, by the first ones again, is new.
func settingsKey(r *mapping.SendRule) uint64 {
	b := &r.Binding
	return lastsent.Key(r.DatagramKey(), b.Interface, b.Source.String(),
		fmt.Sprint(b.SourcePort, b.TTL, b.Loopback, b.DSCP, b.IPv6, b.Fragment))
}

// sendTotals is what has become of a rule's messages. It outlives the rule, if the
// next table has one of that name.
type sendTotals struct {
	account.Counters
	received     atomic.Uint64 // messages that matched
	sent         atomic.Uint64 // datagrams the kernel took
	sentBytes    atomic.Uint64 // their payloads
	LastReceived account.Moment
	lastSent     account.Moment
	again        atomic.Uint64 // of the datagrams, those that were sent again by themselves
	answers      atomic.Uint64 // datagrams that came back, each of one of its requests
	answered     atomic.Uint64 // requests that have an answer
	unanswered   atomic.Uint64 // and that have none
	topicsKept   atomic.Int64  // of which the last datagram is to be sent again
	waiting      atomic.Int64  // datagrams in the queues of bindings
	waitingBytes atomic.Int64  // what they take of queue.size
	leftEver     atomic.Uint64 // messages that were left with the broker: each counts as received again when it is repeated
	left         atomic.Int64  // messages that stay with the broker, for there was no room, and that it is still to repeat
	leftSince    account.Moment
	down         hostsDown
	errors       hostErrors
}

// InMemory is how many datagrams of the rule wait in memory.
func (r *Rule) InMemory() int { return int(r.waiting.Load()) }

// InSpool is how many messages of the rule are on disk.
func (r *Rule) InSpool() int {
	if r.spool == nil {
		return 0
	}
	return r.spool.Len()
}

// Waits is how many bytes of the rule wait, in memory and in the spool.
func (r *Rule) Waits() (memory, disk int64) {
	if r.spool != nil {
		disk = r.spool.Bytes()
	}
	return r.waitingBytes.Load(), disk
}

// drop counts a message that is lost, and logs the first of its kind. One that may be a request is
// told of at its reply topic.
func (r *Rule) drop(why account.Reason, s *subject, err error) {
	if r.Count(why, 1) {
		r.LogFirst(r.Name, why, "topic", s.topic, err)
	}
	r.reportLost(why, s, err)
	if r.ExpectsAnswers() {
		r.tellNone(why.String(), s.topic, netip.AddrPort{}, 0, r.Binding.Interface, s.reply)
	}
}

// took counts n datagrams with bytes of payload that the kernel took; at is a moment.
func (r *Rule) took(n, bytes int, at int64) {
	r.sent.Add(uint64(n))
	r.sentBytes.Add(uint64(bytes))
	r.lastSent.Put(at)
}

// Left is how many messages were left with the broker, which repeats them, for there was no room.
func (r *Rule) Left() uint64 { return r.leftEver.Load() }

// account is what the losses of the rule are counted by once it is gone.
func (r *Rule) account() (name string, of *sendTotals) { return r.Name, r.sendTotals }

// Totals are how many messages matched, how many datagrams the kernel took, and how many
// bytes of payload these were.
func (r *Rule) Totals() (received, sent, bytes uint64) {
	return r.received.Load(), r.sent.Load(), r.sentBytes.Load()
}

// SentAgain is how many datagrams the kernel took that were sent again by themselves, and of how
// many topics the last one is kept for that.
func (r *Rule) SentAgain() (n uint64, topics int) { return r.again.Load(), int(r.topicsKept.Load()) }
