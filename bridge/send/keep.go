package send

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/mapping"
)

// What is sent again without a new message: the copies of repeat, and the last datagram of each
// topic by refresh. A datagram that has left, in whichever way, replaces the one kept before
// (keepAgain). A timer starts sendKept, which sends those that are due by transmit, unless other
// datagrams wait. A newer message that has to wait ends the copies; an empty one ends the refresh, and
// so does max_age where the rule sets it.

const (
	// maxKeptBytes bounds the memory of datagrams kept to be sent again, of all rules. Half is for
	// whoever comes first, the rest is divided among the rules.
	maxKeptBytes = 32 << 20
	// keptBytes is what is kept beside topic and payload, and beyond account.Overhead.
	keptBytes = 200
	// refreshTick is what times of refreshes are rounded down to, so that many leave at once.
	refreshTick = 10 * time.Millisecond
	// keptPause is when a datagram that could not leave is tried again.
	keptPause = 100 * time.Millisecond
	// clearedLooks is how often a cleared topic is checked for older datagrams that still wait.
	clearedLooks = time.Minute
)

// keeping holds the datagrams that a binding sends again. Guarded by its mu.
type keeping struct {
	used    bool // a rule asks for it
	topics  map[keptKey]*keptTopic
	due     dueHeap[*keptTopic]
	rooms   map[*Rule]*account.Share
	budget  *account.BindingBudget
	timer   *time.Timer
	sending bool   // sendKept is at work, or about to be
	phase   uint32 // spreads refreshes
}

// keptKey identifies a kept datagram: rule and topic, and the target, since a topic whose payloads
// choose the target has several.
type keptKey struct {
	rule  *Rule
	topic string
	to    netip.AddrPort
}

// keptKey returns the key of the target's datagrams.
func (t *routeTarget) keptKey() keptKey { return keptKey{t.rule, t.route.topic, t.flow.to} }

// keptTopic is the last datagram of a topic.
type keptTopic struct {
	keptKey
	payload []byte
	came    time.Time // its message
	goodFor expiry    // likewise
	copies  uint8     // that are still to leave
	due     time.Time
	heapPlace

	// The topic was cleared, and what came before and still waits is not to be kept.
	cleared bool
	number  uint64 // of the last datagram in the queue then
}

// before orders kept datagrams by when they are due.
func (t *keptTopic) before(o *keptTopic) bool { return t.due.Before(o.due) }

// size returns what it takes of the budget, in bytes.
func (t *keptTopic) size() int { return keptBytes + len(t.topic) + cap(t.payload) }

// keepFresh keeps the datagrams of a batch that have just left. Callers hold mu.
func (b *binding) keepFresh(ds []*datagram, batch []session.Message, came time.Time) {
	for _, d := range ds {
		if !d.dropped && d.target.rule.SendsAgain() {
			b.keepAgain(d.target.keptKey(), d.payload, came, expiryOf(&batch[d.message]), 0)
		}
	}
	b.armKept()
}

// keepAgain keeps a datagram that has left, to be sent again as its rule says. number is the one that
// it had in the queue; 0: it was not queued. Callers hold mu.
func (b *binding) keepAgain(key keptKey, payload []byte, came time.Time, goodFor expiry, number uint64) {
	k, r := &b.kept, key.rule
	if r.retired.Load() {
		return
	}
	t := k.topics[key]
	if t != nil && t.cleared && (number > 0 && number <= t.number || number == 0 && came.Before(t.came)) {
		return // it came before the topic was cleared
	}
	refresh := r.Refresh
	if len(payload) == 0 {
		refresh = 0
	}
	if refresh == 0 && r.Repeat.Copies == 0 {
		b.forgetKept(t)
		return
	}
	if t == nil || cap(t.payload) < len(payload) {
		b.forgetKept(t)
		t = &keptTopic{keptKey: key, payload: bytes.Clone(payload)}
		if !b.addKept(t) {
			r.drop(account.ReasonRefreshFull, &subject{topic: key.topic, to: key.to, payload: payload, came: came}, errNoRoomToKeep)
			return
		}
	}
	t.payload, t.came, t.goodFor, t.copies, t.cleared = append(t.payload[:0], payload...), came, goodFor, r.Repeat.Copies, false
	now := time.Now()
	if t.copies > 0 {
		t.due = now.Add(r.Repeat.Every)
	} else {
		t.due = b.spreadRefresh(now, refresh)
	}
	k.due.fix(t)
}

var errNoRoomToKeep = errors.New("there is no room to remember it (32 MiB for all rules), so that it is not sent again: fewer topics, or shorter datagrams, with repeat or refresh")

// spreadRefresh returns when a datagram that has just left is refreshed: at the latest after the
// rule's period. Datagrams that left together are spread over the second half of it.
func (b *binding) spreadRefresh(now time.Time, refresh time.Duration) time.Time {
	b.kept.phase += 0x9e3779b9 // the golden ratio of 2^32: however many there are, they lie evenly
	due := now.Add(refresh - time.Duration(uint64(refresh/2)*uint64(b.kept.phase>>16)>>16))
	return due.Add(-time.Duration(due.UnixNano() % int64(min(refreshTick, refresh/8))))
}

// addKept adds a datagram, if there is room in the budget.
func (b *binding) addKept(t *keptTopic) bool {
	k := &b.kept
	room := k.rooms[t.rule]
	if room == nil {
		if k.rooms == nil {
			k.rooms, k.topics = make(map[*Rule]*account.Share), make(map[keptKey]*keptTopic)
		}
		room = new(account.Share)
		k.rooms[t.rule] = room
	}
	if !k.budget.Acquire(room, t.size()) {
		return false
	}
	k.topics[t.keptKey] = t
	k.due.push(t)
	t.rule.topicsKept.Add(1)
	return true
}

// forgetKept removes a kept datagram, if there is one. Callers hold mu.
func (b *binding) forgetKept(t *keptTopic) {
	if t == nil {
		return
	}
	b.kept.due.remove(t)
	delete(b.kept.topics, t.keptKey)
	b.kept.budget.Release(b.kept.rooms[t.rule], t.size())
	t.rule.topicsKept.Add(-1)
}

// endCopies ends the copies of a topic's last datagram, as a newer message has come. Callers hold mu.
func (b *binding) endCopies(of keptKey) {
	t := b.kept.topics[of]
	if t == nil || t.copies == 0 {
		return
	}
	t.copies = 0
	if t.rule.Refresh == 0 || len(t.payload) == 0 {
		b.forgetKept(t)
		return
	}
	t.due = b.spreadRefresh(time.Now(), t.rule.Refresh)
	b.kept.due.fix(t)
}

// clearKept ends the refresh of a topic that was cleared without a datagram. Older datagrams that
// still wait do not start it again. Callers hold the path's mu, and nothing is gathered.
func (p *Path) clearKept(t *routeTarget) {
	b := t.flow.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetKept(b.kept.topics[t.keptKey()])
	if !t.rule.waits() {
		return
	}
	mark := &keptTopic{keptKey: t.keptKey(), cleared: true, number: b.queue.last, came: p.began, due: time.Now().Add(clearedLooks)}
	if b.addKept(mark) {
		b.armKept()
	}
}

// armKept sets the timer for the datagram that is due first. Callers hold mu.
func (b *binding) armKept() {
	k := &b.kept
	if len(k.due) == 0 || k.sending || b.stopped || b.socket == nil {
		return
	}
	d := time.Until(k.due[0].due)
	if k.timer != nil {
		k.timer.Reset(d)
		return
	}
	k.timer = time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.stopped && !k.sending && b.socket != nil {
			k.sending = true
			b.drains.Go(b.sendKept)
		}
	})
}

// sendKept sends the kept datagrams that are due.
func (b *binding) sendKept() {
	out, of := make([]multicast.Datagram, 0, drainBatch), make([]*keptTopic, 0, drainBatch)
	for b.sendSomeKept(out, of) {
	}
}

// sendSomeKept sends one batch of them, and reports whether there are more.
func (b *binding) sendSomeKept(out []multicast.Datagram, of []*keptTopic) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	k := &b.kept
	defer func() {
		if !more {
			k.sending = false
			b.armKept()
		}
	}()
	if b.socket == nil || b.stopped {
		return false
	}
	for len(out) < drainBatch && len(k.due) > 0 && !k.due[0].due.After(now) {
		if t := k.due[0]; b.leavesAgain(t, now) {
			b.counters.number(len(out), t.rule)
			out, of = append(out, multicast.Datagram{To: t.to, Payload: t.payload, Broadcast: t.rule.broadcasts}), append(of, t)
		}
	}
	if len(out) == 0 {
		return false
	}
	var failed [drainBatch]error
	n, err := b.transmit(nil, out, false, nil, func(i int, err error) { failed[i] = err })
	at := account.MomentOf(now)
	for i, t := range of[:n] {
		if failed[i] != nil {
			t.rule.drop(reasonOf(failed[i]), &subject{topic: t.topic, to: t.to, payload: t.payload, came: t.came}, failed[i])
			continue
		}
		t.rule.took(1, len(t.payload), at)
		t.rule.again.Add(1)
		b.reportSent(t.rule, t.topic, t.to, t.payload, now, now, "again")
	}
	for _, t := range of[n:] { // none is sent late, shortly before the next one
		b.rescheduleKept(t, now.Add(keptPause))
	}
	if err != nil {
		b.stalled(err)
		return false
	}
	return len(k.due) > 0 && !k.due[0].due.After(now)
}

// leavesAgain reports whether a kept datagram is sent now, and reschedules or removes it. Callers
// hold mu.
func (b *binding) leavesAgain(t *keptTopic, now time.Time) bool {
	r := t.rule
	switch {
	case t.cleared:
		if !r.waits() {
			b.forgetKept(t)
		} else {
			b.rescheduleKept(t, now.Add(clearedLooks))
		}
		return false
	case t.copies == 0 && r.AgeGiven && r.MaxAge > 0 && now.Sub(t.came) > r.MaxAge, t.goodFor.overAfter(now.Sub(t.came)):
		b.forgetKept(t)
		return false
	case !b.allPaced(): // what waits for the kernel goes first
		b.rescheduleKept(t, now.Add(keptPause))
		return false
	}
	h := b.hostOf(r, t.to.Addr())
	if target := b.queue.pacing.targets[t.to]; target != nil && r.onDisk() && !r.Rate.IsZero() {
		// What is new there may be for this target: it gets its turn first.
		if at := target.next(r).Add(r.Rate.Period()); at.After(now) {
			b.rescheduleKept(t, at)
			return false
		}
	}
	if h.hasWaiting() { // so does that; and looking costs, of thousands of topics of a host that is off
		b.rescheduleKept(t, now.Add(keptPause))
		return false
	}
	if target := b.queue.pacing.targets[t.to]; r.paced() && target != nil && target.queues > 0 {
		b.rescheduleKept(t, laterOf(target.next(r), now.Add(mapping.MinRepeatEvery)))
		return false
	}
	switch o, at := b.ready(&leaving{r, h, t.topic, t.to, t.payload, false, nil}, now); o {
	case noObstacle:
		b.queue.pacing.left(r, t.to, now)
	case hostObstacle:
		b.rescheduleKept(t, now.Add(keptPause))
		return false
	default:
		b.rescheduleKept(t, laterOf(at, now.Add(mapping.MinRepeatEvery)))
		return false
	}
	switch {
	case t.copies > 1:
		t.copies--
		b.rescheduleKept(t, now.Add(r.Repeat.Every))
	case r.Refresh == 0 || len(t.payload) == 0:
		b.forgetKept(t) // the last copy
	case t.copies == 1:
		t.copies = 0
		b.rescheduleKept(t, b.spreadRefresh(now, r.Refresh))
	default:
		b.rescheduleKept(t, laterOf(t.due.Add(r.Refresh), now.Add(r.Refresh/2)))
	}
	return true
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rescheduleKept sets when a datagram is due, if it is still kept.
func (b *binding) rescheduleKept(t *keptTopic, at time.Time) {
	if b.kept.topics[t.keptKey] == t {
		t.due = at
		b.kept.due.fix(t)
	}
}

// resumeKept is called when the source is back: datagrams that were due meanwhile are sent once,
// within a second, and copies are not. Callers hold mu.
func (b *binding) resumeKept(now time.Time) {
	k := &b.kept
	for _, t := range slices.Clone(k.due) {
		if t.copies > 0 {
			b.endCopies(t.keptKey)
		}
		if !t.cleared && t.due.Before(now) && t.rule.Refresh > 0 {
			b.rescheduleKept(t, b.spreadRefresh(now, min(t.rule.Refresh, time.Second)))
		}
	}
	b.armKept()
}

// takeAllKept removes and returns all kept datagrams. Callers hold mu.
func (b *binding) takeAllKept() (all []*keptTopic) {
	all = append(all, b.kept.due...)
	for _, t := range all {
		b.forgetKept(t)
	}
	b.kept.rooms, b.kept.topics, b.kept.due = nil, nil, nil
	return all
}

// carryOverKept hands a kept datagram to the rule that replaces its own at a reload: it is due at the
// same time, or sooner if that rule refreshes more often. Callers hold the path's mu.
func (p *Path) carryOverKept(t *keptTopic, to *Rule) {
	if to == nil || !to.SendsAgain() || to.DatagramKey() != t.rule.DatagramKey() || !to.When.Equal(t.rule.When) || to.CheckLength(t.payload) != nil {
		return
	}
	target := p.partOf(to, []byte(t.topic))
	if target != nil && target.each != nil {
		if !to.To().Equal(t.rule.To()) || !to.Filter.Equal(t.rule.Filter) {
			return // the payload that it came with is known no more, nor where that would go now
		}
		target = p.eachTarget(target, t.to)
	}
	if target == nil || target.flow == nil {
		return
	}
	b := target.flow.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	t.keptKey = target.keptKey()
	t.copies = min(t.copies, to.Repeat.Copies)
	if t.cleared {
		t.number = b.queue.last
	} else if t.copies == 0 {
		if to.Refresh == 0 || len(t.payload) == 0 {
			return
		}
		if soon := time.Now().Add(to.Refresh); t.due.After(soon) {
			t.due = b.spreadRefresh(time.Now(), to.Refresh)
		}
	}
	if b.addKept(t) {
		b.armKept()
	} else {
		to.drop(account.ReasonRefreshFull, &subject{topic: t.topic, to: t.to, payload: t.payload, came: t.came}, errNoRoomToKeep)
	}
}
