package receive

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/session"
)

// A rule that expects to hear something, and does not: it is degraded, joins its groups anew
// once, and a word on a topic of its own tells of it. Ages are differences of moments, so
// that a clock that is set neither begins nor ends a silence.

// watched is what is kept of a rule that expects something. Other rules have none.
type watched struct {
	heard   account.Moment              // what the rule takes
	silence atomic.Pointer[longSilence] // nil: there is none
	again   account.Moment              // when the last one was seen to have ended
	told    atomic.Pointer[string]      // the word that the broker has
	sending atomic.Bool                 // one is on its way

	// Of watch.
	up      bool
	upSince int64 // moment
	revived int   // silences that a new join has ended
}

// notice takes note that the rule takes a datagram.
func (r *Rule) notice(at int64) {
	if r.watched != nil {
		r.watched.heard.Put(at)
	}
}

// longSilence is one, and never changes.
type longSilence struct {
	since   int64 // the moment of the last datagram, or else since when the rule is up
	never   bool  // it is the latter
	noticed int64
	joined  time.Duration // how long after the last join it began; 0: nothing is known of that
	forgot  bool          // that is when a switch forgets who listens
	revived int           // how many earlier ones a new join has ended

	shown atomic.Pointer[shownSilence]
}

// shownSilence is the text of a silence, which is asked for again and again.
type shownSilence struct {
	since time.Time
	text  string
}

// A switch that looks at who listens, where nobody asks the listeners to say so again,
// forgets them: after 260 s by the RFCs (3376, 8.4; 3810, 9.4), many after one or two query
// intervals, of 125 s (8.2; 9.2).
const (
	forgetsFrom = 120 * time.Second
	forgetsTo   = 270 * time.Second
)

// silenceTick is how often WatchSilence is called: a rule may be up, and hear something, for as
// long before it is seen to be.
const silenceTick = time.Second

// WatchSilence looks which rules hear less than they expect.
func (p *Path) WatchSilence(now time.Time) {
	at := account.MomentOf(now)
	var began []*Rule
	for _, r := range p.working.Load().Rules {
		if r.watched != nil && r.watchSilence(at) {
			began = append(began, r)
		}
	}
	for i, r := range began {
		attrs := []any{"rule", r.Name, "reason", r.silenceText(now)}
		if more := len(began) - 1; more >= maxNamed {
			attrs = append(attrs, "more_rules", more)
		}
		p.log.Warn("receive rule degraded: nothing is heard", attrs...)
		if i == 0 && len(began) > maxNamed {
			break
		}
	}
	if len(began) > 0 {
		p.lookNow()
	}
	p.publishStatusWords()
}

// watchSilence reports whether a silence begins. Then the groups are to be joined anew at the
// next look.
func (r *Rule) watchSilence(at int64) (began bool) {
	w := r.watched
	var s Status
	if pending := r.askReaders(&s); s.State == account.StatePending || r.disabled != nil || pending == len(r.memberships) {
		w.up = false
		w.silence.Store(nil)
		return false
	}
	if !w.up {
		w.up, w.upSince = true, at
	}
	last, heard := w.upSince, w.heard.Load()
	never := heard == 0 || heard < last-int64(silenceTick)
	if !never {
		last = heard
	}
	if is := w.silence.Load(); is != nil {
		if last == is.since {
			return false
		}
		w.silence.Store(nil)
		w.again.Put(at)
		if is.joined > 0 && time.Duration(heard-is.noticed) <= r.Expect {
			w.revived++
		}
		r.Log.Info("heard again", "rule", r.Name, "after", time.Duration(heard-is.since).Round(time.Millisecond))
	}
	if time.Duration(at-last) <= r.Expect {
		return false
	}
	is := &longSilence{since: last, never: never, noticed: at, revived: w.revived}
	var joined int64
	for _, m := range r.memberships {
		if j := m.joinAnew(); joined == 0 || j != 0 && j > joined {
			joined = j
		}
	}
	if joined != 0 {
		is.joined = max(0, time.Duration(last-joined))
	}
	is.forgot = !never && forgetsFrom <= is.joined && is.joined <= forgetsTo
	w.silence.Store(is)
	return true
}

// joinAnew has the group joined anew at the next look, and returns the moment of the last
// join; 0: it is no group, or not joined.
func (m *membership) joinAnew() (joined int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Host() || m.reader == nil {
		return 0
	}
	m.rejoin = true
	return m.joined
}

// JoinAnew leaves and joins again the groups of the rules of a name: its own, or that of the configuration
// of one with several interfaces. It is done at the next look, which is asked for. It returns the rules;
// an error is that there is none, or that nothing is joined.
func (p *Path) JoinAnew(name string) (rules []string, err error) {
	known, disabled := false, false
	for _, r := range p.working.Load().Rules {
		if r.Name != name && r.Common != name {
			continue
		}
		known, disabled = true, disabled || r.disabled != nil
		joined := false
		for _, m := range r.memberships {
			joined = m.joinAnew() != 0 || joined
		}
		if joined {
			rules = append(rules, r.Name)
		}
	}
	switch {
	case !known:
		return nil, fmt.Errorf("there is no receive rule %q", name)
	case rules == nil && disabled:
		return nil, fmt.Errorf("the receive rule %q is disabled, and has joined no group: topicast enable joins them", name)
	case rules == nil:
		return nil, fmt.Errorf("the receive rule %q has joined no group: it is pending, or hears what comes to this host itself", name)
	}
	p.lookNow()
	return rules, nil
}

// silenceText says since when nothing is heard, and what may be the cause; "" while something
// is.
func (r *Rule) silenceText(now time.Time) string {
	if r.watched == nil {
		return ""
	}
	is := r.watched.silence.Load()
	if is == nil {
		return ""
	}
	since := account.MomentTime(is.since, now).Truncate(time.Second)
	if shown := is.shown.Load(); shown != nil && shown.since.Equal(since) {
		return shown.text
	}
	text := fmt.Sprintf("nothing is heard since %s, which is longer than %v (expect)", since.Format(time.TimeOnly), r.Expect)
	if is.never {
		text = fmt.Sprintf("nothing was heard since the rule is up, at %s, which is longer than %v (expect)", since.Format(time.TimeOnly), r.Expect)
	}
	if is.forgot {
		text += fmt.Sprintf("; it ended %v after the join: a switch with IGMP or MLD snooping, and no querier on the network, forgets who listens after 125 to 260 seconds",
			is.joined.Round(time.Second))
		if is.revived > 0 {
			text += fmt.Sprintf("; a new join has brought it back before, times: %d", is.revived)
		}
	}
	is.shown.Store(&shownSilence{since, text})
	return text
}

// The words that a rule has below the status topic.
const (
	wordHeard  = "heard"
	wordSilent = "silent"
)

// word is what is to be told of a rule; "" while nothing is known, or it cannot hear. Of watch.
func (w *watched) word() string {
	switch {
	case !w.up: // what was told last stands: that nothing is heard now says nothing
	case w.silence.Load() != nil:
		return wordSilent
	case w.heard.Load() != 0:
		return wordHeard
	}
	return ""
}

// told is the Origin of a word.
type told struct {
	path  *Path
	topic string
	of    *watched // nil: the rule is gone, and so is its word
	word  string
}

// Published implements session.Origin.
func (t *told) Published(int, int) {
	if t.of != nil {
		t.of.told.Store(&t.word)
		t.of.sending.Store(false)
	}
}

// Lost implements session.Origin. A word that the broker refuses is not worth the connection
// that it may cost each time. Of a rule that is gone nobody else knows that it is still to be
// taken back.
func (t *told) Lost(_, _ int, err error) {
	if t.of == nil {
		t.path.wordsMu.Lock()
		t.path.goneWords = append(t.path.goneWords, t.topic)
		t.path.wordsMu.Unlock()
	}
	if errors.Is(err, session.ErrRefused) && !t.path.wordless.Swap(true) {
		t.path.log.Warn("the broker refuses what is told of rules that expect something, and no more is: allow the topics below the status topic", "topic", t.path.status+"/rule/...")
	}
	if t.of != nil {
		t.of.sending.Store(false)
	}
}

// publishStatusWords publishes what is new of the rules that expect something. It does not wait: the
// session may, while the broker does not read.
func (p *Path) publishStatusWords() {
	if p.status == "" || !p.online.Load() || p.wordless.Load() {
		return
	}
	var batch []session.Publication
	add := func(topic, word string, of *watched) {
		batch = append(batch, session.Publication{Topic: []byte(topic), Payload: []byte(word), QoS: 1, Retain: true, Origin: &told{p, topic, of, word}})
	}
	rules := p.working.Load().Rules
	p.wordsMu.Lock()
	if len(p.goneWords) > 0 {
		again := p.wordTopics(rules)
		for _, topic := range p.goneWords {
			if !again[topic] {
				add(topic, "", nil)
			}
		}
	}
	p.goneWords = nil
	p.wordsMu.Unlock()
	for _, r := range rules {
		w := r.watched
		if w == nil {
			continue
		}
		word, known := w.word(), w.told.Load()
		if word != "" && (known == nil || *known != word) && !w.sending.Swap(true) {
			add(r.WordTopic(p.status), word, w)
		}
	}
	if len(batch) > 0 {
		go p.publisher.PublishBatch(batch)
	}
}

// forgetTold has all words told again: the broker may have forgotten what it had.
func (p *Path) forgetTold() {
	for _, r := range p.working.Load().Rules {
		if r.watched != nil {
			r.watched.told.Store(nil)
		}
	}
}

// clearStatusWords has the words of rules that are gone taken back.
func (p *Path) clearStatusWords(before, next []*Rule) {
	if p.status == "" {
		return
	}
	still := p.wordTopics(next)
	p.wordsMu.Lock()
	defer p.wordsMu.Unlock()
	for _, r := range before {
		if topic := r.WordTopic(p.status); r.watched != nil && r.watched.told.Load() != nil && !still[topic] {
			p.goneWords = append(p.goneWords, topic)
		}
	}
}

// wordTopics are those of the rules that expect something.
func (p *Path) wordTopics(rules []*Rule) map[string]bool {
	topics := make(map[string]bool)
	for _, r := range rules {
		if r.watched != nil {
			topics[r.WordTopic(p.status)] = true
		}
	}
	return topics
}
