package send

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// spoolQueue is what a rule has in the spool. It holds messages, not datagrams: what
// waits there may find another target in the next configuration.
type spoolQueue struct {
	*spill.Queue

	owner atomic.Pointer[binding] // in whose spooledRules it was last
}

// spoolState is how a binding sends what a rule has in the spool. It is the rule's and not the
// queue's: the binding of a former table may just be sending from the same queue, under a lock
// of its own.
type spoolState struct {
	listed    bool      // the rule is in the binding's spooledRules
	refusal   refusal   // of what is in front
	notBefore time.Time // when what is in front may leave: of a rule with a rate, or whose host does not answer
}

// kept describes the rule for package spill. Only building a generation calls it.
func (r *Rule) kept() spill.Rule {
	if r.is == 0 {
		r.is = spill.Identity(r.Filter.String(), r.To().String(), r.Binding.Interface, r.Binding.Source.String())
	}
	return spill.Rule{
		Name: r.Name, Common: r.Common, Is: r.is, MaxAge: r.MaxAge, Latest: r.KeepsLatest(), Losses: &r.Counters,
	}
}

// onDisk reports whether the rule has something on disk, or on its way there, so
// that what comes now has to wait behind it. Callers hold the binding's mu.
func (r *Rule) onDisk() bool { return r.spool != nil && r.spooling.listed }

// listSpooled enters a rule in spooledRules. Callers hold mu.
func (b *binding) listSpooled(r *Rule) {
	if !r.spooling.listed {
		r.spooling.listed = true
		r.spool.owner.Store(b)
		b.spooledRules = append(b.spooledRules, r)
	}
}

// unlistSpooled takes it out if nothing is left on disk. Callers hold mu.
func (b *binding) unlistSpooled(r *Rule) {
	i := slices.Index(b.spooledRules, r)
	if i < 0 || r.spool.Len() > 0 {
		return // another binding's by now, or not yet empty
	}
	r.spooling.listed = false
	b.spooledRules = slices.Delete(b.spooledRules, i, i+1)
}

// spillOne hands what waits in memory to the disk. It is false if that takes no more
// just now, or there is none. Callers hold mu.
func (b *binding) spillOne(w *queuedDatagram) bool {
	if !b.appendToSpool(w) {
		return false
	}
	b.budget.Release(w.in.room, w.size())
	return true
}

// appendToSpool hands a datagram's message to the disk, which copies it. It is false if
// that takes no more just now, or there is none. Callers hold mu.
func (b *binding) appendToSpool(w *queuedDatagram) bool {
	r, topic, a := w.rule, w.topic, w.ack
	if r.spool == nil {
		return false
	}
	record := spool.Record{Age: time.Since(w.since), Topic: []byte(topic), Payload: w.original(), Key: keyOf(w.goodFor, w.reply, w.properties)}
	if !r.spool.Append(record, func(err error) { b.stored(r, topic, a, err) }) {
		b.unstored = true
		b.path.unstored.Store(true)
		return false
	}
	b.listSpooled(r)
	b.storing++
	return true
}

// stored is called by the spool when a message is safe, or why it is not.
func (b *binding) stored(r *Rule, topic string, a *pendingAck, err error) {
	if a != nil && errors.Is(err, spool.ErrClosed) {
		return // it is the end, and the broker has it
	}
	if err != nil {
		r.drop(account.SpoolLoss(errors.Is(err, spool.ErrFull)), &subject{topic: topic}, err)
	}
	if a != nil && a.settle() {
		a.ack.Done()
	}
	b.mu.Lock()
	b.storing--
	if b.unstored {
		b.spill() // there is room again
	}
	b.wake()
	b.mu.Unlock()
	if err == nil {
		b.path.answered.Store(true)
	}
	b.path.settled.Notify()
	if r.spool.owner.Load() != b { // by a table of since then
		r.spool.wake()
	}
}

// wake has the binding send that has the queue by now.
func (q *spoolQueue) wake() {
	if b := q.owner.Load(); b != nil {
		b.mu.Lock()
		b.wake()
		b.mu.Unlock()
	}
}

// spoolWork is the memory of drainSpool.
type spoolWork struct {
	rules   []*Rule
	turn    int // which of them is the first
	records [drainBatch]spool.Record
	revived []restored
}

// restored is a message from the disk, and why it is gone if it is. That counts when
// it leaves the disk: what stays there is looked at anew.
type restored struct {
	queuedDatagram
	gone bool
	why  account.Reason
	err  error
}

// giveUp says why a message is gone.
func (w *restored) giveUp(why account.Reason, err error) { w.gone, w.why, w.err = true, why, err }

// drainSpool sends from the front of what each rule has on disk. It returns as
// drain does.
func (b *binding) drainSpool(work *drainWork) (s Sender, progress bool, err error) {
	b.mu.Lock()
	s = b.socket
	work.spool.rules = work.spool.rules[:0]
	for _, r := range b.spooledRules {
		if !r.spooling.notBefore.After(time.Now()) {
			work.spool.rules = append(work.spool.rules, r)
		}
	}
	b.mu.Unlock()
	rules, refused := work.spool.rules, 0
	for i := range rules {
		if s == nil {
			return nil, progress, nil
		}
		at := (work.spool.turn + i) % len(rules)
		var more bool
		var failed error
		s, more, failed = b.drainSpooledRule(rules[at], work)
		progress = progress || more
		if failed == nil {
			continue
		}
		err = failed
		if refused++; refused == refusedRules || !work.suspects || !errors.Is(err, multicast.ErrNoBuffer) {
			work.spool.turn = at + 1
			return s, progress, err
		}
	}
	if err == nil {
		b.stopSpilling()
	}
	return s, progress, err
}

// refusedRules is how many rules are tried in one round while the kernel refuses what
// is in front of each.
const refusedRules = 8

// stopSpilling ends the storing when little is left on disk.
func (b *binding) stopSpilling() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.spilling || b.socket == nil {
		return
	}
	b.spilling = b.onDisk() > spill.LowWater
}

// onDisk is how many messages wait on disk. Callers hold mu.
func (b *binding) onDisk() (n int) {
	for _, r := range b.spooledRules {
		n += r.spool.Len()
	}
	return n
}

// drainSpooledRule sends from the front of what a rule has on disk.
func (b *binding) drainSpooledRule(r *Rule, work *drainWork) (s Sender, progress bool, err error) {
	known := !r.spool.Untidy() || b.tidy(r, &work.spool)
	most := len(work.spool.records)
	if r.paced() {
		most = 1
	}
	front := r.spool.Front(work.spool.records[:most])
	defer front.Remove(0)
	records := front.Records
	defer clear(records)
	all := b.path.restore(r, records, work.spool.revived[:0])
	work.spool.revived = all
	defer clear(all)

	b.mu.Lock()
	defer b.mu.Unlock()
	if s = b.socket; s == nil || len(all) < len(records) || !known {
		return s, false, nil
	}
	done, err := b.sendRestored(r, all, records, work)
	for i := range done {
		if w := &all[i]; w.gone {
			r.drop(w.why, &subject{string(records[i].Topic), w.to, records[i].Payload, w.since, w.reply}, w.err)
		} else {
			b.sent(&w.queuedDatagram)
		}
	}
	front.Remove(done)
	b.unlistSpooled(r)
	if err != nil {
		b.stalled(err)
	}
	return s, done+front.Lost > 0, err
}

// sendRestored sends what is not gone, and says how many from the front are done
// with. Callers hold mu.
func (b *binding) sendRestored(r *Rule, all []restored, records []spool.Record, work *drainWork) (done int, err error) {
	var place [drainBatch]int // of each datagram in all
	out, upTo := b.readyRestored(r, all, records, work.out[:0], &place)
	defer clear(out)
	if len(out) == 0 {
		return upTo, nil
	}
	if r.paced() {
		defer func() {
			if done > 0 {
				b.queue.pacing.left(r, all[0].to, time.Now())
			}
		}()
	}
	if !r.Counter.IsZero() {
		for i := range out {
			b.counters.number(i, r)
		}
	}
	n, err := b.transmit(nil, out, true, &r.spooling.refusal, func(i int, err error) {
		all[place[i]].giveUp(reasonOf(err), err)
	})
	for _, i := range place[:b.doubtful] {
		all[i].doubt()
	}
	work.sent(n)
	if errors.Is(err, multicast.ErrNoBuffer) {
		gone, why := b.noRoom(front{out[n:], n, uint64(records[place[n]].Came), true, &r.spooling.refusal}, work, err)
		if gone > 0 {
			all[place[n]].giveUp(reasonOf(why), why)
			n += gone
		}
	}
	if n < len(out) {
		return place[n], err
	}
	return upTo, err
}

// readyRestored adds to out what may leave now, up to the first that has to wait, notes the place of each, and
// says how many from the front that were, with those that are gone. Callers hold mu.
func (b *binding) readyRestored(r *Rule, all []restored, records []spool.Record, out []multicast.Datagram, place *[drainBatch]int) (_ []multicast.Datagram, upTo int) {
	now := time.Now()
	for i := range all {
		w := &all[i]
		if !w.gone && r.KeepsLatest() && r.spool.Superseded(&records[i]) {
			w.giveUp(account.ReasonSuperseded, nil)
		}
		if w.gone {
			continue
		}
		d := multicast.Datagram{To: w.to, Payload: w.payload, Broadcast: w.rule.broadcasts}
		if r.paced() && b.yields(r, w.to, now) {
			r.spooling.notBefore = now.Add(time.Millisecond)
			return out, i
		}
		h := b.hostOf(r, w.to.Addr())
		o, at := b.ready(&leaving{r, h, w.topic, w.to, w.payload, r.waitsForHost(true), w.reply}, now)
		if o == hostObstacle && h.unreachable() {
			if r.makesTargets {
				w.giveUp(account.ReasonUnreachable, h.errUnreachable())
				continue
			}
			if len(out) == 0 {
				b.probeHost(h, d, now)
			}
		}
		if r.spooling.notBefore = at; o != noObstacle {
			return out, i
		}
		place[len(out)] = i
		out = append(out, d)
	}
	return out, len(all)
}

var errNotTaken = errors.New("the rule does not take this topic any more")

// restore finds what the messages from a rule's disk are by the table in force:
// their groups, and their datagrams' payloads. Where the rule is not of that table
// it finds nothing: another one sends them.
func (p *Path) restore(r *Rule, records []spool.Record, into []restored) []restored {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.stale {
		return nil
	}
	now := time.Now()
	for i := range records {
		w := restored{queuedDatagram: queuedDatagram{since: now.Add(-records[i].Age), payload: records[i].Payload}}
		p.restoreOne(r, &records[i], &w)
		into = append(into, w)
	}
	p.forgetStale()
	return into
}

// restoreOne fills w in, or says why it is gone.
func (p *Path) restoreOne(r *Rule, record *spool.Record, w *restored) {
	w.goodFor, w.reply, w.properties = readKey(record.Key)
	if w.goodFor.overAfter(record.Age) {
		w.giveUp(account.ReasonExpired, nil)
		return
	}
	t, err := p.targetOf(r, record.Topic, record.Payload, &w.properties)
	switch {
	case t == nil:
		w.giveUp(account.ReasonRemoved, errNotTaken)
		return
	case err != nil:
		w.giveUp(badTarget(r), err)
		return
	}
	if r.Retained == mapping.RetainedOnce {
		w.fingerprint = p.fingerprint(r, record.Payload)
	}
	w.leavesBy(t)
	if w.payload, _, _, err = r.Datagram(nil, record.Payload); err != nil {
		w.giveUp(account.ReasonBadPayload, err)
		return
	}
	p.prepareQueued(t, w.fingerprint)
	t.delayed()
}

// targetOf is a rule's part in the route of a topic, for a message with this payload as it came, and
// these properties; nil: it has none. With an error it has no target. Callers hold mu.
func (p *Path) targetOf(r *Rule, topic, payload []byte, of *session.Properties) (*routeTarget, error) {
	t := p.partOf(r, topic)
	if t == nil {
		return nil, nil
	}
	return p.targetBy(t, payload, of)
}

// partOf is a rule's part in the route of a topic, whatever the payload; nil: it has none.
// Callers hold mu.
func (p *Path) partOf(r *Rule, topic []byte) *routeTarget {
	route := p.lookup(topic)
	for i := range route.targets {
		if route.targets[i].rule == r {
			return &route.targets[i]
		}
	}
	return nil
}

// expireOld drops what is too old: in memory, and while the source is away on disk; there
// also of what a later message has superseded where only the latest is wanted.
func (b *binding) expireOld() {
	if !b.mu.TryLock() {
		return // it is sending, and sees by itself what is too old
	}
	b.expireQueued(time.Now())
	b.path.settled.Notify()
	away := b.socket == nil
	rules := slices.Clone(b.spooledRules)
	b.mu.Unlock()
	if !away {
		return
	}
	work := new(spoolWork)
	for _, r := range rules {
		r.spool.Expire()
		if r.spool.Untidy() || r.spool.Outgrown() {
			b.tidy(r, work)
		}
	}
	b.path.settled.Notify() // what is in front of the disk is nobody's again
}

// tidy leaves of what a rule has on disk the latest of each topic, and reports whether it
// has come to the end.
func (b *binding) tidy(r *Rule, work *spoolWork) bool {
	defer clear(work.records[:])
	return r.spool.Tidy(work.records[:], func(record spool.Record) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		ok := r.spool.Append(record, func(err error) { b.stored(r, string(record.Topic), nil, err) })
		if ok {
			b.storing++
		}
		return ok
	})
}
