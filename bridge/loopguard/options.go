package loopguard

import "time"

// Options says how far the guards go.
type Options struct {
	Guard   bool          // DedupCache and delay; OwnAddresses is always on
	Memory  int           // how many datagrams and messages are remembered
	Time    time.Duration // and for how long
	Delay   time.Duration // how long a datagram of a rule on a cycle waits
	Breaker int           // how often a second, three seconds in a row, a rule may publish one payload of one source on one topic before that is tested; 0: any number
}
