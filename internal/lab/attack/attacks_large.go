//go:build linux

package main

import (
	"fmt"
	"net/netip"

	"topicast/internal/lab/harness"
)

// longest is the payload of the longest datagram over IPv4.
const longest = 65507

// What is as large as it can be, and much of it at once.
var largeAttacks = []attack{
	{name: "large-all", about: "datagrams of 65,507 bytes to eight groups whose rules make JSON of them, 2,000 a second in all", prepare: eightLarge, run: largeToAll},
	{name: "large-stuck", about: "datagrams of 65,507 bytes to a thousand groups of a rule of QoS 0, 2,000 a second in all, while the broker reads nothing", victims: allStreams, prepare: thousandLarge, run: largeToStuck},
	{name: "fan-down", about: "60 messages of 60 KB on a topic that 1,000 rules send whose interface is away", victims: bySession, pends: true, prepare: thousandAway, run: fanDown},
}

// largeGroup is that of one of the eight rules.
func largeGroup(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 41, 0, byte(i)}), 6000)
}

func eightLarge(r *rig) {
	for i := range 8 {
		r.setup.receive = append(r.setup.receive, fmt.Sprintf("name: l%d, group: '%s', interface: iso0, topic: 'l/%d', payload: json", i, largeGroup(i), i))
	}
}

// largeToAll sends as a host that is there: a forger's packets are not cut into fragments.
func largeToAll(r *rig) {
	c, err := talk(r.Dev, device)
	if err != nil {
		r.must(err)
		return
	}
	defer c.Close()
	payload := anew(longest)
	r.pace(2000, 0, func(i int) error {
		b := payload(i)
		r.spend(cost{Datagrams: 1, Bytes: len(b)})
		return say(c, largeGroup(i%8), b)
	})
}

// thousandAway are rules whose interface is not there.
func thousandAway(r *rig) {
	for i := range 1000 {
		r.setup.send = append(r.setup.send, fmt.Sprintf("name: d%d, filter: 'down/+', group: '239.54.%d.%d:5000', interface: none0", i, i/256, i%256))
	}
	for _, i := range fanWatched {
		r.watch(fmt.Sprintf("d%d", i), "", netip.AddrPort{})
	}
}

func fanDown(r *rig) {
	n := r.many(60)
	for _, s := range r.others {
		s.offer(n)
	}
	r.publishMany(20, n, "", func(i int) string { return fmt.Sprintf("down/%d", i%10) }, make([]byte, 60000))
	r.last()
}

// thousandLarge are groups of a rule whose messages wait for the connection.
func thousandLarge(r *rig) {
	meddled(r)
	r.setup.receive = append(r.setup.receive, "name: stuck, group: '239.42.0.0-239.42.3.231:6000', interface: iso0, topic: 'stuck/{group}', payload: json, qos: 0")
	r.GW.ManyMemberships()
}

func largeToStuck(r *rig) {
	c, err := talk(r.Dev, device)
	if err != nil {
		r.must(err)
		return
	}
	defer c.Close()
	goOn := r.stopReading()
	payload := anew(longest)
	r.pace(2000, 0, func(i int) error {
		b, g := payload(i), i%1000
		r.spend(cost{Datagrams: 1, Bytes: len(b)})
		return say(c, netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 42, byte(g / 256), byte(g)}), 6000), b)
	})
	goOn()
}

// stopReading has the broker read nothing until goOn is called.
func (r *rig) stopReading() (goOn func()) {
	reads := make(chan struct{})
	r.meddler.judgeBy(func(fromBridge bool, _ harness.Frame) verdict {
		if fromBridge {
			select {
			case <-reads:
			case <-r.ctx.Done():
			}
		}
		return pass
	})
	return func() {
		r.meddler.judgeBy(nil)
		close(reads)
	}
}
