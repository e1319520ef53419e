//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// What rules with split make many messages of.
var splitAttacks = []attack{
	{name: "split", about: "datagrams of 700 lines to a rule that splits them, 2,000 a second", prepare: oneSplits, run: splitToOne},
	{name: "split-silent", about: "datagrams of 700 lines to a thousand rules that split them, 200 a second in all, while the broker acknowledges nothing", victims: []string{victimReceive, neighbourReceive}, prepare: func(r *rig) { thousandSplit(r, "") }, run: splitUnacknowledged},
	{name: "split-stuck", about: "the same with QoS 0, while the broker reads nothing", victims: allStreams, prepare: func(r *rig) { thousandSplit(r, ", qos: 0") }, run: splitToStuck},
}

// splitLines is how many messages are in each datagram.
const splitLines = 700

// splitGroup is that of one of the rules.
func splitGroup(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 43, byte(i / 256), byte(i)}), 6000)
}

// splitRules are so many. What is lost of their datagrams in the kernel counts once, and not for
// each line, so that they are not watched.
func splitRules(r *rig, n int, more string) {
	for i := range n {
		r.setup.receive = append(r.setup.receive, fmt.Sprintf("name: p%d, group: '%s', interface: iso0, topic: 'p/%d/x', split: line%s", i, splitGroup(i), i, more))
	}
	r.GW.ManyMemberships()
}

func oneSplits(r *rig) { splitRules(r, 1, "") }

func thousandSplit(r *rig, more string) {
	meddled(r)
	splitRules(r, 1000, more)
}

func splitToOne(r *rig) { r.sendLines(2000, 1) }

func splitUnacknowledged(r *rig) {
	r.meddler.judgeBy(func(fromBridge bool, f harness.Frame) verdict {
		if !fromBridge && f.Kind() == packets.Puback {
			return hold
		}
		return pass
	})
	r.sendLines(200, 1000)
	r.meddler.judgeBy(nil)
	r.meddler.cutAll() // what it has acknowledged in vain is published again
}

func splitToStuck(r *rig) {
	goOn := r.stopReading()
	r.sendLines(200, 1000)
	goOn()
}

// sendLines sends datagrams of many lines to so many of the rules in turn.
func (r *rig) sendLines(perSecond, rules int) {
	c, err := talk(r.Dev, device)
	if err != nil {
		r.must(err)
		return
	}
	defer c.Close()
	payload := []byte(strings.Repeat("1\n", splitLines))
	r.pace(perSecond, 0, func(i int) error {
		r.spend(cost{Datagrams: 1, Bytes: len(payload)})
		return say(c, splitGroup(i%rules), payload)
	})
}
