package mapping

import (
	"cmp"
	"iter"
	"path"
	"slices"
	"strings"
	"time"
)

// What the key interface of a rule says: a name; or several names and patterns of names, with
// commas in between. A list of the configuration is such a text as well.

const (
	// MaxInterfaces is how many interfaces a rule may work by.
	MaxInterfaces = 256
	// maxInstances is how many instances all rules have that have several interfaces.
	maxInstances = 16384
)

// SeveralInterfaces reports whether the key interface of a rule says more than one plain name.
func SeveralInterfaces(text string) bool { return strings.ContainsAny(text, ",*?[") }

// interfaceItems yields what stands between the commas, with its number.
func interfaceItems(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		i := 0
		for one := range strings.SplitSeq(text, ",") {
			if !yield(i, strings.TrimSpace(one)) {
				return
			}
			i++
		}
	}
}

// InterfacePattern reports whether a name is a pattern of names.
func InterfacePattern(name string) bool { return strings.ContainsAny(name, "*?[") }

// matchInterface reports whether a pattern, which is a good one, is of a name. A name may have
// such letters itself, as some of Windows do.
func matchInterface(pattern, name string) bool {
	ok, _ := path.Match(pattern, name)
	return ok || pattern == name
}

// checkInterfaces looks at the key interface of a rule; plain looks at a plain name.
func (c *compilation) checkInterfaces(text string, plain func(field, name string)) (names int) {
	if !SeveralInterfaces(text) {
		plain("interface", text)
		return 1
	}
	c.several = true
	of := strings.Count(text, ",") + 1
	for i, name := range interfaceItems(text) {
		field := item("interface", i, of)
		_, bad := path.Match(name, "")
		switch {
		case name == "":
			c.fault(field, "name an interface in each place, or a pattern such as vlan*", "is empty")
		case !InterfacePattern(name):
			names++
			plain(field, name)
		case bad != nil:
			c.fault(field, "* stands for any part of a name, ? for one letter, [0-9] for one of these", "%s is no pattern", quote(name))
		}
	}
	if names > MaxInterfaces {
		c.fault("interface", "make several rules of it", "%d interfaces, and a rule has at most %d", names, MaxInterfaces)
	}
	return max(names, 1)
}

// HostInterfaces are what a table has to know of the interfaces of a host.
type HostInterfaces struct {
	Names map[string]string // the kernel's own name of an interface, by the others that it has
	List  []HostInterface   // those that patterns may match
	// MaxAge is how long what receive rules have for the broker may wait; 0: no limit.
	MaxAge time.Duration
}

// A HostInterface is one of them.
type HostInterface struct {
	Name   string   // the kernel's
	Others []string // other names of it
	// Away is since when it is not there any more, if it was: rules by patterns wait for it as
	// long as their messages may wait. 0: it is there.
	Away time.Duration
}

func (i *HostInterface) matches(pattern string) bool {
	return matchInterface(pattern, i.Name) || slices.ContainsFunc(i.Others, func(n string) bool { return matchInterface(pattern, n) })
}

// workingBy is an interface that a rule works by.
type workingBy struct {
	name          string
	pattern, away bool // only a pattern names it; it is away
}

// interfacesOf returns the interfaces that a rule works by on the host, each once; the patterns
// that match none; and how many more there are than there may be.
//
// What the rule names is there, whether the host has it or not; what it has by a pattern is there
// for maxAge after it has gone. Where there are too many, those that are away are left out first,
// then the last.
func (h *HostInterfaces) interfacesOf(text string, maxAge time.Duration, most int) (all []workingBy, idle []int, more int) {
	seen := make(map[string]bool)
	add := func(w workingBy) {
		kernel := cmp.Or(h.Names[w.name], w.name)
		if !seen[kernel] {
			seen[kernel] = true
			all = append(all, w)
		}
	}
	for _, name := range interfaceItems(text) { // who is named has that name, and no pattern comes first
		if !InterfacePattern(name) {
			add(workingBy{name: name})
		}
	}
	for n, pattern := range interfaceItems(text) {
		if !InterfacePattern(pattern) {
			continue
		}
		matched := false
		for i := range h.List {
			on := &h.List[i]
			if maxAge > 0 && on.Away > maxAge || !on.matches(pattern) {
				continue
			}
			matched = matched || on.Away == 0
			add(workingBy{name: on.Name, pattern: true, away: on.Away > 0})
		}
		if !matched {
			idle = append(idle, n)
		}
	}
	before := len(all)
	if before > most {
		all = slices.DeleteFunc(all, func(w workingBy) bool { return w.away })
	}
	all = all[:min(len(all), most)]
	return all, idle, before - len(all)
}
