// Command bench measures topicast beside its peers.
//
//	go run ./internal/lab/bench [--only NAMES] [--peers NAMES] [--rounds N] [--seconds S] [--protocol VERSION] [--before PROGRAM] [--quick] [--json]
//
// It builds topicast and the peers, runs one after the other in a network of
// namespaces that nothing else is connected to, round after round so that a busy
// moment of the machine meets all of them, and prints the medians and what
// topicast is to each peer. The figures of one machine say little about another,
// nor do those of two runs; the ratios of one run are what to look at.
//
//	fake broker or mosquitto ─▶ priv0 bridge iso0 ─▶ device        send-…, latency-…
//	               fake broker ◀─ priv0 bridge iso0 ◀─ device      receive-…
//	[lan 10.0.0.1]               [gw 172.17.0.1]    [dev 172.17.0.50]
//
// Except where latencies are measured, the bridge has one processor to itself,
// and the load, the brokers and the devices share the others. The cables carry a
// segmented send (UDP_SEGMENT) in one piece, as a card that offloads it takes it;
// and what the receiving end's IP costs is charged to the sender, as always with
// veth. A payload counts when it arrived once, in its group's order, whole, and
// from the right source; what is lost is shown.
//
// topicast speaks MQTT 5, as it does with a broker that can, unless --protocol says 3.1.1; and
// topicast-311 is the same with protocol: 3.1.1, to have both in one run.
//
// With --before PROGRAM another topicast, built from an older commit, runs in turn with this one as the
// peer before: what a change costs is the ratio of the two.
//
// The peers, each of which sends from the source it is told to:
//
//	python   a script on paho-mqtt, one sendto a message
//	c        a program on libmosquitto, one sendto a message
//	paho     paho.mqtt.golang as its documentation shows it
//	mmsg     a hand-written reader, the datagrams of a read by one sendmmsg
//	ceiling  the same with runs of equal size as one UDP_SEGMENT send; receiving,
//	         recvmmsg and one write a batch: no session, no errors, nothing kept
//	loop     a datagram to each group every second by sendmmsg, and nothing else
//	csub     no bridge: a subscriber in C, to see the broker's own share of a latency
//
// It needs Linux and Go. What else it can use and does not find it leaves out
// and reports: gcc with libmosquitto-dev, python3-paho-mqtt, mosquitto.
package main
