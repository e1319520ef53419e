package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// ear is where a receive rule listens on this host, or why it hears nothing.
type ear struct {
	on  multicast.Interface // no index: there is none
	err error
}

func (h *host) ear(r mapping.ReceiveRule) (e ear) {
	if e.on, e.err = multicast.ResolveInterface(r.Interface, h.interfaces); e.err != nil {
		return ear{err: e.err}
	}
	switch {
	case !e.on.Up:
		e.err = fmt.Errorf("interface %s is down", e.on.Name)
	case !e.on.Carrier:
		e.err = fmt.Errorf("interface %s has no carrier", e.on.Name)
	}
	return e
}

// pending tells whether the ear may open by itself. An address that two
// interfaces have may leave one of them too, but before a start it is a mistake.
func (e ear) pending() bool { return e.err != nil && !errors.Is(e.err, multicast.ErrAmbiguous) }

// examineReceive holds receive rules against this host. An interface that many
// rules share is reported with the first of them.
func (h *host) examineReceive(rules []mapping.ReceiveRule) (faults, warnings []finding) {
	share := make(map[string]int)
	for _, r := range rules {
		share[r.Interface]++
	}
	for i, r := range rules {
		rulesThere := share[r.Interface]
		delete(share, r.Interface)
		e := h.ear(r)
		if rulesThere == 0 || e.err == nil {
			continue
		}
		f := finding{path: fmt.Sprintf("receive[%d].interface", i), err: e.err}
		if others := rulesThere - 1; others > 0 {
			f.err = fmt.Errorf("%w (and so for %s more)", e.err, count(others, "rule"))
		}
		if e.pending() {
			f.err = fmt.Errorf("%w; pending until that changes", f.err)
			warnings = append(warnings, f)
		} else {
			f.hint = "topicast interfaces lists what there is"
			faults = append(faults, f)
		}
	}
	return faults, warnings
}

// examineLimits warns of what the system would deny all these rules together.
func (h *host) examineLimits(t *mapping.Table) (warnings []finding) {
	ears := sockets(t.Receive())
	if ears == 0 {
		return nil
	}
	const others = 64 // files: the log, the broker, who looks at the status page
	if need := ears + bindings(t.Send()) + others; h.limits.files > 0 && uint64(need) > h.limits.files {
		warnings = append(warnings, finding{path: "receive", err: fmt.Errorf(
			"%s need a socket each, and a process of this session may have %d files open: raise that to %d at least "+
				"(ulimit -n; LimitNOFILE= of systemd; --ulimit nofile= of docker)", count(ears, "group"), h.limits.files, need)})
	}
	if granted := h.limits.receiveBuffer; granted > 0 && granted < multicast.ReceiveBuffer {
		warnings = append(warnings, finding{path: "receive", err: fmt.Errorf(
			"a receive buffer gets %d bytes here, not %d, and what comes in faster bursts is lost (reason receive_buffer): "+
				"sysctl -w net.core.rmem_max=%[2]d", granted, multicast.ReceiveBuffer)})
	}
	return warnings
}

// sockets is how many sockets receive rules need: one for each group that they
// join on an interface, from anybody or from the same single addresses.
func sockets(rules []mapping.ReceiveRule) int {
	type join struct {
		group       netip.AddrPort
		on, sources string
	}
	distinct := make(map[join]bool)
	for _, r := range rules {
		sources := ""
		if joinsSources(r) {
			sources = fmt.Sprint(slices.Compact(slices.SortedFunc(slices.Values(r.Sources), netip.Prefix.Compare)))
		}
		for _, groups := range r.Groups {
			for g := range groups.All() {
				distinct[join{g, r.Interface, sources}] = true
			}
		}
	}
	return len(distinct)
}

// joinsSources tells whether a rule asks the network for its sources alone: that
// takes single addresses.
func joinsSources(r mapping.ReceiveRule) bool {
	return len(r.Sources) > 0 && !slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return !p.IsSingleIP() })
}

// sourceList is "192.0.2.77, 198.51.100.0/24", or "-" for anybody.
func sourceList(sources []netip.Prefix) string {
	if len(sources) == 0 {
		return "-"
	}
	return listed(sources, sourceText)
}

// groupList is also the name that mapping gives a rule without one.
func groupList(groups []mapping.GroupRange) string { return listed(groups, mapping.GroupRange.String) }

// listed keeps a line readable where a rule has a long list.
func listed[T any](list []T, text func(T) string) string {
	const most = 3
	var words []string
	for _, t := range list[:min(len(list), most)] {
		words = append(words, text(t))
	}
	if more := len(list) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}
