//go:build linux

package main

import "time"

// way is the direction of the traffic, as topicast calls it.
type way string

const (
	sending   way = "send"
	receiving way = "receive"
)

var (
	bothWays    = []way{sending, receiving}
	sendOnly    = []way{sending}
	receiveOnly = []way{receiving}
)

// A fault is what happens to a bridge that carries traffic: run does what goes wrong,
// lets it be wrong for a while, and puts it right again.
type fault struct {
	name          string
	about         string
	ways          []way
	needs         string     // what the build or the kernel must have; empty: nothing
	cannotReceive bool       // while it lasts, a receive rule gets nothing
	soak          bool       // leaves everything as it was, and may happen again and again
	limited       bool       // a limit is set to be exceeded
	once          bool       // nothing may come twice
	prepare       func(*rig) // what is different from the start; nil: nothing
	run           func(*rig)
}

// faults are all of them, in the order of the table.
var faults = concat(interfaceFaults, wireFaults, brokerFaults, bridgeFaults, retainedFaults, stopFaults, qos2Faults, spoolFaults, diskFaults, killFaults, clockFaults, reloadFaults)

var interfaceFaults = []fault{
	{name: "interface-late", about: "started before the interface exists", ways: bothWays, cannotReceive: true, prepare: noInterface, run: interfaceArrives},
	{name: "address-late", about: "address added after the start", ways: bothWays, cannotReceive: true, prepare: noAddress, run: addressArrives},
	{name: "address-removed", about: "address removed and back", ways: bothWays, cannotReceive: true, soak: true, prepare: namedByAddress, run: addressRemoved},
	{name: "address-moved", about: "address moved to another interface and back", ways: bothWays, cannotReceive: true, prepare: namedByAddress, run: addressMoved},
	{name: "link-down", about: "link down and up", ways: bothWays, cannotReceive: true, soak: true, run: linkDown},
	{name: "carrier", about: "carrier lost and back", ways: bothWays, cannotReceive: true, soak: true, run: carrierLost},
	{name: "carrier-flaps", about: "carrier lost and back, five times in a second", ways: bothWays, cannotReceive: true, soak: true, run: carrierFlaps},
	{name: "renamed", about: "interface renamed and back", ways: bothWays, cannotReceive: true, soak: true, run: renamed},
	{name: "recreated", about: "interface deleted and recreated, another index", ways: bothWays, cannotReceive: true, soak: true, run: recreated},
	{name: "recreated-same", about: "interface deleted and recreated, the same index", ways: bothWays, cannotReceive: true, soak: true, run: recreatedSame},
	{name: "ipv6-tentative", about: "IPv6 address tentative", ways: bothWays, cannotReceive: true, prepare: noAddress6, run: addressTentative},
	{name: "ipv6-removed", about: "IPv6 address deleted and back", ways: bothWays, cannotReceive: true, prepare: overIPv6, run: address6Removed},
	{name: "vrf", about: "interface made a member of a VRF, later released", ways: bothWays, cannotReceive: true, needs: kernelVRF, run: vrfMember},
}

// vrfMember has traffic in the VRF, as before and after it.
func vrfMember(r *rig) {
	r.GW.VRF("blue", 10, iso0)
	r.awaitRecovery()
	r.hold()
	r.closeSpans()
	r.GW.Release(iso0)
}

func noInterface(r *rig) {
	r.GW.Delete(iso0)
	r.rules.absent = true
}

func interfaceArrives(r *rig) {
	r.hold()
	r.plugIn(0)
}

// namedByAddress has the rule name its address alone, which is then all that says
// which interface it means.
func namedByAddress(r *rig) { r.rules.iface = "" }

func noAddress(r *rig) {
	namedByAddress(r)
	r.GW.DelAddr(iso0, sourcePrefix)
	r.rules.absent = true
}

func addressArrives(r *rig) {
	r.hold()
	r.GW.Addr(iso0, sourcePrefix)
}

func addressRemoved(r *rig) {
	r.GW.DelAddr(iso0, sourcePrefix)
	r.hold()
	r.GW.Addr(iso0, sourcePrefix)
}

func addressMoved(r *rig) {
	r.GW.DelAddr(iso0, sourcePrefix)
	r.GW.Addr(iso1, sourcePrefix)
	r.awaitRecovery()
	r.hold()
	r.closeSpans()
	r.GW.DelAddr(iso1, sourcePrefix)
	r.GW.Addr(iso0, sourcePrefix)
}

func linkDown(r *rig) {
	r.GW.Down(iso0)
	r.hold()
	r.GW.Up(iso0)
}

func carrierLost(r *rig) {
	r.GW.PullCable(iso0)
	r.hold()
	r.GW.PushCable(iso0)
}

// carrierFlaps has the kernel report late, for it gathers what comes fast.
func carrierFlaps(r *rig) {
	for range 5 {
		r.GW.PullCable(iso0)
		r.pause(100 * time.Millisecond)
		r.GW.PushCable(iso0)
		r.pause(100 * time.Millisecond)
	}
}

func renamed(r *rig) {
	r.GW.Rename(iso0, "other0")
	r.hold()
	r.GW.Rename("other0", iso0)
}

func recreated(r *rig) {
	r.GW.Delete(iso0)
	r.hold()
	r.plugIn(0)
}

func recreatedSame(r *rig) {
	index := r.GW.Index(iso0)
	r.GW.Delete(iso0)
	r.hold()
	r.plugIn(index)
}

// plugIn makes iso0, with its addresses; index 0 is the next that is free.
func (r *rig) plugIn(index int) {
	r.PlugAs(r.GW, iso0, index, r.Iso)
	r.GW.Addr(iso0, sourcePrefix)
	r.GW.Addr(iso0, sourcePrefix6)
}

func overIPv6(r *rig) {
	r.rules.source, r.rules.group = "fd17::1", group6
	if r.way == receiving {
		namedByAddress(r)
	}
}

func noAddress6(r *rig) {
	overIPv6(r)
	r.GW.DelAddr(iso0, sourcePrefix6)
	r.rules.absent = true
}

func addressTentative(r *rig) {
	r.hold()
	r.GW.TentativeAddr(iso0, sourcePrefix6, "1")
}

func address6Removed(r *rig) {
	r.GW.DelAddr(iso0, sourcePrefix6)
	r.hold()
	r.GW.Addr(iso0, sourcePrefix6)
}

func concat(lists ...[]fault) (all []fault) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
