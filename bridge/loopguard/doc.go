// Package loopguard keeps the two directions from feeding each other.
//
// There are four guards, each where the ones before it cannot look:
//
//	OwnAddresses  a datagram that one of our own sockets sent is known by its source
//	              address and port. Exact, and always on: group to group on one host.
//	DedupCache    rules that lie on a cycle of the table remember what they sent, heard
//	              and published. Of each, one may come back: to us our own publication,
//	              which the broker hands us again; and of each other source on the
//	              network the same datagram once, for another bridge sends what we send,
//	              and sends what we publish. It counts, so ON, OFF, ON all pass. A source
//	              that mostly says things of its own is no bridge, and is always heard: so
//	              a device may answer with the very bytes that it was sent. Sources can be
//	              forged: what is known of one that was heard for a while is not forgotten
//	              for others, and what was forgotten is carried rather than dropped.
//	delay         the other bridge may be faster than our own broker connection: a
//	              datagram of a rule on a cycle waits a little for its message (in package
//	              receive).
//	Breaker       a cycle that no table shows, as it goes through rules of another
//	              program: what comes over and over from one source, with one payload for
//	              one topic, is tested: does it cease when it is not published, and come
//	              again when it is? Only then it is dropped, but for one each two seconds.
//	              The test itself is in package receive. A cycle that changes the payload each time goes unseen.
package loopguard
