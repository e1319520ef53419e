package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/doctor"
)

// masquerades has the source of what leaves by an interface changed.
func (a *ailing) masquerades(on string) {
	a.t.Helper()
	a.run(a.GW, "ip addr add 172.17.0.9/16 dev "+on)
	a.nft(a.GW, "ip", "nat", "postrouting", "", "oifname "+on+" meta l4proto udp snat to 172.17.0.9")
}

// dropsOut and dropsIn are firewalls, in a table of their own.
func (a *ailing) dropsOut(what string) {
	a.t.Helper()
	a.run(a.GW, "nft add table inet out && nft 'add chain inet out o { type filter hook output priority 0; }' && nft add rule inet out o "+what+" drop")
}

func (a *ailing) dropsIn(what string) {
	a.t.Helper()
	a.run(a.GW, "nft add table inet in && nft 'add chain inet in i { type filter hook input priority 0; }' && nft add rule inet in i "+what+" drop")
}

// strangerSays is a device whose address this host would answer by another interface, where reverse
// path filtering is strict.
func (a *ailing) strangerSays(to string) {
	a.t.Helper()
	a.GW.Sysctl("net.ipv4.conf.iso0.rp_filter", "1")
	a.Dev.Addr("eth0", "10.9.9.9/32")
	a.devSays(to, netip.MustParseAddr("10.9.9.9"))
}

func (a *ailing) oversized() {
	a.t.Helper()
	a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.0.1, interface: iso0, oversize: drop"), "")
	a.starts()
	a.publish(a.client("backend"), "lamp/set", make([]byte, 2000))
	a.dropped("lamps", "oversize")
}

// several are causes of which there are two or three at once: doctor names all, in the order of the
// path, but for those that another one hides.
var several = []ailment{
	{"a masquerade rule and a condition", causes(doctor.Condition, doctor.NAT), func(a *ailing) {
		a.masquerades("iso0")
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.0.1, interface: iso0, when: size > 100"), "")
		a.starts()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.filteredBy("lamps", "when")
	}},
	{"no reports and another port", causes(doctor.IGMPFiltered, doctor.WrongTarget), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "output", "", "ip protocol igmp drop")
		a.devSays("239.11.3.7:30099")
		a.startsFor("meters")
	}},
	{"an interface that is down and no broker", causes(doctor.BrokerAway, doctor.InterfaceDown), func(a *ailing) {
		a.bridge = a.startBridge()
		a.GW.Down("iso0")
		a.args = []string{"--rule", "lamps"}
	}},
	{"a firewall hides a silence", causes(doctor.IngressFirewall), func(a *ailing) {
		a.dropsIn("udp dport 30001")
		a.rules("", metersWith("expect: 1s"))
		a.starts()
		a.eventually("it is silent", func() error {
			if r := a.receiveRule("meters"); r.State != account.StateDegraded {
				return fmt.Errorf("%s: %s", r.State, r.Reason)
			}
			return nil
		})
	}},
	{"a firewall each way", causes(doctor.EgressFirewall, doctor.IngressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "input", "", "udp dport 30001 drop")
		a.run(a.GW, "nft 'add chain inet t o { type filter hook output priority 0; }' && nft add rule inet t o udp dport 30000 reject")
		a.starts()
	}},
	{"a ttl that ends at the gateway and a firewall", causes(doctor.TTL, doctor.EgressFirewall), func(a *ailing) {
		a.GW.Route("192.0.2.0/24", "172.17.0.50")
		a.dropsOut("udp dport 5683")
		a.rules(lampsWith("host: '192.0.2.77:5683', interface: iso0, ttl: 1"), "")
		a.starts()
	}},
	{"reverse path filtering and a firewall", causes(doctor.RPFilter, doctor.IngressFirewall), func(a *ailing) {
		a.strangerSays("239.11.3.7:30001")
		a.dropsIn("udp dport 30001")
		a.startsFor("meters")
	}},
	{"reverse path filtering and a firewall that is not understood", causes(doctor.RPFilter), func(a *ailing) {
		a.strangerSays("239.11.3.7:30001")
		a.dropsIn("udp length 13")
		a.startsFor("meters")
	}},
	{"reverse path filtering and senders that the rule does not take", causes(doctor.RPFilter, doctor.SourceFiltered), func(a *ailing) {
		a.strangerSays("239.11.3.7:30001")
		a.rules("", metersWith("source: 172.17.0.51"))
		a.starts()
	}},
	{"reverse path filtering and a port that is taken", causes(doctor.RPFilter, doctor.PortTaken), func(a *ailing) {
		a.strangerSays("239.11.3.7:30001")
		a.hold("0.0.0.0:30001")
		a.startsFor("meters")
	}},
	{"a port that is taken and a firewall", causes(doctor.IngressFirewall, doctor.PortTaken), func(a *ailing) {
		a.dropsIn("udp dport 30001")
		a.hold("0.0.0.0:30001")
		a.startsFor("meters")
	}},
	{"no carrier hides a firewall", causes(doctor.NoCarrier), func(a *ailing) {
		a.dropsOut("udp dport 30000")
		a.starts()
		a.GW.PullCable("iso0")
		a.args = []string{"--rule", "lamps"}
	}},
	{"no carrier hides a masquerade rule", causes(doctor.NoCarrier), func(a *ailing) {
		a.masquerades("iso0")
		a.starts()
		a.GW.PullCable("iso0")
		a.args = []string{"--rule", "lamps"}
	}},
	{"a condition and a firewall", causes(doctor.Condition, doctor.EgressFirewall), func(a *ailing) {
		a.dropsOut("udp dport 30000")
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.0.1, interface: iso0, when: size > 100"), "")
		a.starts()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.filteredBy("lamps", "when")
	}},
	{"no broker and a masquerade rule", causes(doctor.BrokerAway, doctor.NAT), func(a *ailing) {
		a.masquerades("iso0")
		a.bridge = a.startBridge()
		a.args = []string{"--rule", "lamps"}
	}},
	{"a firewall and a masquerade rule", causes(doctor.NAT, doctor.EgressFirewall), func(a *ailing) {
		a.masquerades("iso0")
		a.dropsOut("udp dport 30000")
		a.startsFor("lamps")
	}},
	{"a clock that is behind and a firewall", causes(doctor.Clock, doctor.EgressFirewall), func(a *ailing) {
		a.dropsOut("udp dport 30000")
		a.starts()
		later := time.Now().Add(49 * time.Hour)
		if err := os.Chtimes(a.config, later, later); err != nil {
			a.t.Fatal(err)
		}
		a.args = []string{"--rule", "lamps"}
	}},
	{"IGMPv2 by force and another port", causes(doctor.IGMPVersion, doctor.WrongTarget), func(a *ailing) {
		a.GW.Sysctl("net.ipv4.conf.iso0.force_igmp_version", "2")
		a.rules("", metersWith("source: 172.17.0.50"))
		a.devSays("239.11.3.7:30099")
		a.starts()
	}},
	{"no flag MULTICAST and another port", causes(doctor.NoMulticastFlag, doctor.WrongTarget), func(a *ailing) {
		a.run(a.GW, "ip link set iso0 multicast off")
		a.devSays("239.11.3.7:30099")
		a.startsFor("meters")
	}},
	{"messages above the mtu and a masquerade rule", causes(doctor.MTU, doctor.NAT), func(a *ailing) {
		a.oversized()
		a.masquerades("iso0")
	}},
	{"a route that keeps the group on this host and a firewall", causes(doctor.GatewayRoute, doctor.EgressFirewall), func(a *ailing) {
		a.run(a.GW, "ip route add local 239.10.3.7 dev iso0")
		a.dropsOut("udp dport 30000")
		a.startsFor("lamps")
	}},
	{"no reports and unicast", causes(doctor.IGMPFiltered, doctor.Unicast), func(a *ailing) {
		a.dropsOut("ip protocol igmp")
		a.devSays("172.17.0.1:30001")
		a.startsFor("meters")
	}},
	{"a firewall and no topicast that runs", causes(doctor.IngressFirewall, doctor.NotRunning), func(a *ailing) {
		a.dropsIn("udp dport 30001")
		a.noStart = true
		a.startsFor("meters")
	}},
	{"a masquerade rule and nobody that joined", causes(doctor.NAT, doctor.NobodyJoined), func(a *ailing) {
		a.bridged("mcast_querier 1")
		a.masquerades("br0")
		a.edit("iso0", "br0")
		a.startsFor("lamps")
	}},
	{"an interface that is down hides whom nobody routes to", causes(doctor.InterfaceDown), func(a *ailing) {
		a.rules(lampsWith("host: '192.0.2.77:5683', interface: iso0"), "")
		a.starts()
		a.GW.Down("iso0")
	}},
	{"reverse path filtering, a firewall each way and a condition", causes(doctor.Condition, doctor.EgressFirewall, doctor.RPFilter, doctor.IngressFirewall), func(a *ailing) {
		a.strangerSays("239.11.3.7:30001")
		a.dropsIn("udp dport 30001")
		a.dropsOut("udp dport 30000")
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.0.1, interface: iso0, when: size > 100"), metersRule)
		a.starts()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.filteredBy("lamps", "when")
	}},
}

// What doctor prints as fix is run as it stands, as far as it is a command, and then nothing is found.
func TestWhatDoctorSaysMendsIt(t *testing.T) {
	for _, name := range []string{
		"an interface that is down", "an interface without the flag MULTICAST", "a route that keeps the group on this host", "a masquerade rule",
		"a firewall on the way out", "a firewall for one of the groups of captures", "a firewall at the egress of the interface", "a firewall on the way in", "a firewall that lets nothing in",
		"a firewall that lets nothing in of many groups", "a firewall that lets nothing in to a port of this host", "a firewall that lets no answers in",
		"a firewall that keeps reports back", "a firewall that lets datagrams in and no queries", "strict reverse path filtering",
		"loose reverse path filtering", "IGMPv2 by force", "no memberships", "reverse path filtering and a firewall",
		"a firewall each way", "a firewall and a masquerade rule",
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			rows := slices.Concat(ailments, several)
			row := rows[slices.IndexFunc(rows, func(r ailment) bool { return r.name == name })]
			a := newAiling(t)
			row.make(a)
			_, report, _ := a.diagnose()
			var fixes []string
			for _, f := range report.Findings {
				fix, _, _ := strings.Cut(f.Fix, "; or")
				fixes = append(fixes, fix)
				a.run(a.GW, fix)
			}
			a.eventually("doctor is content", func() error {
				got, report, _ := a.diagnose()
				if len(got) > 0 {
					text, _ := json.Marshal(report.Findings)
					return fmt.Errorf("after %q it names %s", fixes, text)
				}
				return nil
			})
		})
	}
}
