package mapping

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// limited gathers warnings of one kind, of which only the first are spelt out.
type limited struct {
	side  string // where the rest is counted; "": receive
	list  []Warning
	count int
}

func (l *limited) add(path, format string, args ...any) {
	if l.count++; l.count <= maxWarnings {
		l.list = append(l.list, Warning{path, fmt.Sprintf(format, args...)})
	}
}

// warnings returns those spelt out, and one for the rest.
func (l *limited) warnings(what string) []Warning {
	if l.count > maxWarnings {
		l.list = append(l.list, Warning{cmp.Or(l.side, "receive"), fmt.Sprintf("%d more %s", l.count-maxWarnings, what)})
	}
	return l.list
}

// sourceSpecific reports whether a range has such groups: then one end is one, as no
// rule has enough groups to reach beyond both ends of a prefix.
func sourceSpecific(g GroupRange) bool { return SourceSpecific(g.First) || SourceSpecific(g.Last) }

// sourceSpecific warns of such groups where the network is not told whom to
// listen to.
func (t *Table) sourceSpecific() []Warning {
	var found limited
	for i := range t.receive {
		r := &t.receive[i]
		if len(r.JoinedSources()) > 0 {
			continue
		}
		for n, g := range r.Groups {
			if sourceSpecific(g) {
				found.add(t.receiveAt(i).path(item("group", n, len(r.Groups))),
					"%s is source-specific (RFC 4607): routers carry it only to those that name the senders, so list these in source, as addresses and not as networks", g)
			}
		}
	}
	return found.warnings("groups that are source-specific")
}

// manyTopics warns of topics that the broker keeps for ever and nobody uses again.
func (t *Table) manyTopics() []Warning {
	var found limited
	for i, r := range t.receive {
		if r.Retain && r.Topic.uses(datumSourcePort) {
			found.add(t.receiveAt(i).path("retain"),
				"%s has {source_port} in it: a sender has another port after each restart, often for each datagram, and the broker keeps the last message of every topic there was", r.Topic)
		}
	}
	return found.warnings("retained topics with {source_port}")
}

// deletions warns of rules by which a datagram can delete what the broker keeps.
func (t *Table) deletions() []Warning {
	var found limited
	for i, r := range t.receive {
		if r.Retain && !r.DropEmpty && r.Encoding.Empties() {
			found.add(t.receiveAt(i).path("empty"),
				"an empty datagram deletes what the broker keeps of %s [MQTT-3.3.1-6], and any host on the network can send one", r.Topic)
		}
	}
	return found.warnings("rules by which an empty datagram deletes what the broker keeps")
}

// nothingMerged warns of rules with merge that have but one leg, or whose topic keeps all legs apart: what
// goes to two topics are two messages.
func (t *Table) nothingMerged() []Warning {
	var found limited
	for i, r := range t.receive {
		bySender := slices.ContainsFunc(r.Topic.parts, func(p part) bool { return p.kind == datumSource || p.kind == datumSourcePort })
		several := r.Instance() != "" || SeveralInterfaces(r.Interface)
		if r.Merge > 0 && bySender && (!several || r.Topic.uses(datumInterface)) {
			found.add(t.receiveAt(i).path("merge"),
				"%s has a topic for each sender, so that what two of them bring are two messages, and nothing is merged: name in it what both have in common", r.Topic)
		}
		if r.Merge > 0 && several && !bySender && r.Topic.uses(datumInterface) {
			found.add(t.receiveAt(i).path("merge"),
				"%s has a topic for each interface, so that what two of them bring are two messages: only what senders of one interface bring is merged", r.Topic)
		}
		if r.Merge > 0 && !several && len(r.Sources) == 1 && r.Sources[0].IsSingleIP() {
			found.add(t.receiveAt(i).path("merge"),
				"%s is the one sender that this rule takes, on one interface: there is no second leg, and nothing is merged", r.Sources[0].Addr())
		}
	}
	return found.warnings("rules with merge that merge nothing")
}

// A listing is a range of groups at its place in the rules.
type listing struct {
	GroupRange
	rule, item int
}

// heardTwice warns of groups listed twice in a rule, and of datagrams that two
// rules publish on one topic.
func (t *Table) heardTwice() []Warning {
	type outcome struct{ topic, iface, when string }
	listings := make(map[outcome][]listing)
	var outcomes []outcome // in the order of the rules
	for i := range t.receive {
		r := &t.receive[i]
		o := outcome{r.Topic.key(), t.canonical(r.Interface), r.When.String()}
		if r.Topic.uses(datumInterface) { // by another name it is another topic
			o.iface = r.Interface
		}
		if listings[o] == nil {
			outcomes = append(outcomes, o)
		}
		for n, g := range r.Groups {
			listings[o] = append(listings[o], listing{g, i, n})
		}
		for j := range r.Joins() {
			if !j.Host() {
				break
			}
			listings[o] = append(listings[o], listing{GroupRange{j.Group.Addr(), j.Group.Addr(), j.Group.Port()}, i, 0})
		}
	}
	var found limited
	steps := maxSteps
	for _, o := range outcomes {
		t.heardTwiceOf(listings[o], &steps, &found)
	}
	warnings := found.warnings("groups that are heard twice for one topic")
	if steps <= 0 {
		warnings = append(warnings, Warning{"receive", "the search for groups that are heard twice was cut short"})
	}
	return warnings
}

// heardTwiceOf looks at groups whose datagrams go to one topic.
func (t *Table) heardTwiceOf(list []listing, steps *int, found *limited) {
	slices.SortStableFunc(list, func(a, b listing) int { return cmp.Or(cmp.Compare(a.Port, b.Port), a.First.Compare(b.First)) })
	for i, a := range list {
		for _, b := range list[i+1:] {
			if *steps--; *steps <= 0 || a.Port != b.Port || a.Last.Less(b.First) {
				break // as are those that follow: they begin later
			}
			earlier, later := a, b
			if cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.item, b.item)) > 0 {
				earlier, later = b, a
			}
			t.warnTwice(earlier, later, found)
		}
	}
}

func (t *Table) warnTwice(earlier, later listing, found *limited) {
	r, other := &t.receive[later.rule], &t.receive[earlier.rule]
	if r.Port != 0 {
		if later.First.Is4() || !slices.Contains(other.hostFamilies(), false) || !slices.Contains(r.hostFamilies(), false) { // once for both families
			if anyOverlap(r.Sources, other.Sources) {
				found.add(t.receiveAt(later.rule).path("port"),
					"receive[%d] publishes what comes to port %d on %s too: what both hear is published twice", t.ReceivePlace(earlier.rule), r.Port, r.Topic)
			}
		}
		return
	}
	path := t.receiveAt(later.rule).path(item("group", later.item, len(r.Groups)))
	switch {
	case earlier.rule == later.rule:
		found.add(path, "%s is listed twice: it overlaps %s", later, earlier)
	case anyOverlap(r.Sources, other.Sources):
		found.add(path, "receive[%d] publishes datagrams to %s on %s too: what both hear is published twice", t.ReceivePlace(earlier.rule), earlier, r.Topic)
	}
}

// anyOverlap reports whether a datagram can come from both; none are all.
func anyOverlap(a, b []netip.Prefix) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(p netip.Prefix) bool {
		return slices.ContainsFunc(b, p.Overlaps)
	})
}
