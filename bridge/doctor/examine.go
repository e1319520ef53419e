package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// A Report is what Examine has found.
type Report struct {
	Findings []Finding `json:"findings"`
	Healthy  []string  `json:"healthy"` // what was looked at, and found in order
	Seen     []string  `json:"seen"`    // what came and left meanwhile
	Unseen   []string  `json:"unseen"`  // what cannot be known, or not by this user
}

// check is one thing that is looked at. It reports whether there was anything to look at.
type check struct {
	name string
	look func(*Subject, *Snapshot) (found []Finding, looked bool)
}

// checks are all there are, in the order of the line of what is healthy.
var checks = []check{
	{"interface", checkInterface},
	{"carrier", checkCarrier},
	{"flags of the interface", checkFlag},
	{"source", checkSource},
	{"routes", checkRoutes},
	{"ttl", checkTTL},
	{"queue of the interface", checkQueue},
	{"NAT", checkNAT},
	{"firewall", checkFirewall},
	{"answers through the firewall", checkAnswers},
	{"IGMP through the firewall", checkIGMP},
	{"IGMP version", checkVersion},
	{"limits of memberships", checkMemberships},
	{"bridge", checkBridge},
	{"members of the group", checkMembers},
	{"addresses of senders", checkForged},
	{"reverse path filter", checkReversePath},
	{"port", checkPort},
	{"receive buffer", checkBuffer},
	{"fragments", checkFragments},
	{"wire", checkWire},
	{"senders", checkSenders},
	{"running bridge", checkRunning},
	{"hosts", checkHosts},
	{"broker", checkBroker},
	{"broker.max_rate", checkMaxRate},
	{"target of the topic", checkTopic},
	{"what the bridge filters", checkFiltered},
	{"what the bridge drops", checkDropped},
	{"state of the rule", checkState},
	{"clock", checkClock},
}

// Examine holds the subjects against every check.
func Examine(h *Snapshot, subjects []*Subject) Report {
	r := Report{Findings: []Finding{}, Healthy: []string{}, Seen: []string{}, Unseen: []string{}}
	var all []Finding
	subjects = slices.Concat(subjects, h.Found)
	sick, looked := make(map[string]bool), make(map[string]bool)
	for _, s := range subjects {
		for _, c := range checks {
			found, is := c.look(s, h)
			all = append(all, found...)
			sick[c.name] = sick[c.name] || len(found) > 0
			looked[c.name] = looked[c.name] || is
		}
		add(&r.Seen, seen(s, h)...)
	}
	r.Findings = append(r.Findings, arrange(all)...)
	for _, c := range checks {
		if looked[c.name] && !sick[c.name] {
			r.Healthy = append(r.Healthy, c.name)
		}
	}
	add(&r.Unseen, unseen(h, subjects)...)
	return r
}

func add(to *[]string, texts ...string) {
	for _, t := range texts {
		if t != "" && !slices.Contains(*to, t) {
			*to = append(*to, t)
		}
	}
}

func (s *Subject) finding(c Cause, fix, text string, evidence ...string) Finding {
	evidence = slices.DeleteFunc(append([]string{}, evidence...), func(e string) bool { return e == "" })
	return Finding{Cause: c, Of: []string{s.Of}, Text: text, Evidence: evidence, Fix: s.concrete(fix), send: s.Send}
}

// concrete puts a group of a rule that receives in the place of the word for one, so that the command can be
// pasted.
func (s *Subject) concrete(fix string) string {
	if s.Send || !s.group() {
		return fix
	}
	return strings.NewReplacer("TOPIC|GROUP:PORT", s.To.String(), "GROUP:PORT", s.To.String()).Replace(fix)
}

func one(f Finding) []Finding { return []Finding{f} }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
