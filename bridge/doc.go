// Package bridge runs a compiled table between one broker and the network.
//
// The way of a message from the broker to a group stands in send/path.go, from top to
// bottom; what happens when a datagram cannot leave now, in send/wait.go, drain.go and
// spool.go, and when it never can, in refusal.go; the one way out, in send/transmit.go. The
// way of a datagram to the broker stands in receive/path.go, and what happens when the
// broker cannot take it, in receive/publishspool.go and pump.go. What is lost: package account. The
// end: end.go.
//
// Goroutines, and what they lock:
//
//  1. The one that reads the broker's connection routes a batch and sends it
//     (send.Path.Handle), under send's Path.mu, and binding.mu of one binding at a time.
//  2. A binding for which something waits has one (binding.run): it sends from the disk
//     (spill.Queue.Front: one reader of each), then from memory, at most 64
//     datagrams under binding.mu.
//     That of a rule with answer has a reader of its socket too (binding.readAnswers), under
//     binding.mu, and one looks after requests whose time is over (retryRequests). What they have to
//     tell the broker is published by one with no lock held (Path.publishWaiting).
//  3. Each group and interface has a reader (groupReader.run): it decides and publishes
//     under membership.batchMu; with QoS 0 a slow broker may hold it there, by design.
//  4. Timers of delayQueue, topicState and loopTest publish what has waited, each under
//     its own mu (delayQueue: releasing). That of publishSpool (lateTail) hands to the disk
//     what has waited too long for the broker; that of OwnAddresses forgets an address.
//  5. One pump publishes what is in the spool and trims the copies (receive.Path.Pump),
//     with publishSpool.mu.
//  6. One watch looks after what is old, stuck, silent or to be repeated, and shows that the bridge
//     lives; it waits for nothing that can hang, so what it tells of rules (publishStatusWords) is
//     published on a goroutine of its own. Another one follows interfaces and routes
//     (followInterfaces), and probes at most 32 sockets at once, each on a goroutine of its
//     own; lookMu: one look, or swap, at a time. For a socket whose send hangs a goroutine
//     waits, the look does not (lockForLook). A third hears of changes of the interfaces
//     (network.watch) and asks for a look. Where rules have members, each of their interfaces has one
//     that hears reports (members.Watch).
//  7. Reload runs on its caller, as Disable and Enable do, and on followInterfaces where routes, names of interfaces or the
//     interfaces that patterns match have changed, under reloadMu; the swap itself stops 1 by Path.mu, and those of 3 whose
//     rules change by batchMu.
//  8. session.Run connects, and judges the ends of connections; the goroutines of a
//     connection, of which 1 is one: package session.
//  9. The spool's run writes to the disk, and calls stored of send and receive with no lock
//     held; lastsent's run writes what was sent last, and deadletter's what was given up.
//  10. The end has one for each step, and for each binding or spool in it (end.go, also
//     of send and receive).
//
// A message of the broker is acknowledged by whoever settles its last datagram (pendingAck):
// 1, 2 or 9, or 6 and 7 where they drop it. Copies are settled by the session, as it tells
// what became of a message, and by 9.
//
// The order of locks. First of all reloadMu, then lookMu. A lock of send is never held
// together with one of receive.
//
//	receive  membership.batchMu, delayQueue.releasing, topicState.mu, loopTest.mu,
//	         publishSpool.mu, then the session's for what is published (writeLock,
//	         notifyMu, outbox.mu), copies.mu, spill.Queues.mu, the spool's. But the
//	         loopTest of a rule with neither every nor on_change comes before
//	         topicState.mu, which messages of such a rule take only in note (ratelimit.go).
//	send     the session's inbox.mu (of 1) or the front of a spill.Queue, Path.mu, binding.mu
//	         (it guards BindingBudget too), then one of shown.mu, the session's acks.mu,
//	         spill.Queues.mu (then the spool's) and lastsent.Store.mu.
//
// Beside them: Rule.mu comes before statesMu, and after loopTest.mu; under it topicState.mu is
// only tried. The pump has the fronts of many queues at a time, and waits for none
// (Queue.TryFront). membership.mu guards the socket and the state; it may be taken under
// lookMu, and never together with batchMu. delayQueue.mu, linkChanges.mu and those of account
// and loopguard are held for moments, and nobody is called under them; merge.mu, held for a look into memory, comes
// before account's.
package bridge
