//go:build linux

package main

import (
	"net/netip"

	"topicast/internal/lab/netlab"
)

// What any host on the network can say of datagrams that it has seen.
var icmpAttacks = []attack{
	{name: "icmp-too-big", about: "ICMP: packet too big, mtu 576, of a rule with oversize: drop, 100 a second", victims: toSend, leastVictims: leastCarried, lossless: true, prepare: bigAndWhole, run: icmp(netlab.TooBig, 100)},
	{name: "icmp-too-big-6", about: "the same over IPv6, mtu 1280", victims: toSend, leastVictims: leastCarried, lossless: true, prepare: bigAndWhole6, run: icmp(netlab.TooBig, 100)},
	{name: "icmp-port", about: "ICMP: port unreachable, 10,000 a second", victims: toSend, leastVictims: leastCarried, lossless: true, run: icmp(netlab.PortUnreachable, 10000)},
	{name: "icmp-port-6", about: "the same over IPv6", victims: toSend, leastVictims: leastCarried, lossless: true, prepare: overIPv6, run: icmp(netlab.PortUnreachable, 10000)},
	{name: "icmp-host", about: "ICMP: host unreachable, of a rule with a source_port, 10,000 a second", victims: toSend, leastVictims: leastCarried, lossless: true, prepare: fixedPort, run: icmp(netlab.HostUnreachable, 10000)},
}

var toSend = []string{victimSend}

func overIPv6(r *rig) { r.setup.six = true }

func fixedPort(r *rig) { r.setup.extra[victimSend] = "source_port: 5555" }

// bigAndWhole has datagrams that fill the MTU, and may not be fragmented. Without a route
// for groups Linux keeps no path MTU of one, so that there would be nothing to forge.
func bigAndWhole(r *rig) {
	r.must(r.GW.Command("ip", "route", "add", "224.0.0.0/4", "dev", iso0).Run())
	r.setup.extra[victimSend] = "oversize: drop"
	r.streams[victimSend].size = 1400
}

func bigAndWhole6(r *rig) {
	overIPv6(r)
	bigAndWhole(r)
}

// icmp sends errors about the victim's datagrams to the gateway, from a router that is
// not there.
func icmp(kind netlab.ICMPError, perSecond int) func(*rig) {
	return func(r *rig) {
		f := r.forger()
		r.mu.Lock()
		from := r.sources[victimSend]
		r.mu.Unlock()
		to, router, mtu := r.groupOf(victimSend), netip.MustParseAddr("172.17.0.254"), 576
		if to.Addr().Is6() {
			router, mtu = netip.MustParseAddr("fd17::fe"), 1280
		}
		if !from.IsValid() {
			r.fail("nothing of %s has come yet", victimSend)
			return
		}
		r.pace(perSecond, 0, func(int) error {
			r.spend(cost{Datagrams: 1, Bytes: 56})
			return f.ICMP(router, kind, mtu, from, to)
		})
	}
}
