package mapping

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Answer says what becomes of the datagrams that come back to the port that a send rule sends
// from: answers, each of one of its datagrams, which then is a request. A nil Answer is that
// nobody reads them.
type Answer struct {
	Topic    AnswerTopic
	None     AnswerTopic   // where it is told of a request that has no answer; the zero AnswerTopic: nowhere
	Within   time.Duration // how long a request may be answered
	Tries    uint8         // how often it is sent, if nothing comes; 1 is once
	Match    Match         // which request an answer is of; Compile sets the zero Match
	Encoding Encoding
}

// What an Answer may ask for.
const (
	DefaultWithin = 500 * time.Millisecond
	MinWithin     = 10 * time.Millisecond
	MaxWithin     = time.Minute
	MaxTries      = 10
)

// String is the answer as the file has it; "" for a nil one.
func (a *Answer) String() string {
	if a == nil {
		return ""
	}
	text := fmt.Sprintf("{topic: %s, within: %s, tries: %d, match: %s", a.Topic, a.Within, a.Tries, a.Match)
	if !a.Encoding.Raw() {
		text += ", payload: " + a.Encoding.String()
	}
	if !a.None.IsZero() {
		text += ", none: " + a.None.String()
	}
	return text + "}"
}

// A Match says which request an answer is of. The zero Match is the default of the rule.
type Match struct {
	kind   matchKind
	text   string // of bytes, as written
	offset uint16 // likewise, the first of them
	length uint16 // and how many there are
}

type matchKind uint8

const (
	matchDefault matchKind = iota
	matchSource            // it comes from the address and port that was asked
	matchAddress           // it comes from the address that was asked
	matchAny               // all that comes, one request of the rule at a time
	matchBytes             // it has the same bytes at one place; of a host, it comes from its address too
)

var matchNames = wordList{"", "source", "address", "any"}

// maxMatched is how many bytes may be compared.
const maxMatched = 64

// ParseMatch reads source, address or any, or a number or bytes at a fixed place, such as u16@0 or
// hex@2:2; "" is the default.
func ParseMatch(s string) (Match, error) {
	if i := slices.Index(matchNames, s); i >= 0 {
		return Match{kind: matchKind(i)}, nil
	}
	e, n, err := lexExtract(s)
	switch {
	case err != nil:
		return Match{}, fmt.Errorf("match %s: %w", quote(s), err)
	case n == 0 || n != len(s) || e.kind == extractJSON || e.isProperty():
		return Match{}, fmt.Errorf("match %s: is not source, address or any, nor bytes that a request and its answers have in common, such as u16@0 or hex@2:2", quote(s))
	case e.length > maxMatched:
		return Match{}, fmt.Errorf("match %s: compares %d bytes, and may compare %d", quote(s), e.length, maxMatched)
	}
	return Match{kind: matchBytes, text: strings.Clone(e.text), offset: uint16(e.offset), length: uint16(e.length)}, nil
}

// UnmarshalText is ParseMatch.
func (m *Match) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMatch(string(text))
	return err
}

// String is the match as written.
func (m Match) String() string {
	if m.kind == matchBytes {
		return m.text
	}
	return matchNames[m.kind]
}

// RequestKey tells one request of a rule from another, as far as an answer tells: of two with the same
// one has to wait for the other. It is comparable.
type RequestKey struct {
	host  netip.AddrPort
	bytes string
}

// Key is that of a request to a target, with this payload.
func (m Match) Key(to netip.AddrPort, payload []byte) RequestKey {
	if askedOfMany(to) {
		to = netip.AddrPort{}
	}
	return m.key(to, payload)
}

// AnswerKeys are those of the requests that what comes from a source may be an answer to: one to
// that host, and one to many.
func (m Match) AnswerKeys(source netip.AddrPort, payload []byte) [2]RequestKey {
	source = netip.AddrPortFrom(source.Addr().WithZone(""), source.Port())
	return [2]RequestKey{m.key(source, payload), m.key(netip.AddrPort{}, payload)}
}

func (m Match) key(host netip.AddrPort, payload []byte) (k RequestKey) {
	switch m.kind {
	case matchAny:
		return k
	case matchSource:
		k.host = host
	default:
		k.host = netip.AddrPortFrom(host.Addr(), 0)
	}
	if m.kind == matchBytes && !m.Lacks(payload) {
		k.bytes = string(payload[m.offset:][:m.length])
	}
	return k
}

// Lacks reports whether a payload has not the bytes by which answers are matched.
func (m Match) Lacks(payload []byte) bool {
	return m.kind == matchBytes && len(payload) < int(m.offset)+int(m.length)
}

// Collects reports whether a request to a target may have many answers: then it is over when its
// time is, and not with the first.
func (m Match) Collects(to netip.AddrPort) bool { return m.kind == matchAny || askedOfMany(to) }

// OfHost reports whether an answer to a request to a host is taken from its address alone.
func (m Match) OfHost() bool { return m.kind != matchAny }

func askedOfMany(to netip.AddrPort) bool { return to.Addr().IsMulticast() || to.Addr() == broadcast }

// An AnswerTopic is a topic template that has the captures of its rule's filter too. source and
// source_port are those of the answer, group, destination and port those of the request's target.
type AnswerTopic struct {
	Topic
	captures []capture // those that it has; Compile finds them
}

// ParseAnswerTopic reads a topic template with captures.
func ParseAnswerTopic(s string) (AnswerTopic, error) {
	t, err := parseTopic(s, true)
	if err != nil {
		return AnswerTopic{}, fmt.Errorf("topic %s: %w", quote(s), err)
	}
	return AnswerTopic{Topic: t}, nil
}

// UnmarshalText is ParseAnswerTopic; "" is none.
func (t *AnswerTopic) UnmarshalText(text []byte) (err error) {
	*t = AnswerTopic{}
	if len(text) > 0 {
		*t, err = ParseAnswerTopic(string(text))
	}
	return err
}

// AppendFor appends to dst the topic for what a message on topic has asked. payload is that of
// the answer. It returns as Topic.AppendOf does.
func (t *AnswerTopic) AppendFor(dst []byte, topic string, payload []byte, a *Arrival) ([]byte, error) {
	with := *a
	for _, c := range t.captures {
		with.captured = append(with.captured, c.value(topic))
	}
	return t.AppendOf(dst, payload, &with, "")
}

// AnswersOn reports whether what comes back to the rule's port may be published on a topic, or that nothing
// does.
func (r *SendRule) AnswersOn(topic string) bool {
	if r.Answer == nil {
		return false
	}
	may := func(t *AnswerTopic) bool { return !t.IsZero() && covers(t.pattern(""), topic) }
	return may(&r.Answer.Topic) || may(&r.Answer.None)
}

// pattern is the filter that matches every topic that the template can give.
func (t *AnswerTopic) pattern(iface string) string {
	before := ""
	for _, p := range t.parts {
		if p.kind == datumField && t.fields[p.field].kind == extractCapture && t.captures[t.fields[p.field].offset].multi {
			levels := strings.Split(pattern(before), "/") // what it takes may be many levels
			levels[len(levels)-1] = "#"
			return strings.Join(levels, "/")
		}
		before += Topic{parts: []part{p}}.fill(iface)
	}
	return pattern(before)
}

// checkAnswer gathers the faults of a rule's answer, and fills in what follows from the rule.
// Its target is known.
func (c *compilation) checkAnswer(r *SendRule) {
	r.Binding.Answers = ""
	if r.Answer == nil {
		return
	}
	own := *r.Answer
	a := &own
	r.Answer, r.Binding.Answers = a, r.Name
	c.checkMatch(r, a)
	switch {
	case a.Within < MinWithin || a.Within > MaxWithin:
		c.fault("answer", "", "within: %v is out of range: %v to %v", a.Within, MinWithin, MaxWithin)
	case a.Tries < 1 || a.Tries > MaxTries:
		c.fault("answer", "", "tries: %d is out of range: 1 to %d", a.Tries, MaxTries)
	case r.SendsAgain():
		c.fault("answer", "leave out repeat and refresh; tries sends a request again that nobody answers",
			"what asks for answers is sent again where none comes, and not by itself")
	case !r.Counter.IsZero():
		c.fault("answer", "leave out counter, and let the message have the number", "a request that is sent again must be the same, and counter would give it another number")
	case a.Tries > 1 && a.Within < r.Rate.Period():
		c.fault("answer", "let within be at least as long as the rate leaves between two datagrams", "within: after %v it would be sent again, and by rate: %s nothing leaves for %v", a.Within, r.Rate, r.Rate.Period())
	}
	if a.Topic.IsZero() {
		c.fault("answer", "name the topic for answers, as in answer: { topic: \"answers/{source}\" }", "topic: missing")
	}
	c.checkAnswerTopic(r, "topic", &a.Topic)
	c.checkAnswerTopic(r, "none", &a.None)
	if a.None.uses(datumSource) || a.None.uses(datumSourcePort) || a.None.VariesByPayload() {
		c.fault("answer", "it may have captures of the filter, {group}, {port}, {interface} and {name}", "none: %s is made of an answer, and is for where there is none", a.None)
	}
}

func (c *compilation) checkMatch(r *SendRule, a *Answer) {
	to, fixed := r.To().Fixed()
	many := !r.Group.IsZero() || fixed && askedOfMany(to)
	switch {
	case many && (a.Match.kind == matchSource || a.Match.kind == matchAddress):
		c.fault("answer", "leave match out, or name bytes that a request and its answers have in common, such as match: u16@0",
			"match: %s is about the host that was asked, and the rule asks many", a.Match)
	case a.Match.kind != matchDefault:
	case many:
		a.Match.kind = matchAny
	default:
		a.Match.kind = matchSource
	}
}

// checkAnswerTopic has a topic know the filter's captures and the rule's name.
func (c *compilation) checkAnswerTopic(r *SendRule, key string, t *AnswerTopic) {
	if t.IsZero() || r.Filter.IsZero() {
		return
	}
	t.Topic = t.named(r.Name)
	t.fields, t.captures = slices.Clone(t.fields), nil
	has := r.Filter.captures()
	for i := range t.fields {
		e := &t.fields[i]
		if e.kind != extractCapture {
			continue
		}
		at := slices.IndexFunc(has, func(c capture) bool { return c.name == e.text })
		if at < 0 {
			names := append(r.Filter.Captures(), datumNames...)
			hint := "there are {" + strings.Join(names, "}, {") + "}"
			if meant := Near(e.text, names); meant != "" {
				hint = "did you mean {" + meant + "}?"
			}
			c.fault("answer", hint, "%s: {%s} is no capture of the filter %s, nor known of an answer", key, e.text, r.Filter)
			return
		}
		e.offset = len(t.captures)
		t.captures = append(t.captures, has[at])
	}
	for _, capture := range has {
		if i := slices.Index(datumNames, capture.name); i >= 0 && t.uses(datum(i)) {
			c.fault("answer", "call the capture something else", "%s: {%s} is a capture of the filter, and what is known of an answer has the same name", key, capture.name)
		}
	}
	filled := t.fill(r.Binding.Interface)
	shown := quote(replaceUnknowns(filled, "…"))
	switch err := checkFilled(filled); {
	case err != nil:
		c.fault("answer", "", "%s: %s is %s: %w", key, t.text, shown, err)
	case filled[0] == '$':
		c.fault("answer", "begin it with another character", "%s: %s begins with $, and such topics are the broker's own (MQTT 3.1.1, 4.7.2)", key, shown)
	case overlap(t.pattern(r.Binding.Interface), r.Filter.mqtt):
		c.fault("answer", "let requests and answers have topics of their own", "%s: %s may be a topic that the rule's own filter %s takes, and each answer would be the next request", key, t.text, r.Filter)
	}
}

// checkAnswerLoops refuses rules whose answers are requests of one another: whatever the answers
// are, each brings the next.
func (c *compilation) checkAnswerLoops() {
	var rules []int
	for i := range c.send {
		if c.send[i].Answer != nil {
			rules = append(rules, i)
		}
	}
	if len(rules) < 2 {
		return
	}
	filters := newTrie(len(rules), 0)
	for i, rule := range rules {
		filters.insert(c.send[rule].Filter.mqtt, int32(i))
	}
	steps, edges := maxSteps, make(graph, len(rules))
	for i, rule := range rules {
		r := &c.send[rule]
		for _, t := range []*AnswerTopic{&r.Answer.Topic, &r.Answer.None} {
			if t.IsZero() {
				continue
			}
			filters.overlapping(t.pattern(r.Binding.Interface), &steps, func(first int32) {
				for other := first; other != none; other = filters.next[other] {
					steps--
					edges[i] = append(edges[i], other)
				}
			})
		}
	}
	for i, on := range edges.cyclic() {
		if on {
			c.at = place{"send", rules[i]}
			next := rules[edges.cycle(int32(i))[1]]
			c.fault("answer", "publish answers on topics that no rule with answer takes", "what is published on %s may be a request of send[%d], and its answer in the end one of this rule: requests without end",
				c.send[rules[i]].Answer.Topic, next)
			return
		}
	}
}
