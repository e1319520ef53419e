package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"topicast/internal/lab/netlab"
)

// dropped waits until a send rule has counted a drop, filteredBy until it has filtered something.
func (a *ailing) dropped(rule, reason string) {
	a.eventually("it is dropped", func() error {
		if r := a.rule(rule); r.Drops[reason] == 0 {
			return fmt.Errorf("%v", r.Drops)
		}
		return nil
	})
}

func (a *ailing) filteredBy(rule, reason string) {
	a.eventually("it is filtered", func() error {
		if r := a.rule(rule); r.Filtered[reason] == 0 {
			return fmt.Errorf("%v", r.Filtered)
		}
		return nil
	})
}

// joinedBy waits until a receive rule listens.
func (a *ailing) joinedBy(rule string) {
	a.eventually(rule+" listens", func() error {
		if r := a.receiveRule(rule); r.Joined == 0 {
			return fmt.Errorf("%s", r.Reason)
		}
		return nil
	})
}

// healthy are set-ups in which nothing is wrong, some of them with what looks like it.
var healthy = []ailment{
	{"the loopback interface alone", nil, func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 127.0.0.2"), strings.ReplaceAll(metersRule, "iso0", "lo"))
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
	}},
	{"two networks", nil, func(a *ailing) {
		a.rules(lampsRule+strings.NewReplacer("lamps", "doors", "172.17.0.1", "10.0.0.2", "iso0", "priv0").Replace(lampsRule), metersRule)
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a route to a gateway that is not followed", nil, func(a *ailing) {
		a.GW.Route("224.0.0.0/4", "172.17.0.50")
		a.rules(lampsRule, "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
	}},
	{"a range of groups, of which one far in it is used", nil, func(a *ailing) {
		a.rules("", "  - { name: meters, topic: meters, group: '239.11.3.1-239.11.3.63:30001', interface: iso0 }\n")
		a.devSays("239.11.3.40:30001")
		a.starts()
		a.ready()
	}},
	{"a firewall that was opened again", nil, func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "output", "", "udp dport 30000 drop")
		a.starts()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
		a.dropped("lamps", "firewall")
		a.run(a.GW, "nft flush ruleset")
		a.args = []string{"lamp/set"}
	}},
	{"IPv6", nil, func(a *ailing) {
		a.rules(lampsWith("group: '[ff15::7]:30000', source: 'fd17::1', interface: iso0"), strings.ReplaceAll(metersRule, "239.11.3.7", "[ff15::8]"))
		k := a.Dev.Talker("eth0", dev6)
		a.say = func() { k.Say(group("[ff15::8]:30001"), []byte("12 kW")) }
		a.starts()
		a.ready()
	}},
	{"a bridge itself", nil, func(a *ailing) {
		a.bridged("")
		a.edit("iso0", "br0")
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a bridge with a querier and a device that joined", nil, func(a *ailing) {
		// A report may come before the port forwards: the bridge asks again soon (in 1/100 s).
		a.bridged("mcast_startup_query_interval 50 mcast_startup_query_count 40 mcast_query_response_interval 20 mcast_querier 1")
		a.edit("iso0", "br0")
		a.Dev.Device("eth0", lampsGroup)
		a.eventually("the bridge knows who has joined", func() error {
			out, err := a.GW.Command("bridge", "mdb", "show", "dev", "br0").CombinedOutput()
			if err == nil && !strings.Contains(string(out), "port iso0 grp "+lampsGroup.Addr().String()) {
				err = fmt.Errorf("bridge mdb show: %s", out)
			}
			return err
		})
		a.starts()
		a.ready()
		a.args = []string{"--rule", "lamps"}
	}},
	{"a VLAN", nil, func(a *ailing) {
		if !netlab.KernelHas("vlan") {
			netlab.SkipKernel(a.t, "this kernel has no VLANs")
		}
		a.run(a.GW, "ip link add link iso0 name iso0.5 type vlan id 5 && ip addr add 172.20.0.1/24 dev iso0.5 && ip link set iso0.5 up")
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0.5"), strings.ReplaceAll(metersRule, "iso0", "iso0.5"))
		a.starts()
		a.ready()
	}},
	{"a bond", nil, func(a *ailing) {
		if !netlab.KernelHas("bond") {
			netlab.SkipKernel(a.t, "this kernel has no bonds")
		}
		a.run(a.GW, "ip link add bond0 type bond mode active-backup && ip addr flush dev iso0 && ip link set iso0 down && ip link set iso0 master bond0 && ip link set bond0 up && ip addr add 172.17.0.1/16 dev bond0")
		a.edit("iso0", "bond0")
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"several addresses, and the second as source", nil, func(a *ailing) {
		a.run(a.GW, "ip addr add 172.17.0.9/16 dev iso0 && ip addr add 192.168.7.1/24 dev iso0")
		a.rules(lampsWith("group: '239.10.3.7:30000', source: 172.17.0.9, interface: iso0")+
			strings.NewReplacer("lamps", "doors", "172.17.0.1", "192.168.7.0/24", "lamp/", "door/").Replace(lampsRule), "")
		a.starts()
		a.ready()
	}},
	{"an interface with IPv6 alone", nil, func(a *ailing) {
		a.GW.DelAddr("iso0", "172.17.0.1/16")
		a.rules(lampsWith("group: '[ff15::7]:30000', interface: iso0"), strings.ReplaceAll(metersRule, "239.11.3.7", "[ff15::8]"))
		k := a.Dev.Talker("eth0", dev6)
		a.say = func() { k.Say(group("[ff15::8]:30001"), []byte("12 kW")) }
		a.starts()
		a.ready()
	}},
	{"a container on a bridge that snoops, without a querier", nil, func(a *ailing) {
		a.Dev.Add("bridge", "docker0")
		a.Dev.DelAddr("eth0", "172.17.0.50/16")
		a.Dev.Enslave("eth0", "docker0")
		a.Dev.Addr("docker0", "172.17.0.50/16")
		k := a.Dev.Talker("docker0", dev4)
		a.say = func() { k.Say(metersGroup, []byte("12 kW")) }
		a.starts()
		a.ready()
	}},
	{"a switch with a querier, and devices that joined", nil, func(a *ailing) {
		a.devAsks(true).Device("eth0", lampsGroup)
		a.starts()
		a.ready()
		a.args = []string{"--rule", "lamps", "--for", "2500ms"}
	}},
	{"a user with the right to see packets and the firewall", nil, func(a *ailing) {
		a.run(a.GW, "chmod 644 "+a.config+" && chmod 755 "+filepath.Dir(a.config)+" "+filepath.Dir(filepath.Dir(a.config)))
		a.as = []string{"setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=+net_raw,+net_admin", "--ambient-caps=+net_raw,+net_admin"}
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a user without any right", nil, func(a *ailing) {
		a.run(a.GW, "chmod 644 "+a.config+" && chmod 755 "+filepath.Dir(a.config)+" "+filepath.Dir(filepath.Dir(a.config)))
		a.as = []string{"setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"}
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a host behind a router", nil, func(a *ailing) {
		a.GW.Route("192.0.2.0/24", "172.17.0.50")
		a.rules(lampsWith("host: '192.0.2.77:5683', interface: iso0"), "")
		a.starts()
		a.ready()
	}},
	{"a rule that refreshes", nil, func(a *ailing) {
		a.rules(lampsWith("group: '239.10.3.7:30000', interface: iso0, refresh: 100ms, counter: u8@0, repeat: 2"), "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
	}},
	{"a sender that is expected, and speaks", nil, func(a *ailing) {
		a.rules("", metersWith("expect: 10s"))
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a sender that says the same again and again", nil, func(a *ailing) {
		a.rules("", metersWith("on_change: true"))
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
		a.joinedBy("meters")
		a.say()
		a.eventually("the first is published", func() error {
			if r := a.receiveRule("meters"); r.Published == 0 {
				return fmt.Errorf("%d received", r.Received)
			}
			return nil
		})
	}},
	{"MQTT 3.1.1", nil, func(a *ailing) {
		a.edit(`protocol: "5"`, `protocol: "3.1.1"`)
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a port of this host", nil, func(a *ailing) {
		a.rules("", "  - { name: artnet, topic: artnet, port: 6454, interface: iso0 }\n")
		a.devSays("172.17.0.1:6454")
		a.starts()
		a.ready()
	}},
	{"loose reverse path filtering, and a way back", nil, func(a *ailing) {
		a.GW.Sysctl("net.ipv4.conf.iso0.rp_filter", "2")
		a.Dev.Addr("eth0", "10.9.9.9/32")
		a.devSays("239.11.3.7:30001", netip.MustParseAddr("10.9.9.9"))
		a.starts()
		a.ready()
	}},
	{"a masquerade rule for what is not ours", nil, func(a *ailing) {
		a.nft(a.GW, "ip", "nat", "postrouting", "", "ip saddr 10.8.0.0/16 oifname iso0 masquerade")
		a.starts()
		a.ready()
	}},
	{"receiving alone", nil, func(a *ailing) {
		a.rules("", metersRule)
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"receiving of one sender of two", nil, func(a *ailing) {
		a.rules("", metersWith("source: 172.17.0.50"))
		a.Dev.Addr("eth0", "172.17.0.51/16")
		one, two := a.Dev.Talker("eth0", dev4), a.Dev.Talker("eth0", netip.MustParseAddr("172.17.0.51"))
		a.say = func() { one.Say(metersGroup, []byte("12 kW")); two.Say(metersGroup, []byte("13 kW")) }
		a.starts()
		a.ready()
	}},
	{"a silent sender", nil, func(a *ailing) {
		a.rules("", metersRule)
		a.starts()
		a.ready()
	}},
	{"sending alone", nil, func(a *ailing) {
		a.rules(lampsRule, "")
		a.starts()
		a.ready()
		c := a.client("backend")
		a.say = func() { c.Publish("lamp/set", 0, false, "on") }
	}},
	{"hosts", nil, func(a *ailing) {
		a.holdOn(a.Dev, "172.17.0.50:5683")
		a.rules(lampsWith("host: '172.17.0.50:5683', interface: iso0"), "")
		a.starts()
		a.ready()
		a.publish(a.client("backend"), "lamp/set", []byte("on"))
	}},
	{"a firewall that lets all this through", nil, func(a *ailing) {
		a.nft(a.GW, "inet", "filter", "input", "policy drop;", "iifname lo accept")
		a.run(a.GW, "nft add rule inet t c ct state established,related accept; nft add rule inet t c ip protocol igmp accept; nft add rule inet t c ip daddr 224.0.0.0/4 udp dport 30000-30010 accept; nft add rule inet t c meta pkttype multicast accept")
		a.devSays("239.11.3.7:30001")
		a.starts()
		a.ready()
	}},
	{"a broker with TLS", nil, func(a *ailing) {
		ca, settings := a.certificates()
		a.rules(lampsRule, metersRule)
		a.edit("url: mqtt://", "tls: { ca_file: "+ca+" }\n  url: mqtts://")
		a.broker = settings
		a.starts()
		a.ready()
	}},
}

// certificates makes a self-signed one for the broker, and returns the settings of mosquitto with it.
func (a *ailing) certificates() (ca string, settings []string) {
	ca = a.config + ".pem"
	a.run(a.GW, fmt.Sprintf("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %[1]s.key -out %[1]s -days 30 -subj /CN=broker -addext subjectAltName=IP:10.0.0.1 2>&1", ca))
	return ca, []string{"certfile " + ca, "keyfile " + ca + ".key"}
}
