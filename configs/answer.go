package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// answerKeys are the keys of a rule's answer, in the order of their variables in setAnswer.
var answerKeys = section{fields: []field{
	{key: "topic"},
	{key: "within", place: 1, limits: &limits{int64(mapping.MinWithin), int64(mapping.MaxWithin), "10ms to 1m"}},
	{key: "tries", place: 2, limits: &limits{1, mapping.MaxTries, fmt.Sprint("1 to ", mapping.MaxTries)}},
	{key: "match", place: 3},
	{key: "payload", place: 4},
	{key: "none", place: 5},
}}

const answerExample = `write { topic: "answers/{source}", within: 500ms }`

// setAnswer takes a table; an empty text is no answer.
func (f *field) setAnswer(to **mapping.Answer, n *syntax.Node) error {
	if (n.Kind == syntax.Text || n.Kind == syntax.Untyped) && n.Text == "" {
		*to = nil
		return nil
	}
	if n.Kind != syntax.Table {
		return withHint(answerExample, f.wrongKind(n, "what is asked of answers"))
	}
	var topic, match, none string
	var encoding mapping.Encoding
	within, tries := mapping.DefaultWithin, 1
	values := []reflect.Value{reflect.ValueOf(&topic).Elem(), reflect.ValueOf(&within).Elem(), reflect.ValueOf(&tries).Elem(),
		reflect.ValueOf(&match).Elem(), reflect.ValueOf(&encoding).Elem(), reflect.ValueOf(&none).Elem()}
	a := new(mapping.Answer)
	given := make(map[string]bool)
	for i := range n.Entries {
		e := &n.Entries[i]
		key := answerKeys.field(e.Key)
		switch {
		case key == nil:
			const all = "topic, within, tries, match, payload, none"
			hint := "the keys here are " + all
			if meant := nearest(e.Key, strings.Split(all, ", ")); meant != "" {
				hint = "did you mean " + meant + "?"
			}
			return withPlace(e.At, withHint(hint, fmt.Errorf("%s: unknown key", e.Key)))
		case given[e.Key]:
			return withPlace(e.At, withHint("keep one of the two", fmt.Errorf("%s: given twice", e.Key)))
		}
		given[e.Key] = true
		err := key.set(values[key.place], &e.Value)
		if err == nil {
			switch e.Key {
			case "topic":
				a.Topic, err = mapping.ParseAnswerTopic(topic)
			case "match":
				a.Match, err = mapping.ParseMatch(match)
			case "none":
				if none != "" {
					a.None, err = mapping.ParseAnswerTopic(none)
				}
			}
		}
		if err != nil {
			return withPlace(e.Value.At, fmt.Errorf("%s: %w", e.Key, err))
		}
	}
	if topic == "" {
		return withHint(answerExample, errors.New("topic is missing"))
	}
	a.Within, a.Tries, a.Encoding = within, uint8(tries), encoding
	*to = a
	return nil
}
