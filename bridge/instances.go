package bridge

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// Rules with several interfaces. Each is an instance for each of its interfaces, which the table
// has found out (mapping.Table.On) and is a rule like any other. Where an interface comes that a
// pattern matches, the table is made anew and swapped in, as a reload does it, and the instances
// that there were do not notice.
//
// What was there and is gone is waited for, as an interface that a rule names: for as long as a
// message may wait. So one that comes and goes changes nothing, and what waits for it stays.

const (
	// instancesPause is how long after a change of the instances the next one may come: what
	// has interfaces come and go without end must not keep all rules from their work.
	instancesPause = time.Second
	// awayEvery is how often it is looked at which interfaces have been away for too long.
	awayEvery = 10 * time.Second
)

// HostInterfaces are interfaces as a table has to know them. A pattern does not match those that
// nothing is sent by or heard on: the loopback interface, a VRF, and what belongs to a bridge or
// a bond; whoever means one of these names it.
func HostInterfaces(all []multicast.Interface) mapping.HostInterfaces {
	h := mapping.HostInterfaces{Names: multicast.KernelNames(all)}
	vrf := make(map[string]bool)
	for _, i := range all {
		if i.VRF {
			vrf[i.Master] = true
		}
	}
	others := make(map[string][]string)
	for other, kernel := range h.Names {
		others[kernel] = append(others[kernel], other)
	}
	for _, i := range all {
		if !i.Loopback && i.HeardOn == "" && !vrf[i.Name] {
			slices.Sort(others[i.Name])
			h.List = append(h.List, mapping.HostInterface{Name: i.Name, Others: others[i.Name]})
		}
	}
	return h
}

// hostSeen is what is known of the interfaces, for tables. It is changed under lookMu.
type hostSeen struct {
	since map[string]time.Time             // of those that rules have by a pattern and that are away: since when
	known map[string]mapping.HostInterface // what they were
	told  time.Time                        // when the table was told last

	onDisk []string // those for which an earlier process has left something on disk, once looked is set
	looked bool
}

// noteInterfaces notes what a look at the interfaces has found. Callers hold lookMu.
func (b *Bridge) noteInterfaces(interfaces []multicast.Interface) {
	h := HostInterfaces(interfaces)
	h.MaxAge = b.options.Spool.MaxAge
	if g := b.current(); g != nil && g.table.Several() {
		b.noteAway(g.table, &h)
	}
	now := time.Now()
	due := len(b.seen.since) > 0 && now.Sub(b.seen.told) >= awayEvery
	if was := b.host.Load(); was == nil || due || !maps.Equal(was.Names, h.Names) || !slices.EqualFunc(was.List, h.List, sameInterface) {
		b.seen.told = now
		b.host.Store(&h)
	}
}

func sameInterface(a, b mapping.HostInterface) bool {
	return a.Name == b.Name && (a.Away > 0) == (b.Away > 0) && slices.Equal(a.Others, b.Others)
}

// noteAway adds those that rules of a table have by a pattern, and that are not there any more.
func (b *Bridge) noteAway(table *mapping.Table, h *mapping.HostInterfaces) {
	now := time.Now()
	there := make(map[string]mapping.HostInterface, len(h.List))
	for _, i := range h.List {
		there[i.Name] = i
	}
	since, known := make(map[string]time.Time), make(map[string]mapping.HostInterface)
	for name := range b.patternInterfaces(table) {
		if _, done := known[name]; done {
			continue
		}
		if i, is := there[name]; is {
			known[name] = i
			continue
		}
		i, was := b.seen.known[name]
		if !was {
			i.Name = name
		}
		if since[name] = b.seen.since[name]; since[name].IsZero() {
			since[name] = now
		}
		known[name] = i
		i.Away = max(now.Sub(since[name]), 1)
		h.List = append(h.List, i)
	}
	b.seen.since, b.seen.known = since, known
}

// patternInterfaces are those that rules have by a pattern, and those for which an earlier process
// has left something on disk.
func (b *Bridge) patternInterfaces(table *mapping.Table) iter.Seq[string] {
	if on := b.options.Spool.On; !b.seen.looked && on != nil && on.Err() == nil {
		b.seen.looked = true
		for _, rule := range slices.Concat(b.send.Unused(), b.receive.Unused()) {
			if name := table.PatternInterface(rule); name != "" {
				b.seen.onDisk = append(b.seen.onDisk, name)
			}
		}
	}
	if b.seen.onDisk == nil {
		return table.ByPattern()
	}
	return func(yield func(string) bool) {
		for _, name := range b.seen.onDisk {
			if !yield(name) {
				return
			}
		}
		table.ByPattern()(yield)
	}
}

// onHost is a table for this host, as it was at the last look.
func (b *Bridge) onHost(table *mapping.Table) *mapping.Table {
	if h := b.host.Load(); h != nil {
		return table.On(*h)
	}
	return table.On(mapping.HostInterfaces{})
}

// followHost puts the table to work anew where interfaces have come that patterns match, or have
// been away for too long, and where some have got or lost another name: a cycle may lead through
// it, and its rules need the loop guard.
func (b *Bridge) followHost(ctx context.Context) {
	h := b.host.Load()
	if h == b.hostInForce {
		return
	}
	b.reloadMu.Lock()
	defer b.reloadMu.Unlock()
	is := b.current().table
	if b.running == nil || h == nil {
		return
	}
	now := time.Now()
	table := b.onHost(is)
	if table == is {
		b.hostInForce = h
		return
	}
	if !is.SameInstances(table) {
		if b.instancesDue = now.Sub(b.instancesAt) < instancesPause; b.instancesDue {
			return // to be tried again at the next look, which comes soon
		}
		b.instancesAt = now
		b.logInstances(table, is)
	} else {
		b.log.Debug("interfaces have other names than before; the rules are looked at anew for cycles")
	}
	b.hostInForce = h
	if err := b.replace(ctx, table); err != nil {
		b.hostInForce = nil // to be tried again at the next look
		b.log.Error("cannot have the rules follow the interfaces; they stay as they are", "err", err)
	}
}

// logInstances logs what has come and gone.
func (b *Bridge) logInstances(table, before *mapping.Table) {
	came, gone := table.InstanceChanges(before)
	b.log.Info("rules follow the interfaces of this host", "came", mapping.Listed(came, func(s string) string { return s }),
		"gone", mapping.Listed(gone, func(s string) string { return s }))
	b.logBeyond(table)
}

// logBeyond logs which rules work by fewer interfaces than match.
func (b *Bridge) logBeyond(table *mapping.Table) {
	for _, w := range table.Beyond() {
		b.log.Warn("more interfaces match than a rule may have; the rest gets nothing", "key", w.Path, "err", w.Text)
	}
}
