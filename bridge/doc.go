// Package bridge runs a compiled table between one broker and the network.
//
// Where to read on:
//
//	broker to network   send/path.go, from top to bottom; send/transmit.go is the one way out
//	  cannot leave now  send/wait.go, drain.go, spool.go
//	  never can         send/refusal.go
//	network to broker   receive/path.go, from top to bottom
//	  broker is slow    receive/publishspool.go, pump.go
//	what is lost        package account
//	the end             end.go, and the same file of send and receive
//
// # Goroutines
//
// In brackets: what each of them locks, in this order.
//
//  1. The reader of the broker's connection routes a batch of messages and sends it:
//     send.Path.Handle [Path.mu; binding.mu of one binding at a time].
//  2. A binding for which something waits has a sender: binding.run. It takes from the disk first,
//     then from memory, 64 datagrams at most at a time [the front of one spill.Queue; binding.mu].
//     The binding of a rule with answer has two more: one reads its socket (readAnswers), one
//     handles requests that were not answered in time (retryRequests) [binding.mu both]. What they
//     have for the broker is published by one goroutine for all bindings (Path.publishWaiting) [none].
//  3. A group on an interface has a reader, which decides and publishes: groupReader.run
//     [membership.batchMu]. A slow broker may block it there where the rule has QoS 0, by design.
//  4. Timers publish what has waited for its time: those of delayQueue [releasing], topicState and
//     loopTest [mu]. The timer of publishSpool (lateTail) moves to the disk what has waited for the
//     broker too long [mu]; that of OwnAddresses forgets an address.
//  5. The pump publishes what is in the spool and deletes copies that are not needed any more:
//     receive.Path.Pump [publishSpool.mu].
//  6. Bridge.watch does what is due every second (spilling, expiry, stuck bindings, silent rules)
//     and keeps the heartbeat. It does nothing that can hang, so it starts a goroutine to publish
//     the states of rules (publishStatusWords).
//  7. Bridge.followInterfaces keeps sockets in step with interfaces and routes [lookMu]. It tests at
//     most 32 sockets at once, each on a goroutine. A socket whose send hangs is left out
//     (lockForLook). The system's notices come by two more: network.watch tells of interfaces,
//     members.Watch of the membership reports on each interface of rules with members.
//  8. Reload, Disable and Enable run on their caller, and on 7 where routes or the interfaces of a
//     rule have changed [reloadMu]. The swap stops 1 by Path.mu, and those of 3 whose rules change
//     by batchMu.
//  9. session.Run connects and reconnects; a connection has goroutines of its own, of which 1 is one:
//     package session.
//  10. The writers of spool, lastsent and deadletter write to the disk. That of the spool calls
//     stored of send and receive with no lock held.
//  11. The end gives each step, and each binding or spool in it, a goroutine: one that hangs is left
//     behind.
//
// A message of the broker is acknowledged by whichever goroutine settles its last datagram
// (pendingAck): 1, 2 or 10, or 6 and 8 where they drop it. A copy in the spool is settled by the
// session, when the outcome of the message is known, and by 10.
//
// # Lock order
//
// reloadMu is the first of all, then lookMu. No lock of send is held together with one of receive.
//
//	receive  membership.batchMu, delayQueue.releasing, topicState.mu, loopTest.mu,
//	         publishSpool.mu, then the session's for what is published (writeLock,
//	         notifyMu, outbox.mu), copies.mu, spill.Queues.mu, the spool's
//	send     the session's inbox.mu (on 1) or the front of a spill.Queue (on 2), Path.mu,
//	         binding.mu (it guards BindingBudget too), then one of shown.mu, the session's
//	         acks.mu, spill.Queues.mu (then the spool's) and lastsent.Store.mu
//
// Exceptions and locks beside these:
//
//   - For a rule with neither every nor on_change loopTest.mu comes before topicState.mu, which its
//     messages take in note alone (receive/ratelimit.go).
//   - Rule.mu comes before statesMu, and after loopTest.mu. Under it topicState.mu is only tried.
//   - The pump holds the fronts of several queues at a time, and waits for none (Queue.TryFront).
//   - membership.mu guards the socket and the state. It may be taken under lookMu, and is never held
//     together with batchMu.
//   - merge.mu is held for a look into memory, and comes before the locks of account.
//   - delayQueue.mu, linkChanges.mu and the locks of account and loopguard are held for moments, and
//     nothing is called under them.
package bridge
