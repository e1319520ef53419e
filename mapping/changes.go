package mapping

import "reflect"

// Changes are the names of rules by which a table differs from another.
type Changes struct {
	Added, Removed []string
	Changed        []string // that say something else
}

// Changes returns what t has otherwise than before, in the order of the rules: those that
// are gone in their previous order. A rule is the same one as long as it has its name and
// its direction.
func (t *Table) Changes(before *Table) Changes {
	t, before = t.Configured(), before.Configured()
	var c Changes
	c.compare(t.sendNames(), before.sendNames(), func(i, was int) bool { return reflect.DeepEqual(t.send[i], before.send[was]) })
	c.compare(t.receiveNames(), before.receiveNames(), func(i, was int) bool { return reflect.DeepEqual(t.receive[i], before.receive[was]) })
	return c
}

// InstanceChanges returns the names of the instances that t has and another table of the same
// configuration has not, and the other way round.
func (t *Table) InstanceChanges(before *Table) (came, gone []string) {
	var c Changes
	c.compare(t.sendNames(), before.sendNames(), func(int, int) bool { return true })
	c.compare(t.receiveNames(), before.receiveNames(), func(int, int) bool { return true })
	return c.Added, c.Removed
}

// compare compares rules of one direction, by their names; same tells of two places.
func (c *Changes) compare(names, before []string, same func(i, was int) bool) {
	places := make(map[string]int, len(before))
	for i, name := range before {
		places[name] = i
	}
	kept := make(map[string]bool, len(names))
	for i, name := range names {
		was, known := places[name]
		kept[name] = known
		switch {
		case !known:
			c.Added = append(c.Added, name)
		case !same(i, was):
			c.Changed = append(c.Changed, name)
		}
	}
	for _, name := range before {
		if !kept[name] {
			c.Removed = append(c.Removed, name)
		}
	}
}

func (t *Table) sendNames() (names []string) {
	for i := range t.send {
		names = append(names, t.send[i].Name)
	}
	return names
}

func (t *Table) receiveNames() (names []string) {
	for i := range t.receive {
		names = append(names, t.receive[i].Name)
	}
	return names
}
