package receive

import (
	"slices"
	"sync"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/loopguard"
)

// A loopTest finds out whether what a rule publishes over and over goes round through
// other programs. What goes round ceases when it is not published any more, and comes
// again when it is; what a device sends does neither. So for a moment all of the topic
// is withheld, in order, whatever its source (two programs may hand it round together):
//
//	0 silence   does it still come, well after the last was published? Then it is
//	            honest.
//	1 probes    one is published: does it come again? If it does not, its source
//	            was just done. If it does each time, and only then, it goes round.
//
// The test is over after a second or two. What was withheld is published then, but
// that which goes round: it is dropped, which ends the loop, and for a while what
// comes of it anew is too. Whoever imitates a loop loses what he sent himself.
type loopTest struct {
	topic       *ruleTopic
	fingerprint uint64 // of source, topic and payload
	content     uint64 // of topic and payload
	first       arrival

	mu      sync.Mutex
	ended   bool
	probes  int            // published so far
	due     time.Time      // when judge is to look
	count   int            // how often it came in the time that counts
	others  map[uint64]int // other sources that answered every probe so far with the same: how many
	waiting []undecided
	size    int // bytes
	timer   *time.Timer
}

type undecided struct {
	*waitingDatagram
	fingerprint, content uint64
}

const (
	// silence is how long nothing may come, at the end of the window.
	silence = 200 * time.Millisecond
	// probeWindow is how long an answer to a probe may take, and probeMore how long
	// others are waited for after the first.
	probeWindow = 500 * time.Millisecond
	probeMore   = 100 * time.Millisecond
	// probesNeeded is how often a loop has to come again.
	probesNeeded = 3
	// maxOthers bounds the other sources that are watched.
	maxOthers = 16
)

// startTest begins a test with a message, which is withheld. It is false if there is
// no room for it.
func (t *ruleTopic) startTest(payload []byte, fingerprint, content uint64, a *arrival, now time.Time) bool {
	b := &t.rule.breaker
	test := &loopTest{topic: t, fingerprint: fingerprint, content: content, first: *a}
	test.mu.Lock()
	defer test.mu.Unlock()
	window, ok := b.Begin(test, fingerprint)
	if !ok {
		return false
	}
	if !t.test.CompareAndSwap(nil, test) { // another membership was first
		test.ended = true
		b.End(test, nil, nil, now)
		return false
	}
	test.due = now.Add(window)
	test.timer = time.AfterFunc(window, test.judge)
	if !test.keep(payload, fingerprint, content, a) {
		test.end([]uint64{fingerprint}, nil, now)
		return false
	}
	return true
}

// offer withholds a message of the topic. It is false if the test is over, because
// there is no room to go on with it maybe.
func (t *loopTest) offer(payload []byte, fingerprint, content uint64, a *arrival, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	if !t.keep(payload, fingerprint, content, a) {
		t.end([]uint64{t.fingerprint}, nil, now)
		return false
	}
	switch {
	case fingerprint == t.fingerprint:
		t.countAnswer(now)
	case content == t.content && t.probes > 0:
		t.noteOther(fingerprint)
	}
	return true
}

// keep copies a message. A test may take a quarter of the queue.
func (t *loopTest) keep(payload []byte, fingerprint, content uint64, a *arrival) bool {
	r := t.topic.rule
	size := len(t.topic.name) + len(payload)
	cost := size + account.Overhead
	if int64(t.size+cost) > r.path.budget.Size()/4 || !r.budget.Acquire(size) {
		return false
	}
	t.size += cost
	h := &waitingDatagram{topic: t.topic, arrival: *a}
	h.arrival.waited = true
	if n := len(t.waiting); n > 0 && t.waiting[n-1].content == content && string(t.waiting[n-1].payload) == string(payload) {
		h.payload = t.waiting[n-1].payload // equal ones share it
	} else {
		h.payload = append([]byte(nil), payload...)
	}
	t.waiting = append(t.waiting, undecided{h, fingerprint, content})
	return true
}

// countAnswer counts what is tested. Callers hold mu.
func (t *loopTest) countAnswer(now time.Time) {
	if t.probes == 0 {
		if t.inSilence(now) {
			t.count++
		}
		return
	}
	t.count++
	if more := t.topic.rule.breaker.Scale(probeMore); t.count == 1 && t.due.Sub(now) > more {
		t.due = now.Add(more)
		t.timer.Reset(more)
	}
}

// inSilence reports whether what comes now counts against the silence: it does at the end
// of the window.
func (t *loopTest) inSilence(now time.Time) bool {
	return t.due.Sub(now) <= t.topic.rule.breaker.Scale(silence)
}

// noteOther counts the answers of another source to a probe. Callers hold mu.
func (t *loopTest) noteOther(fingerprint uint64) {
	if n, known := t.others[fingerprint]; n == t.probes-1 && (known || t.probes == 1 && len(t.others) < maxOthers) {
		if t.others == nil {
			t.others = make(map[uint64]int)
		}
		t.others[fingerprint] = t.probes
	}
}

// judge looks at what came.
func (t *loopTest) judge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.ended || now.Before(t.due) {
		return // the timer was set anew
	}
	switch {
	case t.count >= t.enough():
		t.end(t.steady(now), nil, now)
	case t.probes > 0 && t.count == 0:
		t.end([]uint64{t.fingerprint}, nil, now) // its source was just done
	case t.probes == probesNeeded:
		loops := []uint64{t.fingerprint}
		for fingerprint, n := range t.others {
			if n == probesNeeded {
				loops = append(loops, fingerprint)
			}
		}
		t.end(nil, loops, now)
	default:
		t.probe(now)
	}
}

// enough is how often it comes at least, in the time that counts, if it does not
// care about what is published: half as often as the limit.
func (t *loopTest) enough() int {
	b := &t.topic.rule.breaker
	span := b.Scale(silence)
	if t.probes > 0 {
		span = b.Scale(probeMore)
	}
	least := 1
	if t.probes > 0 {
		least = 8 // for a loop of several programs, each with a test of its own, answers with a few
	}
	return max(least, int(time.Duration(b.Limit)*span/time.Second/2))
}

// steady are the fingerprints that come often whatever is published: a stream has several,
// and each would be tested.
func (t *loopTest) steady(now time.Time) []uint64 {
	all := []uint64{t.fingerprint}
	counts := make(map[uint64]int)
	for i := range t.waiting {
		w := &t.waiting[i]
		if w.fingerprint == t.fingerprint || !t.inSilence(w.arrival.At) {
			continue
		}
		if counts[w.fingerprint]++; counts[w.fingerprint] == t.enough() {
			all = append(all, w.fingerprint)
		}
	}
	return all[:min(len(all), loopguard.MaxVerdicts/2)]
}

// probe publishes what was withheld, up to the first of what is tested.
func (t *loopTest) probe(now time.Time) {
	n := 1 + slices.IndexFunc(t.waiting, func(w undecided) bool { return w.fingerprint == t.fingerprint })
	if n == 0 {
		t.end([]uint64{t.fingerprint}, nil, now) // cannot be: there is one more than was published
		return
	}
	window := t.topic.rule.breaker.Scale(probeWindow)
	t.probes++
	t.due, t.count = now.Add(window), 0
	t.timer.Reset(window)
	first := t.waiting[:n]
	t.waiting = t.waiting[n:]
	t.publish(first, nil)
}

// end publishes what is withheld, but what goes round. Callers hold mu.
func (t *loopTest) end(honest, loops []uint64, now time.Time) {
	topic := t.topic
	t.ended = true
	t.timer.Stop()
	topic.rule.breaker.End(t, honest, loops, now)
	if len(loops) > 0 {
		topic.rule.logLoop(topic, &t.first, now)
	}
	t.publish(t.waiting, loops)
	t.waiting = nil
	topic.test.Store(nil)
	topic.testOver()
}

// Stop ends a test that cannot go on.
func (t *loopTest) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.end(nil, nil, time.Now())
	}
}

// atOnce is how many of what waited are published at a time.
const atOnce = 256

func (t *loopTest) publish(waiting []undecided, except []uint64) {
	p := t.topic.rule.path
	for chunk := range slices.Chunk(waiting, atOnce) {
		b := p.newBatch()
		for i := range chunk {
			w := &chunk[i]
			w.release()
			t.size -= len(w.topic.name) + len(w.payload) + account.Overhead
			if slices.Contains(except, w.fingerprint) {
				t.topic.rule.lose(account.ReasonBreaker, t.topic.name, &w.arrival, w.payload, nil)
			} else {
				t.topic.publish(w.payload, &w.arrival, b)
			}
		}
		p.publish(b)
		clear(chunk)
	}
}
