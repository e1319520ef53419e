//go:build linux

package main

// What stands between the sender's socket and the cable.
var wireFaults = []fault{
	{name: "gateway-route", about: "route of the groups to a gateway, added and removed", ways: sendOnly, soak: true, run: gatewayRoute},
	{name: "shaper", about: "shaper (tbf) that cuts up segmented sends", ways: sendOnly, prepare: withShaper, run: shaped},
}

// gatewayRoute names a gateway that is not there, so that what is handed to it
// arrives nowhere.
func gatewayRoute(r *rig) {
	const groups, gateway = "224.0.0.0/4", "172.17.9.9"
	r.GW.Route(groups, gateway)
	r.hold()
	r.GW.DelRoute(groups, gateway)
}

// withShaper judges the order where the datagrams enter the cable: a shaper sends on
// whichever processor its timer runs, and in a veth two of them overtake each other.
func withShaper(r *rig) {
	deepQueue(r)
	r.cable = r.GW.CaptureSent(iso0)
}

// shaped sends what has piled up in runs through a shaper with room for few of
// them: 10 Mbit/s, a burst of 5,000 bytes and a queue of 30,000. What is sent while the
// kernel replaces the queue, or is in it when it does, or when the link goes down, is
// lost there without a word, so there is nothing.
func shaped(r *rig) {
	r.drain()
	r.GW.Shape(iso0, 1_250_000, 5000, 30_000)
	r.GW.Down(iso0)
	r.feed.suspend(false)
	r.hold()
	r.GW.Up(iso0)
	r.awaitRecovery()
	r.hold()
	r.drain()
	r.GW.Unshape(iso0)
	r.feed.suspend(false)
}
