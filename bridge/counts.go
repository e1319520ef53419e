package bridge

import "iter"

// RuleCounts is how much has become of a rule's messages since the start, without the words that
// a Status has.
type RuleCounts struct {
	Direction string // send or receive
	Name      string
	In        uint64 // messages that matched, or datagrams that arrived
	Out       uint64 // datagrams that the kernel took, or messages that the broker has
	Dropped   uint64
}

// Counts are those of all rules. They make no garbage: whoever draws a graph asks every other second.
func (b *Bridge) Counts() iter.Seq[RuleCounts] {
	g := b.current()
	return func(yield func(RuleCounts) bool) {
		for _, r := range g.send.Rules {
			in, out, _ := r.Totals()
			if !yield(RuleCounts{"send", r.Name, in, out, r.Counters.Dropped()}) {
				return
			}
		}
		for _, r := range g.receive.Rules {
			in, out := r.Totals()
			if !yield(RuleCounts{"receive", r.Name, in, out, r.Counters.Dropped()}) {
				return
			}
		}
	}
}

// A Key is what a rule says by one key of the configuration.
type Key struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Means   string `json:"means,omitempty"`   // in words; "": the value says it
	Default bool   `json:"default,omitempty"` // it is what the key has where nothing is given
}

// Effective is a rule as it is in force, by all its keys; ok: there is one of that name.
func (b *Bridge) Effective(name string) (keys []Key, ok bool) {
	var rule any
	g := b.current()
	for _, r := range g.send.Rules {
		if r.Name == name {
			rule = r.SendRule
		}
	}
	for _, r := range g.receive.Rules {
		if r.Name == name {
			rule = r.ReceiveRule
		}
	}
	if rule == nil || b.options.Keys == nil {
		return nil, rule != nil
	}
	return b.options.Keys(rule), true
}
