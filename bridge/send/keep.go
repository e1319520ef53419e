package send

import (
	"bytes"
	"container/heap"
	"errors"
	"net/netip"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// What is sent again by itself: the copies of repeat, and the last datagram of each topic by
// refresh. A datagram that has left, by whichever way, is kept in place of the one before
// (keepAgain). A timer has those sent whose time has come (sendKept), by transmit, as far as
// nothing else waits. A newer message ends the copies when it has to wait; an empty one ends
// the refresh, and so does max_age where the rule has one of its own.

const (
	// maxKeptBytes is how much may be kept to be sent again, of all rules. Half is for whoever
	// comes first, the rest is divided up.
	maxKeptBytes = 32 << 20
	// keptBytes is what is kept beside topic and payload, and beyond account.Overhead.
	keptBytes = 160
	// refreshTick is what times of refreshes are rounded down to, so that many leave at once.
	refreshTick = 10 * time.Millisecond
	// keptPause is when what could not leave is tried again.
	keptPause = 100 * time.Millisecond
	// clearedLooks is how often it is looked whether anything older than an empty message waits.
	clearedLooks = time.Minute
)

// keeping is what a binding sends again. Its mu guards it.
type keeping struct {
	used    bool // a rule asks for it
	topics  map[keptKey]*keptTopic
	due     dueTopics
	rooms   map[*Rule]*account.Share
	budget  *account.BindingBudget
	timer   *time.Timer
	sending bool   // sendKept is at work, or about to be
	phase   uint32 // spreads refreshes
}

type keptKey struct {
	rule  *Rule
	topic string
}

// keptTopic is the last datagram of a topic.
type keptTopic struct {
	keptKey
	group   netip.AddrPort
	payload []byte
	came    time.Time // its message
	copies  uint8     // that are still to leave
	due     time.Time
	place   int // in due

	// The topic was cleared, and what came before and still waits is not to be kept.
	cleared bool
	number  uint64 // of the last datagram in the queue then
}

// dueTopics is a heap, what is to leave first in front.
type dueTopics []*keptTopic

func (d dueTopics) Len() int           { return len(d) }
func (d dueTopics) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dueTopics) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}
func (d *dueTopics) Push(t any) {
	t.(*keptTopic).place = len(*d)
	*d = append(*d, t.(*keptTopic))
}
func (d *dueTopics) Pop() any {
	last := len(*d) - 1
	t := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return t
}

// size is what it takes of the budget.
func (t *keptTopic) size() int { return keptBytes + len(t.topic) + cap(t.payload) }

// keepFresh keeps what has just left of a batch. Callers hold mu.
func (b *binding) keepFresh(ds []datagram, out []multicast.Datagram, came time.Time) {
	for i := range ds {
		if d := &ds[i]; !d.dropped && d.target.rule.SendsAgain() {
			b.keepAgain(d.target.rule, d.target.route.topic, out[i].Group, d.payload, came, 0)
		}
	}
	b.armKept()
}

// keepAgain has a datagram that has left sent again, as its rule says. number is that which it had
// in the queue; 0: it was not there. Callers hold mu.
func (b *binding) keepAgain(r *Rule, topic string, group netip.AddrPort, payload []byte, came time.Time, number uint64) {
	k := &b.kept
	key := keptKey{r, topic}
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
			r.drop(account.DropRefreshFull, topic, errNoRoomToKeep)
			return
		}
	}
	t.group, t.payload, t.came, t.copies, t.cleared = group, append(t.payload[:0], payload...), came, r.Repeat.Copies, false
	now := time.Now()
	if t.copies > 0 {
		t.due = now.Add(r.Repeat.Every)
	} else {
		t.due = b.spread(now, refresh)
	}
	heap.Fix(&k.due, t.place)
}

var errNoRoomToKeep = errors.New("there is no room to remember it (32 MiB for all rules), so that it is not sent again: fewer topics, or shorter datagrams, with repeat or refresh")

// spread is when what has just left is refreshed: after the time the rule says at the latest.
// What left together does so over half of that.
func (b *binding) spread(now time.Time, refresh time.Duration) time.Time {
	b.kept.phase += 0x9e3779b9 // the golden ratio of 2^32: however many there are, they lie evenly
	due := now.Add(refresh - time.Duration(uint64(refresh/2)*uint64(b.kept.phase>>16)>>16))
	return due.Add(-time.Duration(due.UnixNano() % int64(min(refreshTick, refresh/8))))
}

// addKept makes a place, if there is room.
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
	heap.Push(&k.due, t)
	t.rule.topicsKept.Add(1)
	return true
}

// forgetKept has a datagram not sent again; nil is none. Callers hold mu.
func (b *binding) forgetKept(t *keptTopic) {
	if t == nil {
		return
	}
	heap.Remove(&b.kept.due, t.place)
	delete(b.kept.topics, t.keptKey)
	b.kept.budget.Release(b.kept.rooms[t.rule], t.size())
	t.rule.topicsKept.Add(-1)
}

// endCopies ends those of a topic's last datagram, as a newer message has come. Callers hold mu.
func (b *binding) endCopies(r *Rule, topic string) {
	t := b.kept.topics[keptKey{r, topic}]
	if t == nil || t.copies == 0 {
		return
	}
	t.copies = 0
	if r.Refresh == 0 || len(t.payload) == 0 {
		b.forgetKept(t)
		return
	}
	t.due = b.spread(time.Now(), r.Refresh)
	heap.Fix(&b.kept.due, t.place)
}

// clearKept ends what is sent again of a topic that was cleared without a datagram; what is older
// and still waits does not begin it anew. Callers hold the path's mu, and nothing is gathered.
func (p *Path) clearKept(t *routeTarget) {
	b := t.flow.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetKept(b.kept.topics[keptKey{t.rule, t.route.topic}])
	if !t.rule.waits() {
		return
	}
	mark := &keptTopic{keptKey: keptKey{t.rule, t.route.topic}, cleared: true, number: b.queue.last, came: p.began, due: time.Now().Add(clearedLooks)}
	if b.addKept(mark) {
		b.armKept()
	}
}

// armKept sets the timer for what is sent again first. Callers hold mu.
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

// sendKept sends what is to be sent again now.
func (b *binding) sendKept() {
	out, of := make([]multicast.Datagram, 0, drainBatch), make([]*keptTopic, 0, drainBatch)
	for b.sendSomeKept(out, of) {
	}
}

// sendSomeKept sends one batch of it, and reports whether there is more.
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
			out, of = append(out, multicast.Datagram{Group: t.group, Payload: t.payload, Broadcast: t.rule.broadcasts}), append(of, t)
		}
	}
	if len(out) == 0 {
		return false
	}
	var failed [drainBatch]error
	n, err := b.transmit(out, false, nil, func(i int, err error) { failed[i] = err })
	at := account.MomentOf(now)
	for i, t := range of[:n] {
		if failed[i] != nil {
			t.rule.drop(reasonOf(failed[i]), t.topic, failed[i])
			continue
		}
		t.rule.took(1, len(t.payload), at)
		t.rule.again.Add(1)
	}
	for _, t := range of[n:] { // it is no use to send it late, and then the next soon after
		b.putOff(t, now.Add(keptPause))
	}
	if err != nil {
		b.stalled(err)
		return false
	}
	return len(k.due) > 0 && !k.due[0].due.After(now)
}

// leavesAgain reports whether a datagram leaves now, and notes when it does the next time, or
// that it does not. Callers hold mu.
func (b *binding) leavesAgain(t *keptTopic, now time.Time) bool {
	r := t.rule
	switch {
	case t.cleared:
		if !r.waits() {
			b.forgetKept(t)
		} else {
			b.putOff(t, now.Add(clearedLooks))
		}
		return false
	case t.copies == 0 && r.AgeGiven && r.MaxAge > 0 && now.Sub(t.came) > r.MaxAge:
		b.forgetKept(t)
		return false
	case !b.allPaced(): // what waits for the kernel goes first
		b.putOff(t, now.Add(keptPause))
		return false
	}
	if r.paced() && b.queue.pacing.hasPlace(t.group, now) {
		target := b.queue.pacing.target(t.group)
		if target.lines > 0 || target.next(r).After(now) {
			b.putOff(t, maxTime(target.next(r), now.Add(mapping.MinRepeatEvery)))
			return false
		}
		target.left(r, now)
	}
	switch {
	case t.copies > 1:
		t.copies--
		b.putOff(t, now.Add(r.Repeat.Every))
	case r.Refresh == 0 || len(t.payload) == 0:
		b.forgetKept(t) // the last copy
	case t.copies == 1:
		t.copies = 0
		b.putOff(t, b.spread(now, r.Refresh))
	default:
		b.putOff(t, maxTime(t.due.Add(r.Refresh), now.Add(r.Refresh/2)))
	}
	return true
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// putOff has a datagram leave again at another time, if it still does.
func (b *binding) putOff(t *keptTopic, at time.Time) {
	if b.kept.topics[t.keptKey] == t {
		t.due = at
		heap.Fix(&b.kept.due, t.place)
	}
}

// resumeKept is called when the source is back: what was due meanwhile leaves once, within a
// second, and copies do not. Callers hold mu.
func (b *binding) resumeKept(now time.Time) {
	k := &b.kept
	for _, t := range append(dueTopics(nil), k.due...) {
		if t.copies > 0 {
			b.endCopies(t.rule, t.topic)
		}
		if !t.cleared && t.due.Before(now) && t.rule.Refresh > 0 {
			b.putOff(t, b.spread(now, min(t.rule.Refresh, time.Second)))
		}
	}
	b.armKept()
}

// takeKept takes out all that is kept. Callers hold mu.
func (b *binding) takeKept() (all []*keptTopic) {
	all = append(all, b.kept.due...)
	for _, t := range all {
		b.forgetKept(t)
	}
	b.kept.rooms, b.kept.topics, b.kept.due = nil, nil, nil
	return all
}

// handKept has what a rule sends again sent by what it is now: at the same time, or sooner if
// that refreshes more often. Callers hold the path's mu.
func (p *Path) handKept(t *keptTopic, to *Rule) {
	if to == nil || !to.SendsAgain() || !to.Payload.Equal(t.rule.Payload) || to.Prefix != t.rule.Prefix || to.Suffix != t.rule.Suffix || len(t.payload) < to.Counter.End() {
		return
	}
	target := p.targetOf(to, []byte(t.topic))
	if target == nil || target.flow == nil {
		return
	}
	b := target.flow.binding
	b.mu.Lock()
	defer b.mu.Unlock()
	t.rule, t.group = to, target.flow.group
	t.copies = min(t.copies, to.Repeat.Copies)
	if t.cleared {
		t.number = b.queue.last
	} else if t.copies == 0 {
		if to.Refresh == 0 || len(t.payload) == 0 {
			return
		}
		if soon := time.Now().Add(to.Refresh); t.due.After(soon) {
			t.due = b.spread(time.Now(), to.Refresh)
		}
	}
	if b.addKept(t) {
		b.armKept()
	} else {
		to.drop(account.DropRefreshFull, t.topic, errNoRoomToKeep)
	}
}
