package send

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/bridge/tap"
	"topicast/mapping"
)

// What rules with answer publish: answers, and that there was none. A goroutine that runs while there
// is something hands it to the session, because those who find it out hold locks, or read the
// broker's connection, and must not wait for the session. What waits here and in the session counts
// against queue.size, as what receive rules publish does, and is kept in memory while the broker is
// away. What finds no room is dropped, and counted.

// publisher is what messages are handed to: the session.
type publisher interface{ PublishBatch([]session.Publication) }

// PublishTo says where answers go. It is called once, before the first message.
func (p *Path) PublishTo(to publisher) { p.answerOutbox.to = to }

// answerOutbox holds what is about to be published.
type answerOutbox struct {
	to publisher

	mu      sync.Mutex // guards the rest
	waiting []session.Publication
	running bool
	closed  bool
}

// answerPublisher accounts for what a rule has published (session.Origin). At a reload the rule of the
// same name takes it over.
type answerPublisher struct {
	rule   string
	path   *Path
	totals *sendTotals
	budget *account.RuleBudget
}

// answersWith gives the rules with answer their publishers.
func (g *Generation) answersWith(p *Path, before *Generation) {
	was := make(map[string]*answerPublisher)
	for _, r := range before.Rules {
		if r.answerPublisher != nil {
			was[r.Name] = r.answerPublisher
		}
	}
	for _, r := range g.Rules {
		if !r.ExpectsAnswers() {
			continue
		}
		g.expecting++
		if r.answerPublisher = was[r.Name]; r.answerPublisher == nil {
			r.answerPublisher = &answerPublisher{rule: r.Name, path: p, totals: r.sendTotals, budget: p.budget.ForRule()}
		}
	}
}

// ExpectingAnswers is how many rules wait for answers.
func (g *Generation) ExpectingAnswers() int { return g.expecting }

// maxAnswerTopic is how long a topic may be that something is published on here, in bytes: what
// waits is counted by its payload.
const maxAnswerTopic = 1 << 10

// answerLoss is why an answer, or what is told in place of one, is not published.
type answerLoss struct {
	why   account.Reason
	topic string // that it is logged with; "": that of the rule
	err   error
}

// tellAnswer publishes an answer, and returns the topic, or why it does not. Callers hold the
// binding's mu.
func (r *Rule) tellAnswer(q *request, d *multicast.Datagram, on string, now time.Time) (string, *answerLoss) {
	if q.answers > maxAnswers {
		return "", &answerLoss{account.ReasonRate, q.topic, fmt.Errorf("a request has more than %d answers", maxAnswers)}
	}
	a := mapping.Arrival{To: q.to, Source: d.Source, Interface: on, At: now}
	if q.reply != nil {
		return q.reply.topic, r.tell([]byte(q.reply.topic), r.Answer.Encoding.Append(nil, d.Payload, &a), q.reply.data)
	}
	topic, err := r.Answer.Topic.AppendFor(nil, q.topic, d.Payload, &a)
	if err == nil && len(topic) > maxAnswerTopic {
		err = &mapping.TopicError{Topic: r.Answer.Topic.String(), Value: "longer than that", Want: "a topic of at most 1024 bytes"}
	}
	if err != nil {
		why := account.ReasonBadTopic
		if of := new(mapping.TopicError); errors.As(err, &of) && of.Missing {
			why = account.ReasonField
		}
		return "", &answerLoss{why, q.topic, err}
	}
	return string(topic), r.tell(topic, r.Answer.Encoding.Append(nil, d.Payload, &a), nil)
}

// unansweredWord is why there is no answer where none came in time.
const unansweredWord = "unanswered"

// noAnswer is what is told of a message whose request has no answer.
type noAnswer struct {
	Reason string `json:"reason"` // unanswered, or that of the drop
	Topic  string `json:"topic"`  // of the message
	Target string `json:"target,omitempty"`
	Tries  int    `json:"tries"` // how often it was sent
}

// tellNone publishes that a request has no answer, if the rule or the request says where.
func (r *Rule) tellNone(reason, topic string, to netip.AddrPort, tries int, on string, wanted *reply) {
	if r.Answer == nil || r.Answer.None.IsZero() && wanted == nil {
		return
	}
	v := noAnswer{Reason: reason, Topic: topic, Tries: tries}
	if to.IsValid() {
		v.Target = to.String()
	}
	payload, _ := json.Marshal(v) // a struct of texts and a number can be encoded
	var name, data []byte
	var lost *answerLoss
	if wanted != nil {
		name, data = []byte(wanted.topic), wanted.data
	} else {
		var err error
		if name, err = r.Answer.None.AppendFor(nil, topic, nil, &mapping.Arrival{To: to, Interface: on}); err == nil && len(name) > maxAnswerTopic {
			err = errors.New("none: the topic has more than 1024 bytes")
		}
		if err != nil {
			lost = &answerLoss{account.ReasonBadTopic, topic, err}
		}
	}
	if lost == nil {
		lost = r.tell(name, payload, data)
	}
	if lost != nil {
		r.loseAnswers(lost, 1)
		return
	}
	r.reportNone(reason, topic, string(name), to, on, payload)
}

// tell publishes a message, whose memory is its own, with correlation data where that is not nil.
func (r *Rule) tell(topic, payload, data []byte) *answerLoss {
	t, b := r.answerPublisher, r.binding
	say := &t.path.answerOutbox
	p := session.Publication{Topic: topic, Payload: payload, QoS: 1, Properties: session.ReplyProperties(data), Origin: t, Queue: t.budget}
	size := p.Size()
	if !t.budget.Acquire(size) {
		return &answerLoss{account.ReasonQueueFull, string(topic), errors.New("queue.size: no room for answers")}
	}
	say.mu.Lock()
	defer say.mu.Unlock()
	if say.closed || say.to == nil {
		t.budget.Release(1, size)
		return &answerLoss{account.ReasonStopped, string(topic), nil}
	}
	say.waiting = append(say.waiting, p)
	if !say.running {
		say.running = true
		b.drains.Go(t.path.publishWaiting)
	}
	return nil
}

// publishWaiting publishes what there is.
func (p *Path) publishWaiting() {
	say := &p.answerOutbox
	for {
		say.mu.Lock()
		batch := say.waiting
		if say.waiting = nil; len(batch) == 0 {
			say.running = false
			say.mu.Unlock()
			p.settled.Notify()
			return
		}
		say.mu.Unlock()
		say.to.PublishBatch(batch)
	}
}

// told reports whether nothing is about to be published.
func (p *Path) told() bool {
	p.answerOutbox.mu.Lock()
	defer p.answerOutbox.mu.Unlock()
	return !p.answerOutbox.running
}

// close has nothing published any more.
func (t *answerOutbox) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// EndRequests tells of all requests that are out, and of those that still leave, that no answer is
// waited for, as it is the end. What is published of it is the session's when it returns.
func (p *Path) EndRequests(ctx context.Context) {
	p.each(ctx, func(b *binding) bool {
		if b.want.Answers != "" {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.requests.ended = true
			b.endRequests(account.ReasonStopped.String())
		}
		return true
	})
	p.settled.Wait(ctx, p.told)
}

// loseAnswers tells of n answers, of which no more is known, or of what is told in place of one, that
// they are lost, and counts them.
func (r *Rule) loseAnswers(lost *answerLoss, n uint64) {
	if r.tap.On() {
		r.tap.Tell(tap.LossOf(tap.Answer, r.Name, lost.why.String(), lost.why.Filtered(), n, lost.err))
	}
	r.countAnswers(lost, n)
}

// countAnswers counts n answers that are lost, and logs the first of their kind.
func (r *Rule) countAnswers(lost *answerLoss, n uint64) {
	if r.Count(lost.why, n) {
		r.LogFirst(r.Name, lost.why, "answer", cmp.Or(lost.topic, r.Answer.Topic.String()), lost.err)
	}
}

// Published implements session.Origin: the broker has the next n.
func (t *answerPublisher) Published(n, bytes int) {
	t.budget.Release(n, bytes)
	t.path.settled.Notify()
}

// Lost implements session.Origin: the next n will not reach the broker.
func (t *answerPublisher) Lost(n, bytes int, err error) {
	t.budget.Release(n, bytes)
	why := account.ReasonOffline
	switch {
	case errors.Is(err, session.ErrRefused):
		why = account.ReasonBrokerRefused
	case errors.Is(err, session.ErrStopped):
		why = account.ReasonStopped
	}
	if t.path.tap.On() {
		t.path.tap.Tell(tap.LossOf(tap.Answer, t.rule, why.String(), why.Filtered(), uint64(n), err))
	}
	if t.totals.Count(why, uint64(n)) {
		t.totals.LogFirst(t.rule, why, "answer", "", err)
	}
	t.path.settled.Notify()
}

// Refused implements session.Refuser.
func (t *answerPublisher) Refused(m *session.Publication, why error) {
	if t.path.deadLetters != nil {
		t.path.deadLetters(t.rule, m, why, nil)
	}
}
