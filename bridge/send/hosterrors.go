package send

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"topicast/bridge/multicast"
)

// ICMP errors about datagrams to hosts. They are shown, and change nothing: anybody can forge one, and
// a device that refuses now takes the next datagram.

const (
	// maxHostErrors is of how many targets of a rule the ICMP errors are remembered.
	maxHostErrors = 256
	// hostErrorFor is for how long after an ICMP error a rule with one host is degraded.
	hostErrorFor = time.Minute
	// hostErrorPause is the time between two lines of the log about ICMP errors of a rule.
	hostErrorPause = time.Hour
)

// HostError is what was said, by ICMP, of datagrams to a host.
type HostError struct {
	Host  string    `json:"host"` // with the port
	Error string    `json:"error"`
	From  string    `json:"from,omitempty"`
	Count uint64    `json:"count"`
	Last  time.Time `json:"last"`
}

// hostErrors are those of a rule.
type hostErrors struct {
	mu     sync.Mutex
	by     map[netip.AddrPort]*HostError
	count  uint64
	logged time.Time
}

// add notes an error, and reports whether it is to be logged: the first, and one in an hour.
func (h *hostErrors) add(e *multicast.HostError, now time.Time) (logs bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	t := h.by[e.To]
	if t == nil {
		if h.by == nil {
			h.by = make(map[netip.AddrPort]*HostError)
		}
		if len(h.by) >= maxHostErrors {
			h.forgetOldest()
		}
		t = &HostError{Host: e.To.String()}
		h.by[e.To] = t
	}
	t.Count++
	t.Error, t.From, t.Last = e.Text, "", now
	if e.From.IsValid() {
		t.From = e.From.String()
	}
	if logs = h.logged.IsZero() || now.Sub(h.logged) >= hostErrorPause; logs {
		h.logged = now
	}
	return logs
}

// forgetOldest makes room. Callers hold the lock.
func (h *hostErrors) forgetOldest() {
	var oldest netip.AddrPort
	for to, t := range h.by {
		if o := h.by[oldest]; o == nil || t.Last.Before(o.Last) {
			oldest = to
		}
	}
	delete(h.by, oldest)
}

// forget forgets what was said of a host.
func (h *hostErrors) forget(host netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.by, func(to netip.AddrPort, _ *HostError) bool { return to.Addr() == host })
}

// clear forgets which hosts there were errors about, and not how many.
func (h *hostErrors) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by = nil
}

// list are those that came last.
func (h *hostErrors) list() (all []HostError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.by {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b HostError) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Host, b.Host)) })
	return all[:min(len(all), maxHostsShown)]
}

// latest words the last error, if it came lately; "": there is none.
func (h *hostErrors) latest(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last *HostError
	for _, t := range h.by {
		if last == nil || t.Last.After(last.Last) {
			last = t
		}
	}
	if last == nil || now.Sub(last.Last) >= hostErrorFor {
		return ""
	}
	return fmt.Sprintf("%s does not take what is sent to it: %s says %s (ICMP)", last.Host, cmp.Or(last.From, "somebody"), last.Error)
}

// HostErrors is how many ICMP errors have come about datagrams of the rule.
func (r *Rule) HostErrors() uint64 {
	r.errors.mu.Lock()
	defer r.errors.mu.Unlock()
	return r.errors.count
}

// noteHostErrors asks the socket for ICMP errors, and charges each to the rules that send to the
// host. What is said of others is not ours, and not believed. Callers hold mu, and there is a socket.
func (b *binding) noteHostErrors(now time.Time) {
	all := b.socket.HostErrors()
	if len(all) == 0 {
		return
	}
	for _, r := range b.path.working.Load().Rules {
		if r.binding != b {
			continue
		}
		for i := range all {
			e := &all[i]
			if h := r.hosts[e.To.Addr()]; h == nil || !h.sentTo(e.To.Port()) {
				continue
			}
			if e.From == b.source.Addr && e.From != e.To.Addr() {
				continue // the kernel's own word that the link-layer address is not known (hosts.go)
			}
			if !r.errors.add(e, now) {
				continue
			}
			b.log.Warn("a host does not take what is sent to it; this is shown, and changes nothing. Is the port right, and does its program run? Further ones are counted, and logged once an hour",
				"rule", r.Name, "host", e.To, "says", e.Text, "from", e.From, "interface", b.source.Interface)
		}
	}
}
