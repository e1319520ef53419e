package doctor

import "slices"

// A Cause is why nothing arrives, by the name that docs/doctor.md has.
type Cause string

// The causes.
const (
	Clock           Cause = "clock"
	NotRunning      Cause = "not_running"
	BrokerAway      Cause = "broker_away"
	BrokerACL       Cause = "broker_acl"
	RetainedPolicy  Cause = "retained_policy"
	Condition       Cause = "when"
	LoopGuard       Cause = "loop_guard"
	Breaker         Cause = "breaker"
	Filtered        Cause = "filtered"
	NoRule          Cause = "no_rule"
	NoInterface     Cause = "no_interface"
	WrongSource     Cause = "wrong_source"
	SourceElsewhere Cause = "source_elsewhere"
	InterfaceDown   Cause = "interface_down"
	NoCarrier       Cause = "no_carrier"
	BridgePort      Cause = "bridge_port"
	VRF             Cause = "vrf"
	NoMulticastFlag Cause = "no_multicast_flag"
	NoRoute         Cause = "no_route"
	GatewayRoute    Cause = "gateway_route"
	HostDown        Cause = "host_down"
	HostRefuses     Cause = "host_refuses"
	TTL             Cause = "ttl"
	MTU             Cause = "mtu"
	NAT             Cause = "nat"
	EgressFirewall  Cause = "egress_firewall"
	EgressQueue     Cause = "egress_queue"
	MaxRate         Cause = "max_rate"
	Snooping        Cause = "snooping_without_querier"
	NobodyJoined    Cause = "nobody_joined"
	IGMPVersion     Cause = "igmp_version"
	Memberships     Cause = "igmp_max_memberships"
	IGMPFiltered    Cause = "igmp_filtered"
	WrongTarget     Cause = "wrong_group_or_port"
	Unicast         Cause = "unicast_instead"
	RPFilter        Cause = "rp_filter"
	IngressFirewall Cause = "ingress_firewall"
	OwnAddress      Cause = "own_address"
	PortTaken       Cause = "port_taken"
	SocketBuffer    Cause = "socket_buffer"
	SourceFiltered  Cause = "source_filtered"
	QueueFull       Cause = "queue_full"
	SpoolFull       Cause = "spool_full"
	Dropped         Cause = "dropped"
	Pending         Cause = "pending"
	Degraded        Cause = "degraded"
)

// sendPath and receivePath are the causes in the order in which a message, and a datagram, meets
// them. What is first explains what is seen further on.
var (
	sendPath = []Cause{Clock, NotRunning, BrokerAway, BrokerACL, NoRule, RetainedPolicy, Condition, LoopGuard, Filtered, QueueFull, SpoolFull,
		NoInterface, InterfaceDown, NoCarrier, WrongSource, SourceElsewhere, VRF, NoMulticastFlag, NoRoute, GatewayRoute, TTL, MTU,
		NAT, EgressFirewall, EgressQueue, IngressFirewall, HostDown, HostRefuses, Dropped, Pending, Degraded, Snooping, NobodyJoined}
	receivePath = []Cause{NoInterface, InterfaceDown, NoCarrier, BridgePort, VRF, NoMulticastFlag, Snooping, Memberships, IGMPVersion,
		IGMPFiltered, NoRule, WrongTarget, Unicast, MTU, OwnAddress, RPFilter, IngressFirewall, PortTaken, SocketBuffer, Clock, NotRunning, SourceFiltered, Condition,
		LoopGuard, Breaker, Filtered, MaxRate, QueueFull, SpoolFull, BrokerACL, BrokerAway, Dropped, Pending, Degraded}
)

// explains are the causes that say no more once the one before them is known of the same rule.
var explains = map[Cause][]Cause{
	NoInterface:     {HostDown, HostRefuses, NoCarrier, InterfaceDown, WrongSource, SourceElsewhere, NoRoute, Memberships, PortTaken, Pending, Dropped},
	InterfaceDown:   {HostDown, HostRefuses, NoCarrier, NoMulticastFlag, WrongSource, SourceElsewhere, NoRoute, GatewayRoute, RPFilter, NAT, EgressFirewall, EgressQueue, IngressFirewall, IGMPFiltered, QueueFull, Snooping, NobodyJoined, Pending, Dropped},
	NoCarrier:       {HostDown, HostRefuses, NoRoute, EgressFirewall, EgressQueue, IngressFirewall, IGMPFiltered, QueueFull, Snooping, NobodyJoined, Pending, Dropped},
	BridgePort:      {IngressFirewall, RPFilter, IGMPFiltered, WrongTarget, Pending, Dropped},
	VRF:             {NoRoute, RPFilter, IngressFirewall, Pending, Dropped},
	WrongSource:     {HostDown, HostRefuses, SourceElsewhere, NAT, QueueFull, Pending, Dropped},
	SourceElsewhere: {HostDown, HostRefuses, NoRoute, NAT, QueueFull, Pending, Dropped},
	HostDown:        {Pending},
	HostRefuses:     {Pending},
	NoRoute:         {HostDown, HostRefuses, Pending, Dropped, TTL},
	GatewayRoute:    {EgressQueue, Pending, Dropped, QueueFull},
	EgressFirewall:  {EgressQueue, Pending, Dropped, QueueFull},
	IngressFirewall: {IGMPFiltered},
	OwnAddress:      {RPFilter, IGMPFiltered},
	Memberships:     {Pending, Dropped},
	PortTaken:       {Pending, Dropped},
	BrokerACL:       {Pending, Dropped},
	BrokerAway:      {BrokerACL, Pending, QueueFull, Dropped},
	SpoolFull:       {QueueFull, Dropped, Pending},
	Clock:           {BrokerAway, Pending, Dropped},
	MTU:             {Dropped},
	MaxRate:         {QueueFull},
	NAT:             {Pending, Dropped, QueueFull},
	SourceFiltered:  {Filtered},
	Breaker:         {LoopGuard, Pending, Dropped},
}

// silencing are the causes for which nothing is heard: the silence that the bridge tells of says no more.
var silencing = []Cause{NoMulticastFlag, Snooping, Memberships, IGMPVersion, IGMPFiltered, WrongTarget, Unicast, MTU, OwnAddress, RPFilter,
	IngressFirewall, PortTaken, SourceFiltered}

// Causes are all there are, for the test that holds docs/doctor.md to them.
func Causes() []Cause {
	all := slices.Concat(sendPath, receivePath)
	slices.Sort(all)
	return slices.Compact(all)
}

// A Finding is a cause, and what shows it.
type Finding struct {
	Cause    Cause    `json:"cause"`
	Of       []string `json:"of"`       // the rules, or the group, that it is a cause for
	Text     string   `json:"text"`     // what is wrong
	Evidence []string `json:"evidence"` // what was seen
	Fix      string   `json:"fix"`      // the command that mends it, or what to do
	send     bool
	past     bool // it was not seen to happen within the window, so that it explains nothing
	silence  bool // the bridge says that nothing is heard
	whole    bool // the bridge says it of more than this rule
	by       bool // and that it comes by this rule: any other cause of the rule stands for it
}

// arrange leaves out what others explain, and puts the rest into the order of the path.
func arrange(list []Finding) []Finding {
	type rule struct {
		of   string
		send bool
	}
	explained := make(map[rule]map[Cause]bool)
	silenced, named := make(map[rule]bool), make(map[rule]bool)
	for _, f := range list {
		if f.past || f.whole {
			continue
		}
		for _, of := range f.Of {
			r := rule{of, f.send}
			named[r] = true
			silenced[r] = silenced[r] || slices.Contains(silencing, f.Cause)
			if explained[r] == nil {
				explained[r] = make(map[Cause]bool)
			}
			for _, c := range explains[f.Cause] {
				explained[r][c] = true
				if c == Pending { // both are what the bridge says of the rule
					explained[r][Degraded] = true
				}
			}
		}
	}
	list = slices.DeleteFunc(slices.Clone(list), func(f Finding) bool {
		return slices.ContainsFunc(f.Of, func(of string) bool {
			r := rule{of, f.send}
			if f.whole { // what one rule lacks explains nothing of all
				return f.by && named[r]
			}
			return explained[r][f.Cause] || f.silence && silenced[r]
		})
	})
	place := func(f Finding) int {
		if f.send {
			return slices.Index(sendPath, f.Cause)
		}
		return slices.Index(receivePath, f.Cause)
	}
	slices.SortStableFunc(list, func(a, b Finding) int {
		if a.send != b.send {
			if a.send {
				return -1
			}
			return 1
		}
		return place(a) - place(b)
	})
	return merge(list)
}

// merge says once what is the same for several rules.
func merge(list []Finding) (merged []Finding) {
	for _, f := range list {
		// Of a rule with many groups the first speaks for them all.
		i := slices.IndexFunc(merged, func(m Finding) bool {
			return m.Cause == f.Cause && (m.Text == f.Text && (m.Fix == f.Fix || m.whole && f.whole) || m.send == f.send && slices.Equal(m.Of, f.Of))
		})
		if i < 0 {
			merged = append(merged, f)
			continue
		}
		m := &merged[i]
		for _, of := range f.Of {
			if !slices.Contains(m.Of, of) {
				m.Of = append(m.Of, of)
			}
		}
	}
	return merged
}
