package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"topicast/bridge/multicast"
	"topicast/mapping"
)

// listener is where a receive rule listens on this host, or why it hears nothing.
type listener struct {
	on  multicast.Interface // no index: there is none
	err error
}

func (h *host) listener(r mapping.ReceiveRule) (e listener) {
	if h.unseen {
		return listener{err: errUnseen}
	}
	if e.on, e.err = multicast.ResolveInterface(r.Interface, h.interfaces); e.err != nil {
		return listener{err: e.err}
	}
	e.err = e.on.CanReceive()
	return e
}

// pending reports whether the listener may open by itself. An address that two
// interfaces have may leave one of them too, but before a start it is a mistake.
func (e listener) pending() bool {
	return errors.Is(e.err, multicast.ErrPending) && !errors.Is(e.err, multicast.ErrAmbiguous)
}

// examineReceive compares receive rules with this host. An interface that many
// rules share is reported with the first of them.
func (h *host) examineReceive(rules []mapping.ReceiveRule) (faults, warnings []finding) {
	share := make(map[string]int)
	for _, r := range rules {
		share[r.Interface]++
	}
	for i, r := range rules {
		rulesThere := share[r.Interface]
		delete(share, r.Interface)
		e := h.listener(r)
		if rulesThere == 0 || e.err == nil || mapping.SeveralInterfaces(r.Interface) {
			continue
		}
		f := finding{path: h.receiveAt(i) + ".interface", err: e.err}
		if others := rulesThere - 1; others > 0 {
			f.err = fmt.Errorf("%w (and so for %s more)", e.err, count(others, "rule"))
		}
		if e.pending() {
			h.wait(&f, r.Interface)
			warnings = append(warnings, f)
		} else {
			f.hint = "topicast interfaces lists what there is"
			faults = append(faults, f)
		}
	}
	return append(faults, h.examineHostPorts(rules)...), warnings
}

// hostPort is a port of this host by one interface.
type hostPort struct {
	index int
	port  uint16
}

// examineHostPorts finds rules for what comes to this host itself that cannot have their
// socket: on this system, or because an interface has two names.
func (h *host) examineHostPorts(rules []mapping.ReceiveRule) (faults []finding) {
	first := make(map[hostPort]int)
	for i, r := range rules {
		e := h.listener(r)
		if r.Port == 0 || e.on.Index == 0 {
			continue
		}
		if err := multicast.CanHearHost(); err != nil {
			faults = append(faults, finding{path: h.receiveAt(i) + ".port", err: err})
			continue
		}
		at := hostPort{e.on.Index, r.Port}
		n, known := first[at]
		if !known {
			first[at] = i
		} else if other := rules[n].Interface; other != r.Interface {
			faults = append(faults, finding{path: h.receiveAt(i) + ".interface", hint: "write interface: " + other, err: fmt.Errorf(
				"%s is the interface that %s calls %s, and of two sockets for one port of it the first is used alone", r.Interface, h.receiveAt(n), other)})
		}
	}
	return faults
}

// examineSharers notes which other programs have a port that rules hear this host by.
func (h *host) examineSharers(rules []mapping.ReceiveRule) (notes []finding) {
	asked := make(map[hostPort]bool)
	for i, r := range rules {
		e := h.listener(r)
		at := hostPort{e.on.Index, r.Port}
		if r.Port == 0 || e.on.Index == 0 || asked[at] {
			continue
		}
		asked[at] = true
		for _, text := range h.sharers(r.Port, e.on) {
			if strings.HasPrefix(text, "topicast (") { // that runs with these rules already
				continue
			}
			notes = append(notes, finding{path: h.receiveAt(i) + ".port", err: errors.New(text)})
		}
	}
	return notes
}

// examineLimits warns of what the system would deny all these rules together.
func (h *host) examineLimits(t *mapping.Table) (warnings []finding) {
	receiving := sockets(t.Receive())
	if short := multicast.DescriptorShortage(bindings(t.Send())+receiving, h.limits.descriptors); short != "" {
		f := finding{path: "send", err: errors.New(short)}
		if receiving > 0 {
			f.path = "receive"
		}
		warnings = append(warnings, f)
	}
	return warnings
}

// examineBuffers notes that bursts may be lost, as on most systems unless somebody has
// set them up for more.
func (h *host) examineBuffers(t *mapping.Table) (notes []finding) {
	if len(t.Receive()) == 0 {
		return nil
	}
	if granted := h.limits.receiveBuffer; granted > 0 && granted < multicast.ReceiveBuffer {
		notes = append(notes, finding{path: "receive", hint: fmt.Sprintf("sysctl -w net.core.rmem_max=%d", multicast.ReceiveBuffer), err: fmt.Errorf(
			"a receive buffer gets %d bytes here, not %d, and what comes in faster bursts is lost (reason receive_buffer)",
			granted, multicast.ReceiveBuffer)})
	}
	return notes
}

// sockets is how many sockets receive rules need: one for each distinct join.
func sockets(rules []mapping.ReceiveRule) int {
	distinct := make(map[mapping.Join]bool)
	for i := range rules {
		for j := range rules[i].Joins() {
			distinct[j] = true
		}
	}
	return len(distinct)
}

// sourceList is "192.0.2.77, 198.51.100.0/24", or "-" for anybody.
func sourceList(sources []netip.Prefix) string {
	if len(sources) == 0 {
		return "-"
	}
	return mapping.Listed(sources, mapping.PrefixText)
}
