package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/doctor"
	"topicast/internal/lab/netlab"
)

// ailment is something that is wrong, and what doctor is to name.
type ailment struct {
	name   string
	causes []doctor.Cause
	make   func(a *ailing)
}

func causes(c ...doctor.Cause) []doctor.Cause { return c }

// lamps is the send rule with other keys.
func lampsWith(keys string) string { return "  - { name: lamps, filter: lamp/set, " + keys + " }\n" }

func metersWith(keys string) string {
	return "  - { name: meters, topic: meters, group: '239.11.3.7:30001', interface: iso0, " + keys + " }\n"
}

// metersBehind is the rule meters behind a firewall with some rules at a hook; said: the device sends.
func metersBehind(said bool, hook string, rules ...string) func(a *ailing) {
	return func(a *ailing) {
		a.nft(a.GW, "inet", "filter", hook, "", rules...)
		if said {
			a.devSays("239.11.3.7:30001")
		}
		a.startsFor("meters")
	}
}

// bridged moves the address of iso0 to a bridge that iso0 is a port of.
func (a *ailing) bridged(settings string) {
	a.GW.Add("bridge", "br0")
	a.GW.DelAddr("iso0", "172.17.0.1/16")
	a.GW.Enslave("iso0", "br0")
	a.GW.Addr("br0", "172.17.0.1/16")
	a.run(a.GW, "ip link set br0 type bridge mcast_snooping 1 "+settings)
}

var ailments = []ailment{
	{"the broadcast address as source", causes(doctor.WrongSource), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.255.255, interface: iso0"), "")
		a.starts()
	}},
	{"a source that is on another interface", causes(doctor.SourceElsewhere), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 10.0.0.2, interface: iso0"), "")
		a.starts()
	}},
	{"a source that is on another host", causes(doctor.SourceElsewhere), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.0.99, interface: iso0"), "")
		a.starts()
	}},
	{"no interface of the name", causes(doctor.NoInterface), func(a *ailing) {
		a.rules("", "  - { name: meters, topic: meters, group: '239.11.3.7:30001', interface: nope0 }\n")
		a.starts()
	}},
	{"an interface that is down", causes(doctor.InterfaceDown), func(a *ailing) {
		a.starts()
		a.GW.Down("iso0")
		a.args = []string{"--rule", "lamps"}
	}},
	{"no carrier", causes(doctor.NoCarrier), func(a *ailing) {
		a.starts()
		a.GW.PullCable("iso0")
		a.args = []string{"--rule", "meters"}
	}},
	{"an interface without the flag MULTICAST", causes(doctor.NoMulticastFlag), func(a *ailing) {
		a.run(a.GW, "ip link set iso0 multicast off")
		a.startsFor("lamps")
	}},
	{"an interface that is a port of a bridge", causes(doctor.BridgePort), func(a *ailing) {
		a.GW.Add("bridge", "br0")
		a.GW.Enslave("iso0", "br0")
		a.devSays("239.11.3.7:30001")
		a.startsFor("meters")
	}},
	{"a VRF that the program is not bound to", causes(doctor.VRF), func(a *ailing) {
		a.GW.VRF("blue", 9, "iso0")
		a.GW.Sysctl("net.ipv4.udp_l3mdev_accept", "0")
		a.noConfig, a.args = true, []string{"239.11.3.7:30001", "--interface", "iso0"}
	}},
	{"no route to a host", causes(doctor.NoRoute), func(a *ailing) {
		a.rules(lampsWith("host: '192.0.2.77:5683', interface: iso0"), "")
		a.starts()
	}},
	{"a host that is switched off", causes(doctor.HostDown), func(a *ailing) {
		a.rules(lampsWith("host: '172.17.0.99:5683', interface: iso0"), "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.eventually("the host is down", func() error {
			if r := a.rule("lamps"); len(r.HostsDown) == 0 {
				return fmt.Errorf("%s: %s", r.State, r.Reason)
			}
			return nil
		})
	}},
	{"a port of a host that nobody listens at", causes(doctor.HostRefuses), func(a *ailing) {
		a.rules(lampsWith("host: '172.17.0.50:5683', interface: iso0"), "")
		a.starts()
		a.ready()
		c := a.client("backend")
		a.eventually("it is refused", func() error {
			a.publish(c, "lamp/set", []byte("on"))
			if r := a.rule("lamps"); len(r.HostErrors) == 0 {
				return fmt.Errorf("%s: %s", r.State, r.Reason)
			}
			return nil
		})
	}},
	{"a route that keeps the group on this host", causes(doctor.GatewayRoute), func(a *ailing) {
		a.run(a.GW, "ip route add local 239.10.3.7 dev iso0")
		a.startsFor("lamps")
	}},
	{"a ttl that ends at the gateway", causes(doctor.TTL), func(a *ailing) {
		a.GW.Route("192.0.2.0/24", "172.17.0.50")
		a.rules(lampsWith("host: '192.0.2.77:5683', interface: iso0, ttl: 1"), "")
		a.starts()
	}},
	{"messages above the mtu", causes(doctor.MTU), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, oversize: drop"), "")
		a.starts()
		a.publish(a.client("backend"), "lamp/set", make([]byte, 2000))
		a.dropped("lamps", "oversize")
	}},
	{"fragments that are lost on the way", causes(doctor.MTU), func(a *ailing) {
		a.nft(a.Dev, "netdev", "filter", "egress device eth0", "", "ip frag-off & 0x1fff != 0 drop")
		a.starts()
		k := a.Dev.Talker("eth0", dev4)
		a.say = func() { k.Say(metersGroup, make([]byte, 4000)) }
		a.args = []string{"--rule", "meters"}
	}},
	{"a masquerade rule", causes(doctor.NAT), func(a *ailing) {
		a.masquerades("iso0")
		a.startsFor("lamps")
	}},
	{"a firewall on the way out", causes(doctor.EgressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "output", "", "ip daddr 239.0.0.0/8 udp dport { 30000, 30002 } drop")
		a.startsFor("lamps")
	}},
	{"a firewall on the way out, and a group of captures", causes(doctor.EgressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "output", "", "udp dport 30000 drop")
		a.rules("  - { name: lamps, filter: 'lamp/{id}/set', group: '239.10.3.{id}:30000', interface: iso0 }\n", "")
		a.starts()
	}},
	{"a firewall for one of the groups of captures", causes(doctor.EgressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "output", "", "ip daddr 239.10.3.1 drop")
		a.rules("  - { name: lamps, filter: 'lamp/{id}/set', group: '239.10.3.{id}:30000', interface: iso0 }\n", "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/1/set", []byte("on"))
		a.dropped("lamps", "firewall")
		a.publish(a.client("other"), "lamp/2/set", []byte("on"))
	}},
	{"a firewall at the egress of the interface", causes(doctor.EgressFirewall), func(a *ailing) {
		a.nft(a.GW, "netdev", "filter", "egress device iso0", "", "udp dport 30000 drop")
		a.starts()
		a.args = []string{"239.10.3.7:30000"}
	}},
	{"a queueing discipline that discards all", causes(doctor.EgressQueue), func(a *ailing) {
		a.starts()
		a.ready()
		a.run(a.GW, "tc qdisc replace dev iso0 root blackhole")
		c := a.client("backend")
		a.say = func() { c.Publish("lamp/set", 0, false, "on") }
		a.args = []string{"--rule", "lamps"}
	}},
	{"a firewall on the way in", causes(doctor.IngressFirewall), metersBehind(true, "input", "udp dport 30001 drop")},
	{"a firewall that lets nothing in", causes(doctor.IngressFirewall), metersBehind(false, "input", "iifname lo accept", "ct state established,related accept", "drop")},
	{"a firewall that lets nothing in of many groups", causes(doctor.IngressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "input", "", "iifname lo accept", "ct state established accept", "drop")
		a.rules("", "  - { name: meters, topic: meters, interface: iso0, group: ['239.11.3.7:30001', '239.11.3.9-239.11.3.63:30001', '239.11.4.1:30002'] }\n")
		a.startsFor("meters")
	}},
	{"a firewall that lets nothing in to a port of this host", causes(doctor.IngressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "input", "", "iifname lo accept", "ct state established accept", "drop")
		a.rules("", "  - { name: meters, topic: meters, port: 30001, interface: iso0 }\n")
		a.startsFor("meters")
	}},
	{"a firewall that lets no answers in", causes(doctor.IngressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "input", "", "iifname lo accept", "ct state established,related accept", "drop")
		a.rules(lampsWith("group: '239.255.255.250:1900', interface: iso0, answer: { topic: found }"), "")
		a.startsFor("lamps")
	}},
	{"a firewall for a group far in a range", causes(doctor.IngressFirewall), func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "input", "", "ip daddr 239.11.3.40 udp length 13 drop")
		a.rules("", "  - { name: meters, topic: meters, group: '239.11.3.1-239.11.3.63:30001', interface: iso0 }\n")
		a.devSays("239.11.3.40:30001")
		a.starts()
	}},
	{"a firewall that is not understood", causes(doctor.IngressFirewall), metersBehind(true, "input", "udp length 13 drop")},
	{"a firewall that keeps reports back", causes(doctor.IGMPFiltered), metersBehind(false, "output", "ip protocol igmp drop")},
	{"a firewall that lets datagrams in and no queries", causes(doctor.IGMPFiltered),
		metersBehind(false, "input", "udp dport 30001 accept", "iifname lo accept", "ct state established accept", "drop")},
	{"ebtables that keep reports back", causes(doctor.IGMPFiltered), func(a *ailing) {
		a.bridged("")
		a.run(a.GW, "nft add table bridge filter && nft 'add chain bridge filter OUTPUT { type filter hook output priority 0; }' && nft add rule bridge filter OUTPUT ether type ip ip protocol igmp drop")
		a.edit("iso0", "br0")
		a.startsFor("meters")
	}},
	{"a NAT rule that sends it to another port", causes(doctor.IngressFirewall), func(a *ailing) {
		a.nft(a.GW, "ip", "nat", "prerouting", "", "udp dport 30001 redirect to :40000")
		a.devSays("239.11.3.7:30001")
		a.startsFor("meters")
	}},
	{"a device with an address of this host", causes(doctor.OwnAddress), func(a *ailing) {
		a.Dev.Addr("eth0", "10.0.0.2/32")
		a.devSays("239.11.3.7:30001", netip.MustParseAddr("10.0.0.2"))
		a.startsFor("meters")
	}},
	{"strict reverse path filtering", causes(doctor.RPFilter), func(a *ailing) {
		a.GW.Sysctl("net.ipv4.conf.iso0.rp_filter", "1")
		a.Dev.Addr("eth0", "10.9.9.9/32")
		a.devSays("239.11.3.7:30001", netip.MustParseAddr("10.9.9.9"))
		a.startsFor("meters")
	}},
	{"loose reverse path filtering", causes(doctor.RPFilter), func(a *ailing) {
		a.GW.Sysctl("net.ipv4.conf.iso0.rp_filter", "2")
		a.GW.DelRoute("default", "10.0.0.1")
		a.Dev.Addr("eth0", "10.9.9.9/32")
		a.devSays("239.11.3.7:30001", netip.MustParseAddr("10.9.9.9"))
		a.startsFor("meters")
	}},
	{"snooping without a querier", causes(doctor.Snooping), func(a *ailing) {
		a.bridged("mcast_querier 0")
		a.run(a.GW, "bridge link set dev iso0 mcast_flood off")
		a.edit("iso0", "br0")
		a.startsFor("lamps")
	}},
	{"a querier and nobody that joined", causes(doctor.NobodyJoined), func(a *ailing) {
		a.bridged("mcast_querier 1")
		a.edit("iso0", "br0")
		a.startsFor("lamps")
	}},
	{"IGMPv2 by force", causes(doctor.IGMPVersion), func(a *ailing) {
		a.GW.Sysctl("net.ipv4.conf.iso0.force_igmp_version", "2")
		a.rules("", metersWith("source: 172.17.0.50"))
		a.starts()
	}},
	{"no memberships", causes(doctor.Memberships), func(a *ailing) {
		a.GW.Sysctl("net.ipv4.igmp_max_memberships", "0")
		a.startsFor("meters")
	}},
	{"another port", causes(doctor.WrongTarget), func(a *ailing) {
		a.devSays("239.11.3.7:30099")
		a.startsFor("meters")
	}},
	{"another group", causes(doctor.WrongTarget), func(a *ailing) {
		a.devSays("239.11.3.8:30001")
		a.starts()
		a.args = []string{"239.11.3.7:30001"}
	}},
	{"unicast in place of multicast", causes(doctor.Unicast), func(a *ailing) {
		a.devSays("172.17.0.1:30001")
		a.startsFor("meters")
	}},
	{"a second program that does not share the port", causes(doctor.PortTaken), func(a *ailing) {
		a.hold("0.0.0.0:30001")
		a.startsFor("meters")
	}},
	{"a second program that takes unicast", causes(doctor.PortTaken), func(a *ailing) {
		a.hold("172.17.0.1:6454")
		a.rules("", "  - { name: artnet, topic: artnet, port: 6454, interface: iso0 }\n")
		a.starts()
	}},
	{"a receive buffer that ran over", causes(doctor.SocketBuffer), func(a *ailing) {
		a.starts()
		a.joinedBy("meters")
		k := a.Dev.Talker("eth0", dev4)
		a.stop(func() {
			for range 60 {
				k.Say(metersGroup, make([]byte, 65000), make([]byte, 65000), make([]byte, 65000), make([]byte, 65000))
			}
		})
		a.eventually("the loss is counted", func() error {
			if r := a.receiveRule("meters"); r.Drops["receive_buffer"] == 0 {
				return fmt.Errorf("%d received, drops %v", r.Received, r.Drops)
			}
			return nil
		})
		a.args = []string{"--rule", "meters"}
	}},
	{"senders that the rule does not take", causes(doctor.SourceFiltered), func(a *ailing) {
		a.rules("", metersWith("source: 172.17.0.51"))
		a.devSays("239.11.3.7:30001")
		a.starts()
	}},
	{"a broker that does not let it publish", causes(doctor.BrokerACL), func(a *ailing) {
		acl := a.config + ".acl"
		if err := os.WriteFile(acl, []byte("topic read #\ntopic write topicast/#\n"), 0o644); err != nil {
			a.t.Fatal(err)
		}
		a.broker = []string{"acl_file " + acl}
		a.rules("", metersWith("qos: 1"))
		a.starts()
		a.joinedBy("meters")
		a.Dev.Talker("eth0", dev4).Say(metersGroup, []byte("12 kW"))
		a.eventually("the broker has refused it", func() error {
			if r := a.receiveRule("meters"); r.Drops["broker_refused"] == 0 {
				return fmt.Errorf("drops %v", r.Drops)
			}
			return nil
		})
	}},
	{"the retained policy", causes(doctor.RetainedPolicy), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, retained: never"), "")
		a.edit(`protocol: "5"`, `protocol: "3.1.1"`)
		a.startBroker()
		a.publishRetained(a.client("backend"), "lamp/set", []byte("on"))
		a.bridge = a.startBridge()
		a.filteredBy("lamps", "retained")
	}},
	{"a condition that nothing satisfies", causes(doctor.Condition), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, when: size > 100"), "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.filteredBy("lamps", "when")
	}},
	{"what topicast has sent itself", causes(doctor.LoopGuard), func(a *ailing) {
		a.rules(lampsWith("group: '239.11.3.7:30001', interface: iso0, loopback: true"), metersWith("qos: 1"))
		a.starts()
		a.ready()
		a.joinedBy("meters")
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.eventually("it is filtered", func() error {
			if r := a.receiveRule("meters"); r.Filtered["own"] == 0 {
				return fmt.Errorf("%v", r.Filtered)
			}
			return nil
		})
		a.args = []string{"--rule", "meters"}
	}},
	{"a queue that is full", causes(doctor.QueueFull), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, qos: 0, rate: 1/s"), "", "queue: { size: 64KiB }\n")
		a.starts()
		a.ready()
		c := a.client("backend")
		for range 40 {
			c.Publish("lamp/set", 0, false, make([]byte, 8000))
		}
		a.dropped("lamps", "queue_full")
	}},
	{"more than the broker is to get in a second", causes(doctor.MaxRate), func(a *ailing) {
		a.rules("", metersWith("qos: 1"))
		a.edit(`protocol: "5"`, "protocol: \"5\"\n  max_rate: 5")
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
		a.joinedBy("meters")
		a.eventually("what comes waits", func() error {
			a.say()
			if s := a.status(); s.Broker.PacedSince.IsZero() || s.Queue.Messages == 0 {
				return fmt.Errorf("%+v", s.Queue)
			}
			return nil
		})
	}},
	{"a spool on a disk that is full", causes(doctor.SpoolFull), func(a *ailing) {
		dir := a.config + ".spool"
		if err := os.Mkdir(dir, 0o755); err != nil {
			a.t.Fatal(err)
		}
		a.rules(lampsRule, metersRule, "spool: { dir: "+dir+" }\n")
		a.startBroker()
		binary, err := topicastBinary()
		if err != nil {
			a.t.Fatal(err)
		}
		a.bridge = a.GW.Start("unshare", "-m", "sh", "-c", fmt.Sprintf("mount -t tmpfs -o size=64k none %[1]s && { head -c 1000000 /dev/zero > %[1]s/full; exec %[2]s run --config %[3]s; }", dir, binary, a.config))
		a.eventually("the spool cannot be used", func() error {
			if _, _, err := a.get("/status"); err != nil {
				return err
			}
			if s := a.status().Spool; s == nil || s.Error == "" {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		a.connected()
		a.args = []string{"--rule", "lamps"}
	}},
	{"a clock that is behind", causes(doctor.Clock), func(a *ailing) {
		a.starts()
		later := time.Now().Add(49 * time.Hour)
		if err := os.Chtimes(a.config, later, later); err != nil {
			a.t.Fatal(err)
		}
		a.args = []string{"--rule", "lamps"}
	}},
	{"no broker", causes(doctor.BrokerAway), func(a *ailing) {
		a.bridge = a.startBridge()
		a.args = []string{"--rule", "lamps"}
	}},
	{"no topicast that runs", causes(doctor.NotRunning), func(a *ailing) { a.noStart = true; a.starts() }},
	{"a topic that no rule has", causes(doctor.NoRule), func(a *ailing) { a.starts(); a.args = []string{"lamp/get"} }},

	{"a program that sends what is published back to the group", causes(doctor.Breaker), func(a *ailing) {
		a.starts()
		a.joinedBy("meters")
		k, c := a.Dev.Talker("eth0", dev4), a.client("echo")
		a.done(c.Subscribe("meters", 0, func(_ mqtt.Client, m mqtt.Message) { k.Say(metersGroup, m.Payload()) }), "subscribe")
		k.Say(metersGroup, []byte("12 kW"))
		a.eventually("the breaker opens", func() error {
			if r := a.receiveRule("meters"); r.Drops["breaker"] == 0 {
				return fmt.Errorf("%d published, drops %v", r.Published, r.Drops)
			}
			return nil
		})
		a.args = []string{"--rule", "meters"}
	}},
	{"messages that are empty", causes(doctor.Filtered), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, empty: drop"), "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", nil)
		a.filteredBy("lamps", "empty")
	}},
	{"payloads that are not what the rule says", causes(doctor.Dropped), func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, payload: hex"), "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.dropped("lamps", "bad_payload")
	}},
	{"a rule that somebody has disabled", causes(doctor.Pending), func(a *ailing) {
		socket := filepath.Join(filepath.Dir(a.config), "c.sock")
		a.rules(lampsRule, metersRule, "control: { listen: 'unix:"+socket+"' }\n")
		a.starts()
		a.ready()
		binary, err := topicastBinary()
		if err != nil {
			a.t.Fatal(err)
		}
		a.run(a.GW, binary+" disable meters --control "+socket)
		a.args = []string{"--rule", "meters"}
	}},
	{"a topic that makes no group", causes(doctor.Dropped), func(a *ailing) {
		a.rules("  - { name: lamps, filter: 'lamp/{id}/set', group: '239.10.3.{id}:30000', interface: iso0 }\n", "")
		a.starts()
		a.args = []string{"lamp/300/set"}
	}},
	{"silence where datagrams are expected", causes(doctor.Degraded), func(a *ailing) {
		a.rules("", metersWith("expect: 1s"))
		a.starts()
		a.eventually("it is silent", func() error {
			if r := a.receiveRule("meters"); r.State != account.StateDegraded {
				return fmt.Errorf("%s: %s", r.State, r.Reason)
			}
			return nil
		})
	}},
	{"messages of another rule that the broker waits for", causes(doctor.Degraded), func(a *ailing) {
		a.rules(lampsRule+"  - { name: blinds, filter: blind/set, group: '239.10.4.7:30000', interface: nope0 }\n", "")
		a.starts()
		a.publish(a.client("backend"), "blind/set", []byte("up"))
		a.eventually("it is not acknowledged for long", func() error {
			if s := a.status(); !slices.ContainsFunc(s.Conditions, func(c bridge.Condition) bool { return c.Name == "acknowledgements" }) {
				return fmt.Errorf("%+v", s.Conditions)
			}
			return nil
		})
		a.args = []string{"lamp/set"}
	}},
	{"a clock that is set meanwhile", causes(doctor.Clock), func(a *ailing) {
		if os.Getenv(netlab.VM) != "1" {
			netlab.SkipKernel(a.t, "the clock of this machine is not to be set")
		}
		a.starts()
		began, set := time.Now(), sync.OnceFunc(func() {
			now := syscall.NsecToTimeval(time.Now().Add(time.Hour).UnixNano())
			if err := syscall.Settimeofday(&now); err != nil {
				a.t.Error(err)
			}
		})
		a.say = func() {
			if time.Since(began) > 6*time.Second {
				set()
			}
		}
		a.args = []string{"--rule", "lamps", "--for", "12s"}
	}},
}
