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

// check is one thing that is looked at. It reports whether there was anything to look at. blind, where there is one,
// reports that it cannot tell of this subject: then it is not said to be in order, whatever it is of others.
type check struct {
	name  string
	look  func(*Subject, *Snapshot) (found []Finding, looked bool)
	blind func(*Subject, *Snapshot) bool
}

// checks are all there are, in the order of the line of what is healthy.
var checks = []check{
	{"interface", checkInterface, nil},
	{"carrier", checkCarrier, nil},
	{"flags of the interface", checkFlag, nil},
	{"source", checkSource, nil},
	{"routes", checkRoutes, nil},
	{"ttl", checkTTL, nil},
	{"queue of the interface", checkQueue, dark},
	{"NAT", checkNAT, nil},
	{"firewall", checkFirewall, unreadFirewall},
	{"answers through the firewall", checkAnswers, unread},
	{"IGMP through the firewall", checkIGMP, unread},
	{"IGMP version", checkVersion, nil},
	{"limits of memberships", checkMemberships, nil},
	{"bridge", checkBridge, nil},
	{"members of the group", checkMembers, unknownMembers},
	{"addresses of senders", checkForged, dark},
	{"reverse path filter", checkReversePath, dark},
	{"port", checkPort, dark},
	{"receive buffer", checkBuffer, dark},
	{"fragments", checkFragments, dark},
	{"wire", checkWire, dark},
	{"senders", checkSenders, dark},
	{"running bridge", checkRunning, nil},
	{"hosts", checkHosts, dark},
	{"broker", checkBroker, nil},
	{"broker.max_rate", checkMaxRate, nil},
	{"target of the topic", checkTopic, nil},
	{"what the bridge filters", checkFiltered, nil},
	{"what the bridge drops", checkDropped, nil},
	{"state of the rule", checkState, nil},
	{"clock", checkClock, nil},
}

// dark reports that nothing comes or leaves by the interface of a subject.
func dark(s *Subject, _ *Snapshot) bool { return s.On.Index == 0 || s.On.Usable() != nil }

// unread reports that there is a firewall that cannot be read, or may be.
func unread(_ *Subject, h *Snapshot) bool { return h.Rules == nil || h.Legacy }

// about are the checks that a cause is about, beside the one that has found it.
var about = map[Cause][]string{
	NoInterface: {"interface"}, InterfaceDown: {"carrier"}, NoCarrier: {"carrier"}, BridgePort: {"interface"}, VRF: {"interface"},
	NoMulticastFlag: {"flags of the interface"},
	WrongSource:     {"source"}, SourceElsewhere: {"source"},
	NoRoute: {"routes"}, GatewayRoute: {"routes"}, TTL: {"ttl"}, NAT: {"NAT"}, EgressQueue: {"queue of the interface"},
	EgressFirewall: {"firewall"}, IngressFirewall: {"firewall"}, IGMPFiltered: {"firewall", "IGMP through the firewall"},
	IGMPVersion: {"IGMP version"}, Memberships: {"limits of memberships"}, Snooping: {"bridge"}, NobodyJoined: {"members of the group"},
	OwnAddress: {"addresses of senders"}, RPFilter: {"reverse path filter"}, PortTaken: {"port"},
	SocketBuffer: {"receive buffer", "what the bridge drops"}, MTU: {"fragments", "what the bridge drops"},
	WrongTarget: {"wire"}, Unicast: {"wire"}, SourceFiltered: {"senders"},
	NotRunning: {"running bridge"}, HostDown: {"hosts"}, HostRefuses: {"hosts"},
	BrokerAway: {"broker"}, BrokerACL: {"broker", "state of the rule", "what the bridge drops"}, MaxRate: {"broker.max_rate"}, Clock: {"clock"},
	RetainedPolicy: {"what the bridge filters"}, Condition: {"what the bridge filters"}, LoopGuard: {"what the bridge filters"}, Filtered: {"what the bridge filters"},
	Breaker: {"what the bridge drops"}, QueueFull: {"what the bridge drops"}, SpoolFull: {"what the bridge drops"}, Dropped: {"what the bridge drops"},
	Pending: {"state of the rule"}, Degraded: {"state of the rule"},
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
			looked[c.name] = looked[c.name] || is
			sick[c.name] = sick[c.name] || len(found) > 0 || c.blind != nil && c.blind(s, h)
			for _, f := range found {
				if f.whole {
					continue
				}
				for _, name := range about[f.Cause] {
					sick[name] = true
				}
			}
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
