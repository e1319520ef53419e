package send

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// What a rule with answer sends is a request, and what comes back to the port that it left from is
// an answer. Such a rule has a binding of its own, whose socket is read. The way of a request, in the
// order of the functions below:
//
//	drain, drainSpooledRule
//	  1 requestAllowedAt  while a request with the same key is outstanding it waits (ready.go): an
//	                      answer could not be told to belong to one of the two
//	  2 requestSent       it has left; its message may be acknowledged
//	  3 readAnswers       a goroutine reads the socket
//	  4 answer            an answer is published on the topic of the rule (publishanswers.go)
//	  5 retryRequests     no answer within the time: it is sent again, or published as unanswered
//
// A request to one host is over with its first answer; one to a group or a broadcast address at the
// end of its time. A late answer must not be taken for one to the next request: so a host that has not
// answered, or that may answer twice because the request was repeated, gets no other request for the
// same time again.

const (
	// maxRequestBytes bounds the memory of outstanding requests of all rules. Half is for whoever
	// comes first, the rest is divided among the rules. Further requests wait.
	maxRequestBytes = 16 << 20
	// requestOverhead is what a request takes beside topic, payload and key, and beyond
	// account.Overhead.
	requestOverhead = 256
	// maxAnswers is how many answers a request may have.
	maxAnswers = 4096
	// requestPause is when a request for which there was no room is tried again.
	requestPause = 10 * time.Millisecond
	// readPause is the pause after an error of reading the socket.
	readPause = 100 * time.Millisecond
)

// requestTable holds the outstanding requests of a binding. Guarded by its mu.
type requestTable struct {
	rule    *Rule // whose answers come to the socket; nil: nobody's
	byKey   map[mapping.RequestKey]*request
	due     dueHeap[*request]
	delayed map[mapping.RequestKey][]*targetQueue // queues whose first request waits for an outstanding one
	budget  *account.BindingBudget
	room    account.Share
	timer   *time.Timer
	sending bool // retryRequests runs, or is about to
	ended   bool // the process ends: no answer is waited for
}

// request is a request that has left.
type request struct {
	key     mapping.RequestKey
	rule    *Rule
	topic   string
	to      netip.AddrPort
	reply   *reply // nil: answers go where the rule says
	payload []byte // nil: it is not sent again
	size    int
	sent    uint8 // how often
	answers int
	over    bool // answered, or published as unanswered: it only delays the next one
	due     time.Time
	heapPlace
}

// before orders requests by the end of their time.
func (q *request) before(o *request) bool { return q.due.Before(o.due) }

// ExpectsAnswers reports whether the rule waits for answers.
func (r *Rule) ExpectsAnswers() bool { return r.Answer != nil }

// Answers are how many datagrams came back, and how many requests have an answer, and have none.
func (r *Rule) Answers() (came, answered, unanswered uint64) {
	return r.answers.Load(), r.answered.Load(), r.unanswered.Load()
}

// requestSize is what a request takes of the budget.
func requestSize(r *Rule, topic string, payload []byte, to *reply) int {
	n := requestOverhead + len(topic) + to.size()
	if r.Answer.Tries > 1 {
		n += len(payload)
	}
	return n
}

// requestAllowedAt returns when a request may leave, as far as that is known now; the zero time: at
// once. Callers hold mu.
func (b *binding) requestAllowedAt(d *leaving, now time.Time) (at time.Time) {
	a := &b.requests
	if q := a.byKey[d.rule.Answer.Match.Key(d.to, d.payload)]; q != nil {
		return laterOf(q.due, now.Add(time.Millisecond))
	}
	size := requestSize(d.rule, d.topic, d.payload, d.reply)
	if !a.budget.Acquire(&a.room, size) {
		return now.Add(requestPause)
	}
	a.budget.Release(&a.room, size)
	return at
}

// requestKey is that of a datagram of a rule with answer.
func (w *queuedDatagram) requestKey() mapping.RequestKey {
	return w.rule.Answer.Match.Key(w.to, w.payload)
}

// awaitRequest has a queue looked at again when the request that its first one waits for is over, if it
// waits for one. Callers hold mu.
func (b *binding) awaitRequest(of *targetQueue) {
	a, key := &b.requests, of.first.w.requestKey()
	if a.byKey[key] == nil || of.delayed {
		return
	}
	if a.delayed == nil {
		a.delayed = make(map[mapping.RequestKey][]*targetQueue)
	}
	of.delayed = true
	a.delayed[key] = append(a.delayed[key], of)
}

// requestSent notes a request that has left. Callers hold mu.
func (b *binding) requestSent(w *queuedDatagram) {
	a, r, now := &b.requests, w.rule, time.Now()
	q := &request{key: r.Answer.Match.Key(w.to, w.payload), rule: r, topic: w.topic, to: w.to, reply: w.reply, size: requestSize(r, w.topic, w.payload, w.reply),
		sent: 1, due: now.Add(r.Answer.Within)}
	if r.Answer.Tries > 1 {
		q.payload = append([]byte{}, w.payload...)
	}
	if was := a.byKey[q.key]; was != nil { // both were about to leave during a reload
		b.unanswered(was, unansweredWord)
	}
	if a.byKey == nil {
		a.byKey = make(map[mapping.RequestKey]*request)
	}
	a.byKey[q.key] = q
	a.budget.Transfer(&a.room, q.size)
	a.due.push(q)
	if a.ended {
		b.unanswered(q, account.ReasonStopped.String())
	}
	b.armRequestTimer()
}

// forget forgets a request; the next one with its key may leave. Callers hold mu.
func (b *binding) forget(q *request) {
	a := &b.requests
	a.due.remove(q)
	if a.byKey[q.key] == q {
		delete(a.byKey, q.key)
	}
	a.budget.Release(&a.room, q.size)
	now := time.Now()
	for _, of := range a.delayed[q.key] {
		if of.delayed = false; of.first != nil {
			b.queue.pacing.reschedule(of, now)
		}
	}
	delete(a.delayed, q.key)
	for _, r := range b.spooledRules {
		if r.ExpectsAnswers() {
			r.spooling.notBefore = time.Time{}
		}
	}
	b.wake()
}

// readAnswers reads a socket until it is closed.
func (b *binding) readAnswers(s Sender) {
	batch := make([]multicast.Datagram, multicast.MaxReceive)
	for b.ctx.Err() == nil {
		n, err := s.Receive(batch)
		if n > 0 {
			b.answer(s, batch[:n])
			clear(batch[:n]) // keeps no payload alive
		}
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return
		default:
			b.log.Debug("cannot read what comes back; trying again", "source", s.LocalAddr(), "err", err)
			pauseFor(b.ctx, readPause)
		}
	}
}

// answer publishes the answers in a batch of datagrams, and counts the others as unasked.
func (b *binding) answer(s Sender, batch []multicast.Datagram) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &b.requests
	if a.rule == nil || b.socket != s {
		return
	}
	now := time.Now()
	for i := range batch {
		d := &batch[i]
		q := b.requestOf(d)
		if q == nil || q.over {
			a.rule.Count(account.ReasonUnasked, 1)
			b.reportAnswer(a.rule, "", "", d, &answerLoss{why: account.ReasonUnasked})
			continue
		}
		q.answers++
		q.rule.answers.Add(1)
		if q.answers == 1 {
			q.rule.answered.Add(1)
		}
		topic, lost := q.rule.tellAnswer(q, d, b.interfaceText(q.rule), now)
		if lost != nil {
			q.rule.countAnswers(lost, 1)
		}
		b.reportAnswer(q.rule, q.topic, topic, d, lost)
		if q.rule.Answer.Match.Collects(q.to) {
			continue
		}
		if q.over = true; q.sent == 1 {
			b.forget(q)
		}
	}
}

// requestOf returns the request that a datagram answers; nil: there is none. Callers hold mu.
func (b *binding) requestOf(d *multicast.Datagram) *request {
	a := &b.requests
	if len(a.byKey) == 0 || a.rule.Answer.Match.Lacks(d.Payload) {
		return nil
	}
	for _, key := range a.rule.Answer.Match.AnswerKeys(d.Source, d.Payload) {
		if q := a.byKey[key]; q != nil {
			return q
		}
	}
	return nil
}

// interfaceText is what {interface} stands for in the topics of a rule.
func (b *binding) interfaceText(r *Rule) string {
	if r.Binding.Interface != "" {
		return r.Binding.Interface
	}
	return b.source.Interface
}

// armRequestTimer sets the timer for the request whose time is over first. Callers hold mu.
func (b *binding) armRequestTimer() {
	a := &b.requests
	if len(a.due) == 0 || a.sending || b.stopped {
		return
	}
	d := time.Until(a.due[0].due)
	if a.timer != nil {
		a.timer.Reset(d)
		return
	}
	a.timer = time.AfterFunc(d, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.stopped && !a.sending {
			a.sending = true
			b.drains.Go(b.retryRequests)
		}
	})
}

// retryRequests handles the requests whose time is over.
func (b *binding) retryRequests() {
	out, of := make([]multicast.Datagram, 0, drainBatch), make([]*request, 0, drainBatch)
	for b.retrySomeRequests(out, of) {
	}
}

// retrySomeRequests sends one batch of requests again, and publishes those without a try left as
// unanswered. It reports whether there are more.
func (b *binding) retrySomeRequests(out []multicast.Datagram, of []*request) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, now := &b.requests, time.Now()
	for len(out) < drainBatch && len(a.due) > 0 && !a.due[0].due.After(now) {
		q := a.due[0]
		switch {
		case q.over, q.answers > 0:
			b.forget(q)
		case q.payload != nil && q.sent < q.rule.Answer.Tries && !b.stopped: // nil: it was to be sent once, before a reload
			q.sent++
			q.due = now.Add(q.rule.Answer.Within)
			a.due.fix(q)
			out = append(out, multicast.Datagram{To: q.to, Payload: q.payload, Broadcast: q.rule.broadcasts})
			of = append(of, q)
		default:
			b.unanswered(q, unansweredWord)
		}
	}
	if len(out) > 0 && b.socket != nil { // what cannot leave now counts as lost on the way
		var failed [drainBatch]bool
		n, err := b.transmit(nil, out, false, nil, func(i int, _ error) { failed[i] = true })
		for i, q := range of[:n] {
			if failed[i] {
				continue
			}
			q.rule.took(1, len(q.payload), account.MomentOf(now))
			q.rule.again.Add(1)
			b.reportSent(q.rule, q.topic, q.to, q.payload, now, now, "again")
			b.queue.pacing.left(q.rule, q.to, now)
		}
		if err != nil {
			b.stalled(err)
		}
	}
	if more = len(a.due) > 0 && !a.due[0].due.After(now); !more {
		a.sending = false
		b.armRequestTimer()
	}
	return more
}

// unanswered publishes that a request has no answer. Callers hold mu.
func (b *binding) unanswered(q *request, reason string) {
	if q.over || q.answers > 0 {
		b.forget(q)
		return
	}
	q.rule.unanswered.Add(1)
	q.rule.tellNone(reason, q.topic, q.to, int(q.sent), b.interfaceText(q.rule), q.reply)
	if reason != unansweredWord || q.rule.Answer.Match.Collects(q.to) {
		b.forget(q)
		return
	}
	q.over, q.payload, q.due = true, nil, time.Now().Add(q.rule.Answer.Within)
	b.requests.due.fix(q)
	b.armRequestTimer()
}

// endRequests ends all outstanding requests, as unanswered for that reason. Callers hold mu.
func (b *binding) endRequests(reason string) {
	for len(b.requests.due) > 0 {
		b.unanswered(b.requests.due[0], reason)
	}
}

// carryOverRequests hands outstanding requests to the rule that replaces theirs at a reload, if it
// matches answers in the same way, and ends the others. Callers hold the path's mu.
func (b *binding) carryOverRequests() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range slices.Clone(b.requests.due) {
		if heir := q.rule.successor; heir != nil && heir.binding == b && heir.ExpectsAnswers() && heir.Answer.Match == q.rule.Answer.Match {
			q.rule = heir
		} else {
			why := account.ReasonRemoved
			if heir != nil && heir.disabled != nil {
				why = account.ReasonDisabled
			}
			b.unanswered(q, why.String())
		}
	}
}

// countUnread counts answers that the socket's receive buffer had no room for. Callers hold mu.
func (b *binding) countUnread(n uint64) {
	if r := b.requests.rule; r != nil {
		r.loseAnswers(&answerLoss{account.ReasonReceiveBuffer, "", fmt.Errorf("%d answers came faster than they could be read; raise net.core.rmem_max", n)}, n)
	}
}
