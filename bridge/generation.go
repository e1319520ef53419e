package bridge

import (
	"sync"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/mapping"
)

// generation is what a table asks for. It is made whole, put to work, and never changed:
// the next table makes another. What both ask for in the same words is one and the
// same in both, so that it does not notice: a socket stays open, a group joined.
type generation struct {
	table   *mapping.Table
	send    *send.Generation
	receive *receive.Generation

	settings sync.Map // []string by rule, as Options.Settings says, once somebody has asked
}

// settingsOf are what the rule says by its keys.
func (g *generation) settingsOf(rule any, ask func(rule any) []string) []string {
	if ask == nil {
		return nil
	}
	known, ok := g.settings.Load(rule)
	if !ok {
		known, _ = g.settings.LoadOrStore(rule, ask(rule))
	}
	return known.([]string)
}

// noGeneration is what there is before the first table.
func noGeneration() *generation {
	return &generation{send: new(send.Generation), receive: new(receive.Generation)}
}

// current is the generation that is at work.
func (b *Bridge) current() *generation { return b.working.Load() }

// build makes the generation of a table, reusing what fits of the previous one.
func (b *Bridge) build(table *mapping.Table, before *generation, diversions []send.Diversion) *generation {
	return &generation{table: table, send: b.send.Build(table, before.send, diversions), receive: b.receive.Build(table, before.receive)}
}

// shortage says how many file descriptors the rules need, where there are too few; and the
// state: degraded where they have their sockets all the same, at the cost of what is kept.
func (g *generation) shortage() (account.State, string) {
	sockets, limit := g.send.Sockets()+g.receive.Sockets(), multicast.DescriptorLimit()
	state := account.StateDegraded
	if sockets > limit-multicast.KeptDescriptors() {
		state = account.StatePending
	}
	return state, multicast.DescriptorShortage(sockets, limit)
}

// counters are those of all rules.
func (g *generation) counters() (all []*account.Counters) {
	for _, r := range g.send.Rules {
		all = append(all, &r.Counters)
	}
	for _, r := range g.receive.Rules {
		all = append(all, &r.Counters)
	}
	return all
}
