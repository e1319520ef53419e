//go:build linux

package main

import "slices"

// The honest streams, by the names of their rules.
const (
	victimSend       = "victim-send"       // by iso0
	neighbourSend    = "neighbour-send"    // by iso1
	victimReceive    = "victim-receive"    // on iso0
	neighbourReceive = "neighbour-receive" // on iso1
)

var (
	allStreams = []string{victimSend, neighbourSend, victimReceive, neighbourReceive}
	bySession  = []string{victimSend, neighbourSend} // come from the broker
)

// An attack is what is done to a bridge that carries honest traffic.
type attack struct {
	name    string
	about   string
	victims []string // the streams it is aimed at; all: there are no neighbours

	leastVictims float64 // the part of the victims' messages that is to arrive in time all the same
	lossless     bool    // nothing of the victims may be lost, counted or not
	hostile      bool    // it is there from the start on: nothing need run before it
	stops        bool    // nothing runs meanwhile, so that there is nothing to say of neighbours
	alone        bool    // it uses up what all namespaces share: no other is made at the same time
	five         bool    // only a broker of MQTT 5 can
	pends        bool    // a rule is pending on purpose, so that topicast is not ready

	prepare func(*rig) // what is different from the start; nil: nothing
	run     func(*rig) // does it, and puts right what it has done
	release func(*rig) // has what is held come out, before it is judged what became of it; nil: nothing is held
}

// attacks are all of them, in the order of the table.
var attacks = slices.Concat(datagramAttacks, icmpAttacks, publisherAttacks, brokerAttacks, lineAttacks, webAttacks, hostAttacks, spoolAttacks, largeAttacks, splitAttacks)
