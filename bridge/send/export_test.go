package send

import (
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/spool"
)

// What the tests of this package, which stand outside of it, look at or do, and nobody else.

const (
	MaxGathered     = maxGathered
	MaxDecoded      = maxDecoded
	MaxTopicBytes   = maxTopicBytes
	MaxTopicName    = maxTopicName
	MaxUnused       = maxUnused
	BufferPatience  = bufferPatience
	StuckPatience   = stuckPatience
	ReopenPause     = reopenPause
	DrainBatch      = drainBatch
	MaxPause        = maxPause
	CrowdedPause    = crowdedPause
	CrowdedPatience = crowdedPatience
	MaxPaced        = maxPaced
	MaxPacedHeld    = maxPacedHeld
	MaxKeptBytes    = maxKeptBytes
	MaxCounted      = maxCounted
	MaxEach         = maxEach
	MaxAnswers      = maxAnswers
	MaxAskedBytes   = maxRequestBytes
	MaxHosts        = maxHosts
	MaxHostsShown   = maxHostsShown
	MaxAsked        = maxAsked
	UnusedFor       = unusedFor
	MaxHostErrors   = maxHostErrors
)

// Driven reports whether a reason can happen to a send rule at all.
func Driven(why account.Reason) bool { return sendReasons[why] != nil }

// SizeOf is what a datagram takes of queue.size.
func SizeOf(topic string, payload int) int64 {
	w := queuedDatagram{topic: topic, payload: make([]byte, payload)}
	return int64(w.size() + account.Overhead)
}

// acknowledgement stands in for that of a session.
type acknowledgement struct{ done, again func() }

func (a acknowledgement) Done()      { a.done() }
func (a acknowledgement) Redeliver() { a.again() }

// OnSettled has the messages that wait in memory now told, by their payloads, once they are
// acknowledged, or left to the broker.
func (p *Path) OnSettled(acknowledged, left func(payload string)) {
	p.eachLocked(func(b *binding) {
		b.queue.eachDatagram(func(w *queuedDatagram) {
			if payload := string(w.payload); w.ack != nil {
				w.ack.ack = acknowledgement{func() { acknowledged(payload) }, func() { left(payload) }}
			}
		})
	})
}

func (p *Path) eachLocked(f func(b *binding)) {
	for _, b := range p.working.Load().bindings {
		b.mu.Lock()
		f(b)
		b.mu.Unlock()
	}
}

// PacedHeld is how many messages wait unacknowledged for their time, and PacedTargets how many
// targets of rules with a rate are known.
func (p *Path) PacedHeld() int64 { return p.pacedHeld.Load() }

// Counted is for how many targets it is known where the counter stands.
func (p *Path) Counted() (n int) {
	p.eachLocked(func(b *binding) { n += len(b.counters.next) })
	return n
}

func (p *Path) PacedTargets() (n int) {
	p.eachLocked(func(b *binding) { n += len(b.queue.pacing.targets) })
	return n
}

// Restores reports whether a message of the rule's disk is found out about, as it is on its way.
func (p *Path) Restores(r *Rule, topic, payload string) bool {
	return len(p.restore(r, []spool.Record{{Topic: []byte(topic), Payload: []byte(payload)}}, nil)) == 1
}

// Storing is how many messages are on their way to the disk.
func (p *Path) Storing() (n int) {
	p.eachLocked(func(b *binding) { n += b.storing })
	return n
}

// ByTheDisk reports whether what comes now goes to the disk, or waits behind what is there.
func (p *Path) ByTheDisk() (is bool) {
	p.eachLocked(func(b *binding) { is = is || b.spilling || len(b.spooledRules) > 0 })
	return is
}

// Wakes reports whether a goroutine begins to send if it is told that something may leave.
func (p *Path) Wakes() (begins bool) {
	p.eachLocked(func(b *binding) {
		b.wake()
		begins = begins || b.draining
	})
	return begins
}

// Owe has the path owe the broker a request, and the disk what it has turned away; Owes
// reports whether it still owes the disk.
func (p *Path) Owe()       { p.needsRedelivery.Store(true); p.unstored.Store(true) }
func (p *Path) Owes() bool { return p.unstored.Load() }

// KeepsQueues reports whether anything is kept of what waits, or has waited.
func (p *Path) KeepsQueues() (any bool) {
	p.eachLocked(func(b *binding) { any = any || b.queue.rules != nil })
	for _, r := range p.working.Load().Rules {
		any = any || r.waitingIn != nil
	}
	return any
}

// Decoded is how many bytes of decoded payloads there is room for.
func (p *Path) Decoded() int { return cap(p.decoded) }

// Topics are how many topics are remembered, with how many groups, and for how many bytes
// they count; of these the rules have theirs, and the rest is of topics without a rule.
func (p *Path) Topics() (topics, groups, bytes, unmatched int) {
	m := &p.topics
	return len(m.routes), len(m.flows), m.bytes, m.unmatched.bytes
}

// EachTargets are how many targets that payloads have made are remembered.
func (p *Path) EachTargets() (n int) {
	for _, r := range p.topics.routes {
		for i := range r.targets {
			if e := r.targets[i].each; e != nil {
				n += len(e.targets)
			}
		}
	}
	return n
}

func (r *Rule) TopicBytes() int { return r.topics.bytes }

// Remembers reports whether a topic is remembered.
func (p *Path) Remembers(topic string) bool { return p.topics.routes[topic] != nil }

// Notes reports whether it is noted what was sent last for a topic, which is remembered.
func (p *Path) Notes(topic string) bool {
	return slices.ContainsFunc(p.topics.routes[topic].targets, func(t routeTarget) bool { return t.sent != nil })
}

// ForgetTopics forgets all of them.
func (p *Path) ForgetTopics() { p.topics = newTopics() }

// Tidy leaves of what the rule has on disk the latest of each topic.
func (r *Rule) Tidy() { r.binding.tidy(r, new(spoolWork)) }

// SetLookPatience sets how long a look waits for a binding that is sending.
func (p *Path) SetLookPatience(d time.Duration) { p.lookPatience = d }

// SetDiskPatience sets how long a batch waits for the disk.
func (p *Path) SetDiskPatience(d time.Duration) { p.diskPatience = d }

// Asked is how many requests are out.
func (p *Path) Asked() (n int) {
	p.eachLocked(func(b *binding) { n += len(b.requests.due) })
	return n
}

// HostsRemembered is of how many hosts something is known.
func (p *Path) HostsRemembered() (n int) {
	p.eachLocked(func(b *binding) { n += b.hosts.n })
	return n
}

// DueItem is something in a DueHeap: what has the lower time is in front, of these the lower turn.
type DueItem struct {
	Time, Turn int
	heapPlace
}

func (i *DueItem) before(o *DueItem) bool {
	return i.Time < o.Time || i.Time == o.Time && i.Turn < o.Turn
}

type DueHeap struct{ All dueHeap[*DueItem] }

func (h *DueHeap) Push(i *DueItem)   { h.All.push(i) }
func (h *DueHeap) Fix(i *DueItem)    { h.All.fix(i) }
func (h *DueHeap) Remove(i *DueItem) { h.All.remove(i) }
func (i *DueItem) Place() int        { return i.index }

// HostErrorsKept is of how many targets of a rule ICMP errors are remembered.
func (p *Path) HostErrorsKept(name string) (n int) {
	for _, r := range p.working.Load().Rules {
		if r.Name == name {
			n += len(r.errors.by)
		}
	}
	return n
}

// NextKept is when the first of what is sent again is looked at.
func (p *Path) NextKept() (in time.Duration) {
	for _, b := range p.working.Load().bindings {
		b.mu.Lock()
		if len(b.kept.due) > 0 {
			in = time.Until(b.kept.due[0].due)
		}
		b.mu.Unlock()
	}
	return in
}
