package send

import "topicast/bridge/session"

// whenFacts is what the condition of a rule asks for that a topic tells.
type whenFacts struct {
	topic    []byte
	captures [][]byte // in the order of the condition
}

// What it takes beside the topic, which captures are parts of, and each capture.
const (
	whenCost    = 64
	captureCost = 24
)

func factsOf(r *Rule, topic string) *whenFacts {
	f := &whenFacts{topic: []byte(topic)}
	for _, name := range r.When.Captures() {
		f.captures = append(f.captures, []byte(r.Filter.Capture(name, topic)))
	}
	return f
}

// cost is what it takes.
func (f *whenFacts) cost() int {
	return whenCost + 2*len(f.topic) + captureCost*len(f.captures)
}

// takes reports whether a message satisfies the rule's condition.
func (f *whenFacts) takes(r *Rule, m *session.Message) bool {
	return r.When.Matches(f.topic, f.captures, m.Payload, &m.Properties)
}
