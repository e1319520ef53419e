package send

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxHostsShown is how many of a rule's hosts that are down are shown by name.
const maxHostsShown = 16

// hostsDown are those of a rule that do not answer, for those who look without the binding's mu.
type hostsDown struct {
	mu    sync.Mutex
	since map[netip.Addr]time.Time
}

// HostDown is a host that does not answer.
type HostDown struct {
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

func (d *hostsDown) add(a netip.Addr, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since == nil {
		d.since = make(map[netip.Addr]time.Time)
	}
	d.since[a] = since
}

func (d *hostsDown) remove(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.since, a)
}

func (d *hostsDown) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.since)
}

// list are those that are down the longest.
func (d *hostsDown) list() (all []HostDown) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for a, since := range d.since {
		all = append(all, HostDown{a.String(), since})
	}
	slices.SortFunc(all, func(a, b HostDown) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Host, b.Host)) })
	return all[:min(len(all), maxHostsShown)]
}

// HostsDown is how many of the rule's hosts do not answer.
func (r *Rule) HostsDown() int { return r.down.count() }
