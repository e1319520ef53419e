package bridge

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/spool"
	"topicast/mapping"
)

// disk is what a rule has in the spool. It holds messages, not datagrams: what
// waits there may find another group in the next configuration.
type disk struct {
	*spool.Queue

	sending sync.Mutex              // one at a time takes from the front
	owner   atomic.Pointer[binding] // in whose backlog it was last
	listed  bool                    // it is there now; under that binding's mu
	kept    int                     // what tidy could not let go of the last time
}

// onDisk says whether the rule has something on disk, or on its way there, so
// that what comes now has to wait behind it. Callers hold the binding's mu.
func (r *sendRule) onDisk() bool { return r.disk != nil && r.disk.listed }

// list enters a rule in the backlog. Callers hold mu.
func (b *binding) list(r *sendRule) {
	if !r.disk.listed {
		r.disk.listed = true
		r.disk.owner.Store(b)
		b.backlog = append(b.backlog, r)
	}
}

// unlist takes it out if nothing is left on disk. Callers hold mu.
func (b *binding) unlist(r *sendRule) {
	i := slices.Index(b.backlog, r)
	if i < 0 || r.disk.Len() > 0 {
		return // another binding's by now, or not yet empty
	}
	r.disk.listed = false
	b.backlog = slices.Delete(b.backlog, i, i+1)
}

// store hands what waits in memory to the disk. It is false if that takes no more
// just now, or there is none. Callers hold mu.
func (b *binding) store(w *waiting) bool {
	l, h := w.leg, w.holding
	if l.rule.disk == nil {
		return false
	}
	record := spool.Record{At: w.since, Topic: []byte(l.route.topic), Payload: w.original()}
	if !l.rule.disk.Append(record, func(err error) { b.stored(l, h, err) }) {
		return false
	}
	b.list(l.rule)
	b.storing++
	l.newest = w.since.UnixNano()
	b.room.give(1, w.size())
	return true
}

// stored is told by the spool that a message is safe, or why it is not.
func (b *binding) stored(l *leg, h *holding, err error) {
	if err != nil {
		l.lose(spoolReason(err), err)
	}
	if h != nil && h.settle() {
		h.ack.Done()
	}
	b.mu.Lock()
	b.storing--
	b.stow() // there is room again
	b.wake()
	b.mu.Unlock()
	if o := l.rule.disk.owner.Load(); o != b { // by a table of since then
		o.mu.Lock()
		o.wake()
		o.mu.Unlock()
	}
}

// spoolReason says why the spool has not kept something.
func spoolReason(err error) Reason {
	if errors.Is(err, spool.ErrFull) {
		return DropSpoolFull
	}
	return DropSpoolFailed
}

// loseOnDisk counts what was found too old, or damaged.
func loseOnDisk(l *ledger, rule string, lost spool.Lost) {
	tell := func(why Reason, n int, cause error) {
		if n > 0 && l.lose(why, uint64(n)) {
			l.tell(rule, why, "spooled", fmt.Sprint(n), cause)
		}
	}
	tell(DropExpired, lost.Expired, nil)
	tell(DropSpoolFailed, lost.Damaged, errors.New("what the disk gives back is not what was written; is it failing?"))
}

// diskWork is the memory of drainDisk.
type diskWork struct {
	rules   []*sendRule
	records [drainBatch]spool.Record
	revived []revived
}

// revived is a message from the disk, and why it is gone if it is. That counts when
// it leaves the disk: what stays there is looked at anew.
type revived struct {
	waiting
	why Reason
	err error
}

// giveUp says why a message is gone.
func (w *revived) giveUp(why Reason, err error) { w.gone, w.why, w.err = true, why, err }

// closeEnough is how few messages on disk are left when the rest that comes waits
// for them in memory: else a steady stream would go by the disk for ever.
const closeEnough = 1024

// drainDisk sends from the front of what each rule has on disk. It returns as
// drain does.
func (b *binding) drainDisk(work *drainWork) (s socket, progress bool, err error) {
	b.mu.Lock()
	s = b.socket
	work.disk.rules = append(work.disk.rules[:0], b.backlog...)
	b.mu.Unlock()
	for _, r := range work.disk.rules {
		if s == nil {
			return nil, progress, nil
		}
		var more bool
		s, more, err = b.drainRule(r, work)
		progress = progress || more
		if err != nil {
			return s, progress, err
		}
	}
	b.catchUp()
	return s, progress, nil
}

// catchUp ends the storing when little is left on disk.
func (b *binding) catchUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.behind || b.socket == nil {
		return
	}
	b.behind = b.onDisk() > closeEnough
}

// onDisk is how many messages wait on disk. Callers hold mu.
func (b *binding) onDisk() (n int) {
	for _, r := range b.backlog {
		n += r.disk.Len()
	}
	return n
}

// drainRule sends from the front of what a rule has on disk.
func (b *binding) drainRule(r *sendRule, work *drainWork) (s socket, progress bool, err error) {
	r.disk.sending.Lock()
	defer r.disk.sending.Unlock()
	n, lost := r.disk.Front(work.disk.records[:], time.Now(), r.MaxAge)
	loseOnDisk(&r.ledger, r.Name, lost)
	records := work.disk.records[:n]
	defer clear(records)
	all := b.path.revive(r, records, work.disk.revived[:0])
	work.disk.revived = all
	defer clear(all)

	b.mu.Lock()
	defer b.mu.Unlock()
	if s = b.socket; s == nil || len(all) < n {
		return s, false, nil
	}
	done, err := b.sendRevived(s, all, work.out[:0])
	if done > 0 {
		b.retried = time.Time{}
	}
	if errors.Is(err, multicast.ErrNoBuffer) && b.outOfPatience() {
		all[done].giveUp(DropNoBuffer, err)
		done++
	}
	for i := range done {
		if w := &all[i]; w.gone {
			r.drop(w.why, string(records[i].Topic), w.err)
		} else {
			b.sent(&w.waiting)
		}
	}
	r.disk.Remove(done)
	b.unlist(r)
	if err != nil {
		b.stalled(err)
	}
	return s, done+lost.Expired+lost.Damaged > 0, err
}

// sendRevived sends what is not gone, and says how many from the front are done
// with. Callers hold mu.
func (b *binding) sendRevived(s socket, all []revived, out []multicast.Datagram) (done int, err error) {
	var place [drainBatch]int // of each datagram in all
	for i := range all {
		w := &all[i]
		if !w.gone && w.leg.rule.OnDown == mapping.OnDownLatest && w.leg.newest > w.since.UnixNano() {
			w.giveUp(DropSuperseded, nil)
		}
		if !w.gone {
			place[len(out)] = i
			out = append(out, multicast.Datagram{Group: w.group, Payload: w.payload})
		}
	}
	defer clear(out)
	n, err := sendSurely(s, out, true, func(i int, err error) { all[place[i]].giveUp(reasonOf(err), err) })
	if n < len(out) {
		return place[n], err
	}
	return len(all), err
}

var errNotTaken = errors.New("the rule does not take this topic any more")

// revive finds what the messages from a rule's disk are by the table in force:
// their groups, and their datagrams' payloads. Where the rule is not of that table
// it finds nothing: another one sends them.
func (p *sendPath) revive(r *sendRule, records []spool.Record, into []revived) []revived {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.stale {
		return nil
	}
	for i := range records {
		w := revived{waiting: waiting{since: records[i].At, payload: records[i].Payload}}
		p.reviveOne(r, &records[i], &w)
		into = append(into, w)
	}
	return into
}

// reviveOne fills w in, or says why it is gone.
func (p *sendPath) reviveOne(r *sendRule, record *spool.Record, w *revived) {
	w.leg = p.leg(r, record.Topic)
	switch {
	case w.leg == nil:
		w.giveUp(DropRemoved, errNotTaken)
		return
	case w.leg.flow == nil:
		w.giveUp(DropBadGroup, w.leg.err)
		return
	}
	if r.Retained == mapping.RetainedOnce {
		w.print = fingerprint(record.Payload)
	}
	w.group = w.leg.flow.group
	if !r.Payload.Raw() {
		var err error
		if w.payload, err = r.Payload.Decode(nil, record.Payload); err != nil {
			w.giveUp(DropBadPayload, err)
		}
	}
}

// leg is a rule's part in the route of a topic; nil: it has none. Callers hold mu.
func (p *sendPath) leg(r *sendRule, topic []byte) *leg {
	route := p.lookup(topic)
	for i := range route.legs {
		if route.legs[i].rule == r {
			return &route.legs[i]
		}
	}
	return nil
}

// tidy lets go of what is too old on disk while the source is away, and of what a
// later message has superseded where only the latest is wanted.
func (b *binding) tidy(now time.Time) {
	b.mu.Lock()
	away := b.socket == nil
	rules := slices.Clone(b.backlog)
	b.mu.Unlock()
	if !away {
		return
	}
	work := new(diskWork)
	for _, r := range rules {
		r.disk.sending.Lock()
		_, lost := r.disk.Front(work.records[:1], now, r.MaxAge)
		loseOnDisk(&r.ledger, r.Name, lost)
		if r.OnDown == mapping.OnDownLatest && r.disk.Len() > 2*r.disk.kept+closeEnough {
			r.disk.kept = b.compact(r, now, work)
		}
		r.disk.sending.Unlock()
	}
}

// compact goes once through all that a rule has on disk: what was superseded is
// let go, and what was not goes to the end. It returns how many those are. Callers
// hold the disk's sending.
func (b *binding) compact(r *sendRule, now time.Time, work *diskWork) (kept int) {
	for left := r.disk.Len(); left > 0; {
		n, lost := r.disk.Front(work.records[:min(left, drainBatch)], now, r.MaxAge)
		loseOnDisk(&r.ledger, r.Name, lost)
		left -= n + lost.Expired + lost.Damaged
		if n == 0 {
			break // what is left is still on its way to the disk
		}
		moved, ok := b.moveBack(r, work.records[:n])
		kept += moved
		clear(work.records[:n])
		if !ok {
			break
		}
		r.disk.Remove(n)
	}
	return kept
}

// moveBack appends what is still the latest of its topic once more. It is not ok
// if the disk takes no more just now: then what it has moved is there twice; nor
// if another table is in force.
func (b *binding) moveBack(r *sendRule, records []spool.Record) (moved int, ok bool) {
	b.path.mu.Lock()
	defer b.path.mu.Unlock()
	if r.stale {
		return 0, false // the next table's rule looks after it
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range records {
		l := b.path.leg(r, records[i].Topic)
		switch {
		case l == nil:
			r.drop(DropRemoved, string(records[i].Topic), errNotTaken)
			continue
		case l.newest > records[i].At.UnixNano():
			l.lose(DropSuperseded, nil)
			continue
		case !r.disk.Append(records[i], func(err error) { b.stored(l, nil, err) }):
			return moved, false
		}
		b.storing++
		l.newest = records[i].At.UnixNano()
		moved++
	}
	return moved, true
}
