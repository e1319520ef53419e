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

// A fault is a story. The bridge and its traffic run; then run does what goes wrong,
// lets it be wrong for a while, and puts it right again.
type fault struct {
	name    string
	about   string
	ways    []way
	needs   string       // what the build must know; empty: nothing
	deaf    bool         // while it lasts, a receive rule can hear nothing
	soak    bool         // leaves everything as it was, and may happen again and again
	limited bool         // a limit is set to be exceeded
	prepare func(*stage) // what is different from the start; nil: nothing
	run     func(*stage)
}

// faults are all of them, in the order of the table.
var faults = concat(interfaceFaults, brokerFaults, bridgeFaults, spoolFaults, reloadFaults)

var interfaceFaults = []fault{
	{name: "interface-late", about: "started before the interface exists", ways: bothWays, deaf: true, prepare: noInterface, run: interfaceArrives},
	{name: "address-late", about: "address added after the start", ways: bothWays, deaf: true, prepare: noAddress, run: addressArrives},
	{name: "address-removed", about: "address removed and back", ways: bothWays, deaf: true, soak: true, prepare: namedByAddress, run: addressRemoved},
	{name: "address-moved", about: "address moved to another interface and back", ways: bothWays, deaf: true, prepare: namedByAddress, run: addressMoved},
	{name: "link-down", about: "link down and up", ways: bothWays, deaf: true, soak: true, run: linkDown},
	{name: "carrier", about: "carrier lost and back", ways: bothWays, deaf: true, soak: true, run: carrierLost},
	{name: "carrier-flaps", about: "carrier lost and back, five times in a second", ways: bothWays, deaf: true, soak: true, run: carrierFlaps},
	{name: "renamed", about: "interface renamed and back", ways: bothWays, deaf: true, soak: true, run: renamed},
	{name: "recreated", about: "interface deleted and recreated, another index", ways: bothWays, deaf: true, soak: true, run: recreated},
	{name: "recreated-same", about: "interface deleted and recreated, the same index", ways: bothWays, deaf: true, soak: true, run: recreatedSame},
	{name: "ipv6-tentative", about: "IPv6 address tentative", ways: bothWays, deaf: true, prepare: noAddress6, run: addressTentative},
	{name: "ipv6-removed", about: "IPv6 address deleted and back", ways: bothWays, deaf: true, prepare: overIPv6, run: address6Removed},
}

func noInterface(s *stage) {
	s.GW.Delete(iso0)
	s.rules.absent = true
}

func interfaceArrives(s *stage) {
	s.hold()
	s.plugIn(0)
}

// namedByAddress has the rule name its address alone, which is then all that says
// which interface it means.
func namedByAddress(s *stage) { s.rules.iface = "" }

func noAddress(s *stage) {
	namedByAddress(s)
	s.GW.DelAddr(iso0, sourcePrefix)
	s.rules.absent = true
}

func addressArrives(s *stage) {
	s.hold()
	s.GW.Addr(iso0, sourcePrefix)
}

func addressRemoved(s *stage) {
	s.GW.DelAddr(iso0, sourcePrefix)
	s.hold()
	s.GW.Addr(iso0, sourcePrefix)
}

func addressMoved(s *stage) {
	s.GW.DelAddr(iso0, sourcePrefix)
	s.GW.Addr(iso1, sourcePrefix)
	s.over()
	s.hold()
	s.cut()
	s.GW.DelAddr(iso1, sourcePrefix)
	s.GW.Addr(iso0, sourcePrefix)
}

func linkDown(s *stage) {
	s.GW.Down(iso0)
	s.hold()
	s.GW.Up(iso0)
}

func carrierLost(s *stage) {
	s.GW.PullCable(iso0)
	s.hold()
	s.GW.PushCable(iso0)
}

// carrierFlaps has the kernel tell late, for it saves up what comes fast.
func carrierFlaps(s *stage) {
	for range 5 {
		s.GW.PullCable(iso0)
		s.pass(100 * time.Millisecond)
		s.GW.PushCable(iso0)
		s.pass(100 * time.Millisecond)
	}
}

func renamed(s *stage) {
	s.GW.Rename(iso0, "other0")
	s.hold()
	s.GW.Rename("other0", iso0)
}

func recreated(s *stage) {
	s.GW.Delete(iso0)
	s.hold()
	s.plugIn(0)
}

func recreatedSame(s *stage) {
	index := s.GW.Index(iso0)
	s.GW.Delete(iso0)
	s.hold()
	s.plugIn(index)
}

// plugIn makes iso0, with its addresses; index 0 is the next that is free.
func (s *stage) plugIn(index int) {
	s.PlugAs(s.GW, iso0, index, s.Iso)
	s.GW.Addr(iso0, sourcePrefix)
	s.GW.Addr(iso0, sourcePrefix6)
}

func overIPv6(s *stage) {
	s.rules.source, s.rules.group = "fd17::1", group6
	if s.way == receiving {
		namedByAddress(s)
	}
}

func noAddress6(s *stage) {
	overIPv6(s)
	s.GW.DelAddr(iso0, sourcePrefix6)
	s.rules.absent = true
}

func addressTentative(s *stage) {
	s.hold()
	s.GW.TentativeAddr(iso0, sourcePrefix6, "1")
}

func address6Removed(s *stage) {
	s.GW.DelAddr(iso0, sourcePrefix6)
	s.hold()
	s.GW.Addr(iso0, sourcePrefix6)
}

func concat(lists ...[]fault) (all []fault) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
