package account

// A Reason says why a message or a datagram went no further. Whatever did is counted
// under its rule and one of these: what is lost in topicast_drops_total, what the
// configuration asked not to carry in topicast_filtered_total.
type Reason uint8

// The reasons, in the order of the way of a message, then of a datagram.
const (
	DropNoRule        Reason = iota // no rule matches the topic
	DropWhen                        // it does not satisfy the rule's condition (when)
	DropEmpty                       // it would be empty, and the rule leaves such out
	DropRetained                    // the rule's retained policy holds it back
	DropBadGroup                    // the group template yields no multicast group for this topic
	DropBadHost                     // the host template yields no host for this topic, or a broadcast address
	DropField                       // the payload has no such field as the rule's topic is made of
	DropBadPayload                  // the payload is not what the rule's codec expects
	DropOversize                    // more than a datagram holds, or more than the MTU where the rule forbids fragments
	DropRate                        // it came faster than the rate of its rule, and when_over does not let it wait
	DropPending                     // QoS 0, and the rule's source or interface is not there
	DropNoBuffer                    // the kernel had no room (ENOBUFS): QoS 0, for a whole second; QoS 1 and 2, and it never will
	DropFirewall                    // a firewall on this host refuses the datagram (EPERM)
	DropUnreachable                 // nothing leads to the host
	DropRefused                     // the kernel refuses the datagram for another reason; the log has it
	DropReceiveBuffer               // the kernel's receive buffer was full
	DropOwn                         // a datagram that this bridge has sent itself
	DropSource                      // its source is none of the rule's
	DropBadTopic                    // the topic template yields no topic name for this datagram
	DropUnchanged                   // on_change, and the payload is that of the last message
	DropSuperseded                  // every, on_down: latest or when_over: latest, and a later one came in time
	DropBreaker                     // what the rule publishes comes back through other programs
	DropOffline                     // QoS 0, and there is no connection to the broker
	DropBrokerRefused               // the broker ends each connection over it, or over others on its topic (broker.give_up_after)
	DropLoop                        // it came back: the loop guard knows it
	DropQueueFull                   // the queue has no room left (queue.size)
	DropSpoolFull                   // the spool has no room left (spool.max_size)
	DropSpoolFailed                 // the disk cannot keep it, or gives it back damaged
	DropRefreshFull                 // there is no room to remember it, so that it left once and is not sent again
	DropExpired                     // it has waited longer than max_age
	DropRemoved                     // it waited for a rule that a new configuration has removed
	DropStopped                     // the bridge stopped before it could go on
	NumReasons
)

// reasons are what each is called in metrics, status and logs, and whether it is filtered:
// a key or a guard of the configuration asks that it is not carried, so that nothing is
// lost and nobody needs to be warned.
var reasons = [NumReasons]struct {
	name     string
	filtered bool
}{
	DropNoRule:        {name: "no_rule"},
	DropRetained:      {name: "retained", filtered: true},
	DropWhen:          {name: "when", filtered: true},
	DropEmpty:         {name: "empty", filtered: true},
	DropBadGroup:      {name: "bad_group"},
	DropBadHost:       {name: "bad_host"},
	DropField:         {name: "field"},
	DropBadPayload:    {name: "bad_payload"},
	DropOversize:      {name: "oversize"},
	DropRate:          {name: "rate"},
	DropPending:       {name: "pending"},
	DropNoBuffer:      {name: "no_buffer"},
	DropFirewall:      {name: "firewall"},
	DropUnreachable:   {name: "unreachable"},
	DropRefused:       {name: "refused"},
	DropReceiveBuffer: {name: "receive_buffer"},
	DropOwn:           {name: "own", filtered: true},
	DropSource:        {name: "source", filtered: true},
	DropBadTopic:      {name: "bad_topic"},
	DropUnchanged:     {name: "unchanged", filtered: true},
	DropSuperseded:    {name: "superseded", filtered: true},
	// A guard too, but nobody asked for what it stops.
	DropBreaker:       {name: "breaker"},
	DropOffline:       {name: "offline"},
	DropBrokerRefused: {name: "broker_refused"},
	// It was carried once already.
	DropLoop:        {name: "loop", filtered: true},
	DropQueueFull:   {name: "queue_full"},
	DropSpoolFull:   {name: "spool_full"},
	DropSpoolFailed: {name: "spool_failed"},
	DropRefreshFull: {name: "refresh_full"},
	DropExpired:     {name: "expired"},
	DropRemoved:     {name: "removed"},
	DropStopped:     {name: "stopped"},
}

// String is the name used in metrics, status and logs.
func (r Reason) String() string { return reasons[r].name }

// Filtered reports whether the configuration asks that such is not carried. What is
// not filtered is lost.
func (r Reason) Filtered() bool { return reasons[r].filtered }

// Reasons lists every reason there is, for the tests that hold the documents against them.
func Reasons() []Reason {
	all := make([]Reason, NumReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
