// Command faults shows what topicast does when things fail.
//
//	go run ./internal/lab/faults [--only NAMES] [--quick] [--markdown] [--rate N] [--down D] [--protocol VERSION] [--parallel N] [--keep-logs DIR] [--topicast PROGRAM]
//	go run ./internal/lab/faults --soak 20m --rate 5000
//
// It builds topicast and, for each fault, makes a network of namespaces that
// nothing else is connected to, with a real mosquitto, the real topicast, and
// devices. Messages of QoS 1, in some faults of QoS 2, run through the whole of it,
// numbered one by one and counted at the other side:
//
//	send:    publisher  ─▶ mosquitto ─▶ priv0 topicast iso0 or iso1 ─▶ devices
//	receive: subscriber ◀─ mosquitto ◀─ priv0 topicast iso0 or iso1 ◀─ devices
//	         [lan 10.0.0.1]                     [gw]                [dev] and [dev2]
//
// topicast speaks MQTT 5 with mosquitto, or the version that --protocol names; the publisher
// and the subscriber speak 3.1.1.
//
// What it prints of each fault:
//
//	in          messages that the publisher sent and the broker acknowledged; or numbers
//	            that the devices sent while the rule could receive: what is sent to
//	            an interface that is gone is nobody's loss
//	out         distinct ones of them that arrived
//	lost        the others
//	duplicated  arrivals of what had arrived before; QoS 1 allows them, and the
//	            faults of QoS 2 do not, for no connection breaks in them
//	disordered  first arrivals after a higher number
//	dropped     what topicast itself counts as lost, for any reason
//	heal        the longest time from the end of a fault to the first arrival
//
// A row is ok if everything arrived, in order, and from the right source; or if a
// limit was set to be exceeded and the drops counted are the losses, but for the few
// messages that the kernel had taken just as the carrier went: topicast cannot know
// that they arrived, and counts them when they come to the limit. The exit status is
// 1 if a row is not.
//
// mosquitto has its default settings where an interface fails: 20 messages in
// flight, and 1,000 in its queue. Where topicast is away from the broker, or the
// broker from topicast, its queue has no limit (max_queued_messages 0), for a
// queue that is too small for that is the broker's and not the bridge's; and where
// the broker is killed, it writes everything to the connection before it
// acknowledges it (max_inflight_messages 0), for what it took and still has for
// itself dies with it.
//
// Where another client takes the session, what that one has acknowledged is its own:
// it does not count as in, and the row is not ok if topicast sends any of it.
//
// The soak has one bridge that lives through all of it, and a broker whose queue has
// no limit: it is to show what the bridge uses, not what a queue of 1,000 can hold.
//
// It needs Linux, Go and mosquitto. Without root it runs in a user namespace.
package main
