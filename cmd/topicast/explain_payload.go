package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"topicast/mapping"
)

// sample is the payload that a question is about, where one is given.
type sample struct {
	given bool
	bytes []byte
	said  *said // nil: nothing
}

// said are the properties beside a payload.
type said struct {
	user        [][2]string
	contentType *string
}

// User and ContentType make a mapping.Properties of it.
func (s *said) User(name string) ([]byte, bool) {
	for _, p := range s.user {
		if p[0] == name {
			return []byte(p[1]), true
		}
	}
	return nil, false
}

func (s *said) ContentType() ([]byte, bool) {
	if s.contentType == nil {
		return nil, false
	}
	return []byte(*s.contentType), true
}

// addProperties reads --property and --content-type.
func (s *sample) addProperties(user []string, contentType string, typed bool) error {
	if len(user) == 0 && !typed {
		return nil
	}
	s.given, s.said = true, new(said)
	if typed {
		s.said.contentType = &contentType
	}
	for _, text := range user {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return usageError(fmt.Errorf("--property %q: write NAME=VALUE, as in room=3", text))
		}
		s.said.user = append(s.said.user, [2]string{name, value})
	}
	return nil
}

// properties are those of the message.
func (s *sample) properties() mapping.Properties {
	if s.said == nil {
		return nil
	}
	return s.said
}

// parseSample reads --payload.
func parseSample(ctx context.Context, text string, given bool, stdin io.Reader) (s sample, err error) {
	if !given {
		return s, nil
	}
	s = sample{given: true, bytes: []byte(text)}
	if digits, ok := strings.CutPrefix(text, "hex:"); ok {
		if s.bytes, err = hex.DecodeString(digits); err != nil {
			err = usageError(fmt.Errorf("--payload %q: behind hex: stand bytes of two hexadecimal digits each, as in hex:0d0a", text))
		}
		return s, err
	}
	if file, ok := strings.CutPrefix(text, "@"); ok {
		if s.bytes, err = readPayload(ctx, file, stdin); err != nil {
			err = fmt.Errorf("--payload: %w", err)
		}
	}
	return s, err
}

// takes reports whether a rule's condition takes the message.
func (s sample) takes(r *mapping.SendRule, topic string) bool {
	var captures [][]byte
	for _, name := range r.When.Captures() {
		captures = append(captures, []byte(r.Filter.Capture(name, topic)))
	}
	return r.When.Matches([]byte(topic), captures, s.bytes, s.properties())
}

// outcome is what one rule makes of the message: where it goes and how long its datagram is, or
// why it goes nowhere. Without a sample it is what the topic alone tells.
type outcome struct {
	mapping.Target
	open     bool   // only a payload tells the target
	filtered string // the reason, and why; "": it is not
	dropped  string // likewise
	bytes    int    // of the datagram
}

func (s sample) outcome(target mapping.Target, r *mapping.SendRule, topic string) outcome {
	o := outcome{Target: target}
	if s.given && !s.takes(r, topic) {
		o.filtered = fmt.Sprintf("when: %s: this message does not satisfy it", r.When)
		return o
	}
	if r.DropEmpty && s.given && len(s.bytes) == 0 {
		o.filtered = "empty: it has no payload"
		return o
	}
	if o.open = target.ByPayload != nil && !s.given; target.ByPayload != nil && s.given {
		o.To, o.Err = target.ByPayload.Of(s.bytes, s.properties())
	}
	if o.Err != nil {
		o.dropped = fmt.Sprintf("bad_%s: %v", r.To().Kind(), o.Err)
		return o
	}
	if !s.given {
		return o
	}
	datagram, _, empty, err := r.Datagram(nil, s.bytes)
	switch o.bytes = len(datagram); {
	case empty && r.DropEmpty:
		o.filtered = "empty: nothing is left of it"
	case err != nil:
		o.dropped = fmt.Sprintf("bad_payload: %v", err)
	}
	return o
}

// targetText is where it goes, as far as that is known.
func (o *outcome) targetText(r *mapping.SendRule) string {
	if o.open {
		ask := "--payload TEXT tells"
		if names := r.To().PropertyNames(); len(names) > 0 {
			ask = fmt.Sprintf("--payload TEXT and --property %s=VALUE tell", names[0])
		}
		return fmt.Sprintf("%s (%s the rest)", r.To(), ask)
	}
	return o.To.String()
}

// maxShown is how many messages of a datagram are shown.
const maxShown = 10

// messages are those that a rule takes a datagram for.
func (s sample) messages(r *mapping.ReceiveRule) (all [][]byte) {
	if r.Split == mapping.SplitNone {
		return [][]byte{s.bytes}
	}
	for m, rest, ok := r.Split.Next(s.bytes); ok; m, rest, ok = r.Split.Next(rest) {
		all = append(all, m)
	}
	return all
}

// explainMessages tells what becomes of each message of the datagram, and whether any is published.
func (q question) explainMessages(line func(key, format string, args ...any), r mapping.ReceiveRule, on string) (published bool) {
	all := q.sample.messages(&r)
	if len(all) == 0 {
		line("filtered", "empty: split leaves nothing of it")
		return false
	}
	for i, m := range all {
		of := ""
		if len(all) > 1 {
			of = fmt.Sprintf("message %d of %d: ", i+1, len(all))
		}
		word, text := q.message(&r, m, on)
		published = published || word == "topic"
		if i < maxShown {
			line(word, "%s%s", of, text)
		}
	}
	if n := len(all) - maxShown; n > 0 {
		line("", "%d more messages", n)
	}
	return published
}

// message is what becomes of one message: its topic, or why it has none.
func (q question) message(r *mapping.ReceiveRule, m []byte, on string) (word, text string) {
	one, other, missing := q.senders()
	a, b := q.arrival(one, on), q.arrival(other, on)
	switch takes := r.When.Matches(m, &a, r.Name); {
	case takes != r.When.Matches(m, &b, r.Name):
		return "when", fmt.Sprintf("%s (%s)", r.When, missing)
	case !takes:
		return "filtered", fmt.Sprintf("when: %s: this payload does not satisfy it", r.When)
	}
	if r.DropEmpty && len(m) == 0 && r.Encoding.Empties() {
		return "filtered", "empty: it has no payload"
	}
	topic, err := r.Topic.AppendOf(nil, m, &a, r.Name)
	second, err2 := r.Topic.AppendOf(nil, m, &b, r.Name)
	switch {
	case err != nil && err2 != nil:
		return "drop", topicLoss(err)
	case err != nil || err2 != nil || string(topic) != string(second):
		return "topic", fmt.Sprintf("%s (%s)", r.Topic, missing)
	}
	return "topic", string(topic)
}
