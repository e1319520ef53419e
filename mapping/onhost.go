package mapping

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// A rule with several interfaces is, on a host, one rule for each of them: an instance, which
// has one interface, and else is what any rule is. Where a pattern matches nothing yet the rule
// is its own only instance, by an interface with the pattern for a name, which no host has: so
// it is pending, and what comes for it waits.

// An expansion is what the rules of a table have become on a host. The zero expansion has each
// rule once.
type expansion struct {
	configured     *Table // the rules as the configuration has them; nil: this is that table
	sendOf         []int  // of each instance, which rule of configured it is one of; nil: they are the same
	receiveOf      []int
	sendPattern    []bool // of each instance: only a pattern names its interface
	receivePattern []bool
	idle, beyond   []Warning
}

// On returns the table for a host: with an instance for each interface that a rule has there,
// and what is decided by the names that interfaces have beside the kernel's. What send rules
// send by one name may come back by another, and that decides which rules are on a cycle. A
// table for which the host changes nothing is returned as it is.
func (t *Table) On(h HostInterfaces) *Table {
	base := t.Configured()
	next := base
	if base.several {
		next = base.expand(&h)
	}
	used := next.namesUsed(h.Names)
	if t.SameInstances(next) && maps.Equal(used, t.names) {
		return t
	}
	named := *next
	if len(used) > 0 {
		named.names = used
		named.loops = findLoops(&named)
	}
	named.configured = base
	return &named
}

// Configured returns the table as the configuration has it, with each rule once.
func (t *Table) Configured() *Table {
	if t.configured != nil {
		return t.configured
	}
	return t
}

// Several reports whether a rule has several interfaces, or a pattern.
func (t *Table) Several() bool { return t.Configured().several }

// SameInstances reports whether two tables of one configuration have the same instances.
func (t *Table) SameInstances(other *Table) bool {
	return slices.EqualFunc(t.send, other.send, func(a, b SendRule) bool {
		return a.Name == b.Name && a.Binding.Interface == b.Binding.Interface
	}) && slices.EqualFunc(t.receive, other.receive, func(a, b ReceiveRule) bool {
		return a.Name == b.Name && a.Interface == b.Interface
	}) && slices.Equal(t.beyond, other.beyond)
}

// namesUsed are those of the names that rules use.
func (t *Table) namesUsed(kernel map[string]string) map[string]string {
	used := make(map[string]string)
	use := func(name string) {
		if k, other := kernel[name]; other {
			used[name] = k
		}
	}
	for i := range t.send {
		use(t.send[i].Binding.Interface)
	}
	for i := range t.receive {
		use(t.receive[i].Interface)
	}
	return used
}

// expander makes instances.
type expander struct {
	host  *HostInterfaces
	taken map[string]bool // names of rules
	left  int             // how many instances there may be
	expansion
}

// expand makes the table of the instances that the rules have on a host.
func (t *Table) expand(h *HostInterfaces) *Table {
	sorted := *h
	sorted.List = slices.SortedFunc(slices.Values(h.List), func(a, b HostInterface) int { return strings.Compare(a.Name, b.Name) })
	x := expander{host: &sorted, taken: make(map[string]bool, len(t.send)+len(t.receive)), left: maxInstances}
	for i := range t.send {
		x.taken[t.send[i].Name] = true
	}
	for i := range t.receive {
		x.taken[t.receive[i].Name] = true
	}
	x.configured = t
	next := &Table{}
	for i := range t.send {
		r := t.send[i]
		x.instances(place{"send", i}, r.Name, r.Binding.Interface, r.MaxAge, 1, func(name string, on workingBy) {
			r.Name, r.Binding.Interface = name, on.name
			next.send, next.routes = append(next.send, r), append(next.routes, t.routes[i])
			x.sendOf, x.sendPattern = append(x.sendOf, i), append(x.sendPattern, on.pattern)
		})
	}
	for i := range t.receive {
		r := t.receive[i]
		x.instances(place{"receive", i}, r.Name, r.Interface, h.MaxAge, max(r.groupCount(), 1), func(name string, on workingBy) {
			r.Name, r.Interface = name, on.name
			next.receive = append(next.receive, r)
			x.receiveOf, x.receivePattern = append(x.receiveOf, i), append(x.receivePattern, on.pattern)
		})
	}
	next.expansion = x.expansion
	next.trie = trieOf(next.send)
	next.loops = findLoops(next)
	return next
}

// instances makes those of a rule: each has a name that no other has, and counts as so many
// against what all may be.
func (x *expander) instances(at place, name, text string, maxAge time.Duration, count int, add func(name string, on workingBy)) {
	if !SeveralInterfaces(text) {
		add(name, workingBy{name: text})
		return
	}
	all, idle, more := x.host.interfacesOf(text, maxAge, min(MaxInterfaces, max(x.left/count, 1)))
	x.left -= len(all) * count
	of := strings.Count(text, ",") + 1
	for n, pattern := range interfaceItems(text) {
		if slices.Contains(idle, n) {
			x.idle = append(x.idle, Warning{at.path(item("interface", n, of)), pattern})
		}
	}
	if more > 0 {
		x.beyond = append(x.beyond, Warning{at.path("interface"), fmt.Sprintf(
			"%d interfaces match %s, and rule %s works by %d of them: a rule has at most %d, and all with several interfaces %d with their groups", len(all)+more, text, name, len(all), MaxInterfaces, maxInstances)})
	}
	if len(all) == 0 {
		add(name, workingBy{name: text})
	}
	for _, on := range all {
		own := name + "@"
		for x.taken[own+on.name] {
			own += "@"
		}
		x.taken[own+on.name] = true
		add(own+on.name, on)
	}
}

// groupCount is how many groups the rule has.
func (r *ReceiveRule) groupCount() (n int) {
	for _, g := range r.Groups {
		n += g.Len()
	}
	return n
}

// SendPlace is the place of send rule i in the configuration.
func (t *Table) SendPlace(i int) int {
	if t.sendOf == nil {
		return i
	}
	return t.sendOf[i]
}

// ReceivePlace is the place of receive rule i in the configuration.
func (t *Table) ReceivePlace(i int) int {
	if t.receiveOf == nil {
		return i
	}
	return t.receiveOf[i]
}

// SendByPattern reports whether send rule i has its interface by a pattern alone: that it is
// not there is no trouble of the rule's.
func (t *Table) SendByPattern(i int) bool { return t.sendPattern != nil && t.sendPattern[i] }

// ReceiveByPattern is SendByPattern of a receive rule.
func (t *Table) ReceiveByPattern(i int) bool { return t.receivePattern != nil && t.receivePattern[i] }

// ByPattern yields the interfaces that rules have by a pattern alone, one as often as rules have
// it.
func (t *Table) ByPattern() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, by := range t.sendPattern {
			if by && !yield(t.send[i].Binding.Interface) {
				return
			}
		}
		for i, by := range t.receivePattern {
			if by && !yield(t.receive[i].Interface) {
				return
			}
		}
	}
}

// PatternInterface returns the interface of an instance by its name, where a pattern of a rule of
// the configuration matches it; else "".
func (t *Table) PatternInterface(instance string) string {
	t = t.Configured()
	of := func(rule, text string) string {
		name, is := strings.CutPrefix(instance, rule+"@")
		name = strings.TrimLeft(name, "@")
		if !is || !SeveralInterfaces(text) {
			return ""
		}
		for _, pattern := range interfaceItems(text) {
			if InterfacePattern(pattern) && matchInterface(pattern, name) {
				return name
			}
		}
		return ""
	}
	for i := range t.send {
		if name := of(t.send[i].Name, t.send[i].Binding.Interface); name != "" {
			return name
		}
	}
	for i := range t.receive {
		if name := of(t.receive[i].Name, t.receive[i].Interface); name != "" {
			return name
		}
	}
	return ""
}

// Instance is the interface of a rule that is an instance of one with several; "": the rule is
// as the configuration has it.
func (r *SendRule) Instance() string { return instance(r.Name, r.Common, r.Binding.Interface) }

// Instance is that of a receive rule.
func (r *ReceiveRule) Instance() string { return instance(r.Name, r.Common, r.Interface) }

func instance(name, common, on string) string {
	if name == common {
		return ""
	}
	return on
}

// Idle are the patterns that match no interface of the host that the table is for, each with
// its path.
func (t *Table) Idle() []Warning { return t.idle }

// Beyond tells of the rules that work by fewer interfaces than match.
func (t *Table) Beyond() []Warning { return t.beyond }

// outOf is the kernel's name, as far as it is known, of the interface that send rule i sends by;
// "": only the host can tell.
func (t *Table) outOf(i int) string {
	name := t.send[i].Binding.Interface
	if SeveralInterfaces(name) {
		return ""
	}
	return t.canonical(name)
}

func (t *Table) sendAt(i int) place    { return place{"send", t.SendPlace(i)} }
func (t *Table) receiveAt(i int) place { return place{"receive", t.ReceivePlace(i)} }

// byConfiguration leaves of warnings that are the same, of instances of one rule, the first.
func byConfiguration(warnings []Warning) []Warning {
	seen := make(map[Warning]bool, len(warnings))
	return slices.DeleteFunc(warnings, func(w Warning) bool {
		was := seen[w]
		seen[w] = true
		return was
	})
}
