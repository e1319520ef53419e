package bridge

import (
	"reflect"
	"slices"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// parts is what a table asks for. It is made whole, put to work, and never changed:
// the next table makes another. What both ask for in the same words is one and the
// same in both, so that it does not notice: a socket stays open, a group joined.
type parts struct {
	table *mapping.Table

	sends    []*sendRule
	bindings []*binding
	bound    map[multicast.Binding]*binding // the same by what they are

	receives    []*receiveRule
	memberships []*membership
	listeners   map[*membership]*listeners

	detours []*detour
	strays  strays
}

// parts are those that are at work.
func (b *Bridge) parts() *parts { return b.working.Load() }

// assemble makes the parts for a table, out of those of before where they fit.
func (b *Bridge) assemble(table *mapping.Table, before *parts) *parts {
	p := &parts{table: table, strays: before.leftovers()}
	b.assembleReceive(p, before)
	b.assembleSend(p, before)
	return p
}

// assembleReceive gives each receive rule its account and its memberships. Rules
// that ask for the same share one.
func (b *Bridge) assembleReceive(p, before *parts) {
	specs := p.table.Receive()
	old := make(map[string]*receiveRule, len(before.receives))
	for _, r := range before.receives {
		old[r.Name] = r
	}
	joined := make(map[join]*membership, len(before.memberships))
	for _, m := range before.memberships {
		joined[m.join] = m
	}
	p.receives = make([]*receiveRule, len(specs))
	p.listeners = make(map[*membership]*listeners)
	for i := range specs {
		guarded := b.options.Loops.Guard && p.table.ReceiveLoops(i)
		r := old[specs[i].Name]
		if r == nil || !r.same(&specs[i], guarded) {
			r = b.newReceiveRule(&specs[i], guarded, r)
		}
		p.receives[i] = r
		if on := b.options.Spool.On; on != nil && r.QoS > 0 {
			if d := p.strays.detour(r, on); r.detour == nil {
				r.detour = d
			}
			p.detours = append(p.detours, r.detour)
		}
		b.listen(p, r, joined)
	}
	for m, l := range p.listeners {
		if was := before.listeners[m]; was != nil && slices.Equal(was.rules, l.rules) {
			p.listeners[m] = was
		}
	}
}

// same says whether the rule does already what it is to do.
func (r *receiveRule) same(spec *mapping.ReceiveRule, guarded bool) bool {
	return (r.hold != nil) == guarded && reflect.DeepEqual(*r.ReceiveRule, *spec)
}

// newReceiveRule makes a rule at work. was is the one of before that had its name.
func (b *Bridge) newReceiveRule(spec *mapping.ReceiveRule, guarded bool, was *receiveRule) *receiveRule {
	own := *spec // for it may outlive the table
	r := &receiveRule{ReceiveRule: &own, path: b.receive}
	r.breaker.limit = b.options.Loops.Breaker
	if was != nil {
		r.receiveAccount = was.receiveAccount
	} else {
		r.receiveAccount = &receiveAccount{ledger: ledger{log: b.log}}
	}
	if guarded {
		r.hold = &hold{path: b.receive}
	}
	return r
}

// listen enters a rule with the memberships it needs.
func (b *Bridge) listen(p *parts, r *receiveRule, joined map[join]*membership) {
	var memberships []*membership
	for _, j := range joins(r.ReceiveRule) {
		m := joined[j]
		if m == nil {
			m = newMembership(j, b.receive, b.options.network, b.log)
			joined[j] = m
		}
		l := p.listeners[m]
		if l == nil {
			l = new(listeners)
			p.listeners[m] = l
			p.memberships = append(p.memberships, m)
		}
		if n := len(l.rules); n == 0 || l.rules[n-1] != r { // it may name a group twice
			l.rules = append(l.rules, r)
			memberships = append(memberships, m)
		}
	}
	if r.memberships == nil {
		r.memberships = memberships // of a rule that was there before they are the same
	}
}

// assembleSend gives each send rule its account, and each distinct binding its
// socket-to-be.
func (b *Bridge) assembleSend(p, before *parts) {
	specs := p.table.Send()
	old := make(map[string]*sendRule, len(before.sends))
	for _, r := range before.sends {
		old[r.Name] = r
	}
	p.bound = make(map[multicast.Binding]*binding, len(before.bindings))
	rules := make([]sendRule, len(specs))
	var accounts []sendAccount
	if len(before.sends) == 0 {
		accounts = make([]sendAccount, len(specs)) // all at once, at the start
	}
	p.sends = make([]*sendRule, len(specs))
	for i := range specs {
		spec := &specs[i]
		want := multicast.Binding(spec.Binding)
		o := p.bound[want]
		if o == nil {
			if o = before.bound[want]; o == nil {
				o = newBinding(want, b)
			}
			p.bound[want] = o
			p.bindings = append(p.bindings, o)
		}
		if before.bound[want] != o {
			o.rules++ // it tells of them when it is up
		}
		r := &rules[i]
		r.SendRule, r.binding = spec, o
		switch was := old[spec.Name]; {
		case was != nil:
			r.sendAccount = was.sendAccount
		case accounts != nil:
			r.sendAccount = &accounts[i]
		default:
			r.sendAccount = new(sendAccount)
		}
		r.log = b.log
		if b.options.Loops.Guard && p.table.SendLoops(i) {
			r.guard = b.receive.memory
		}
		if on := b.options.Spool.On; on != nil && spec.OnDown != mapping.OnDownDrop {
			r.disk = p.strays.disk(spec.Name, on)
		}
		p.sends[i] = r
	}
}

// ledgers are those of all rules.
func (p *parts) ledgers() (all []*ledger) {
	for _, r := range p.sends {
		all = append(all, &r.ledger)
	}
	for _, r := range p.receives {
		all = append(all, &r.ledger)
	}
	return all
}
