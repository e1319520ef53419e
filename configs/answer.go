package configs

import (
	"errors"
	"fmt"
	"reflect"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// answerKeys are the keys of a rule's answer, each with the place of its variable in setAnswer.
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
	a := &mapping.Answer{Within: mapping.DefaultWithin}
	tries := 1
	d := decodeTable(n, &answerKeys, &a.Topic, &a.Within, &tries, &a.Match, &a.Encoding, &a.None)
	if a.Topic.IsZero() && !d.reported["topic"] {
		d.fault(n.At, "topic", withHint(answerExample, errors.New("missing")))
	}
	if d.errs != nil {
		return d.errs
	}
	a.Tries = uint8(tries)
	*to = a
	return nil
}

// decodeTable decodes a table that is a value: each key into the variable of its place. The faults are of paths
// within it.
func decodeTable(n *syntax.Node, s *section, variables ...any) *decoder {
	d := &decoder{reported: make(map[string]bool)}
	d.table(n, s, "", func(f *field, e *syntax.Entry) {
		if err := f.set(reflect.ValueOf(variables[f.place]).Elem(), &e.Value); err != nil {
			d.fault(e.Value.At, f.key, err)
		}
	})
	return d
}
