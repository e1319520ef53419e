package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"topicast/bridge/members"
	"topicast/bridge/multicast"
	"topicast/mapping"
)

// Who has joined the groups of send rules with members: one socket for each interface of theirs,
// opened and closed by the looks at the interfaces. Nothing of it touches the way of a message,
// and where no rule has the key nothing of it is there.

const (
	// mostWatched bounds the interfaces that are listened on for members.
	mostWatched = 64

	// mostMembers bounds the groups that the status has of a rule.
	mostMembers = 16
)

// membersWatch is the interfaces that are listened on. It changes under lookMu and mu, and is read
// under one of them.
type membersWatch struct {
	mu    sync.Mutex
	on    map[int]*members.Watch    // by the index of the interface
	of    map[multicast.Binding]int // which of them a binding leaves by
	ended bool
}

// follow opens and closes what the rules ask for. Callers hold lookMu.
func (w *membersWatch) follow(rules []mapping.SendRule, interfaces []multicast.Interface, open func(multicast.Interface) *members.Watch, warn func(string, ...any)) {
	if w.ended || len(w.on) == 0 && !slices.ContainsFunc(rules, func(r mapping.SendRule) bool { return r.Members }) {
		return
	}
	of, wanted := make(map[multicast.Binding]int), make(map[int]multicast.Interface)
	for i := range rules {
		b := multicast.Binding(rules[i].Binding)
		if _, known := of[b]; known || !rules[i].Members {
			continue
		}
		source, err := b.ResolveIn(interfaces)
		at := slices.IndexFunc(interfaces, func(i multicast.Interface) bool { return i.Index == source.Index })
		if err != nil || at < 0 {
			continue // it is pending
		}
		if _, known := wanted[source.Index]; !known && len(wanted) >= mostWatched {
			continue
		}
		of[b], wanted[source.Index] = source.Index, interfaces[at]
	}
	on := make(map[int]*members.Watch)
	var ended []*members.Watch
	for index, is := range w.on {
		_, again := is.Lacking()
		if _, stays := wanted[index]; stays && !again {
			on[index] = is
		} else {
			ended = append(ended, is)
		}
	}
	for index, one := range wanted {
		if on[index] != nil {
			continue
		}
		on[index] = open(one)
		if why, _ := on[index].Lacking(); why != "" && w.on[index] == nil {
			warn("cannot hear who has joined groups; the status says of its rules what the kernel's bridge tells alone", "interface", one.Name, "err", why)
		}
	}
	w.mu.Lock()
	w.on, w.of = on, of
	w.mu.Unlock()
	for _, is := range ended {
		is.Close()
	}
}

// Of says who has joined the groups of a rule; nil: it is not watched.
func (w *membersWatch) Of(r *mapping.SendRule) []members.Answer {
	if !r.Members {
		return nil
	}
	groups := groupsOf(r)
	w.mu.Lock()
	is, full := w.on[w.of[multicast.Binding(r.Binding)]], len(w.on) >= mostWatched
	w.mu.Unlock()
	if is == nil {
		why := "its interface is not there"
		if full {
			why = fmt.Sprintf("members are watched on %d interfaces at most", mostWatched)
		}
		return []members.Answer{{Group: groups.String(), Interface: r.Binding.Interface, State: members.Unknown, Why: why}}
	}
	return is.Of(groups, mostMembers)
}

// groupsOf are those that a rule may send to.
func groupsOf(r *mapping.SendRule) netip.Prefix {
	switch p := r.Group.Prefix(); {
	case p.IsValid():
		return p
	case r.Binding.IPv6:
		return netip.MustParsePrefix("ff00::/8")
	}
	return netip.MustParsePrefix("224.0.0.0/4")
}

// endMembers closes all, for good.
func (b *Bridge) endMembers() {
	b.lookMu.Lock()
	defer b.lookMu.Unlock()
	w := &b.members
	w.mu.Lock()
	ended := w.on
	w.on, w.ended = nil, true
	w.mu.Unlock()
	for _, is := range ended {
		is.Close()
	}
}
