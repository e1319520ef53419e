package doctor

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// The check of what the running bridge knows of the hosts of a rule.

// checkHosts names hosts that do not answer on their link, and those of which ICMP says that they
// do not take what is sent to them.
func checkHosts(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	before, after := h.Daemon.sendStatus(s.Name)
	if !s.Send || after == nil || after.Host == "" {
		return nil, false
	}
	asked := func(host string) bool { // "" is any
		if !s.Exact || !s.To.IsValid() {
			return true
		}
		return host == s.To.Addr().String() || host == s.To.String()
	}
	var down []string
	for _, d := range after.HostsDown {
		if asked(d.Host) {
			down = append(down, fmt.Sprintf("%s, since %s", d.Host, d.Since.Format(time.DateTime)))
		}
	}
	if len(down) > 0 {
		first, _, _ := strings.Cut(down[0], ",")
		found = append(found, s.silent(first, down[:min(len(down), mostAnswers)], max(len(down), after.Down)))
	}
	var refused []string
	var refuses string // the first
	for _, e := range after.HostErrors {
		was := uint64(0)
		if before != nil {
			for _, b := range before.HostErrors {
				if b.Host == e.Host {
					was = b.Count
				}
			}
		}
		// Of what left since then nothing was said: it is taken again. Routers and hosts say so
		// rarely, at most once a second (RFC 1812, 4.3.2.8).
		mended := e.Count == was && after.LastSent.Sub(e.Last) > 2*time.Second
		if !asked(e.Host) || mended || !h.lately(e.Last) {
			continue
		}
		refuses = cmp.Or(refuses, e.Host)
		refused = append(refused, fmt.Sprintf("%s says of %s: %s (ICMP), %d times, the last at %s", cmp.Or(e.From, "somebody"), e.Host, e.Error, e.Count, e.Last.Format(time.TimeOnly)))
	}
	if len(refused) > 0 {
		found = append(found, s.finding(HostRefuses, "have the program on the host listen there, look at the firewall of whoever says so, or write another host or port",
			refuses+" does not take what is sent to it", refused[:min(len(refused), mostAnswers)]...))
	}
	return found, true
}

// silent is the cause that hosts do not answer on their link.
func (s *Subject) silent(host string, evidence []string, n int) Finding {
	text := fmt.Sprintf("%s does not answer on its link: the kernel asks by %s for its hardware address, or that of the gateway before it, and nobody answers", host, nameOf(s))
	if n > 1 {
		text += fmt.Sprintf("; of the rule's hosts %d do not", n)
	}
	return s.finding(HostDown, fmt.Sprintf("look whether it is switched on, has this address and is in this VLAN: ip neigh show %s; topicast sends again once it answers", host), text, evidence...)
}

// untold is what cannot be known of hosts.
func (s *Subject) untold() string {
	what := "the hosts of " + s.Of + " take"
	if s.Exact && s.To.IsValid() {
		what = s.To.String() + " takes"
	}
	return fmt.Sprintf("whether %s what is sent: UDP says nothing back, and a neighbour that is set by hand (ip neigh show dev %s nud permanent), or an interface without ARP, is taken at its word", what, nameOf(s))
}
