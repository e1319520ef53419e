package account

// A Reason says why a message or a datagram went no further. Whatever did is counted
// under its rule and one of these: what is lost in topicast_drops_total, what the
// configuration asked not to carry in topicast_filtered_total.
type Reason uint8

// The reasons, in the order of the way of a message, then of a datagram.
const (
	ReasonNoRule        Reason = iota // no rule matches the topic
	ReasonDisabled                    // the rule was switched off while the bridge runs (topicast disable)
	ReasonWhen                        // it does not satisfy the rule's condition (when)
	ReasonEmpty                       // it would be empty, and the rule leaves such out
	ReasonRetained                    // the rule's retained policy holds it back
	ReasonBadGroup                    // the group template yields no multicast group for this topic
	ReasonBadHost                     // the host template yields no host for this topic, or a broadcast address
	ReasonField                       // the payload has no such field as the rule's topic is made of
	ReasonBadPayload                  // the payload is not what the rule's codec expects
	ReasonOversize                    // more than a datagram holds, or more than the MTU where the rule forbids fragments
	ReasonRate                        // it came faster than the rate of its rule, and when_over does not let it wait
	ReasonPending                     // QoS 0, and the rule's source or interface is not there
	ReasonNoBuffer                    // the kernel had no room (ENOBUFS): QoS 0, for a whole second; QoS 1 and 2, and it never will
	ReasonFirewall                    // a firewall on this host refuses the datagram (EPERM)
	ReasonUnreachable                 // nothing leads to the host
	ReasonRefused                     // the kernel refuses the datagram for another reason; the log has it
	ReasonReceiveBuffer               // the kernel's receive buffer was full
	ReasonOwn                         // a datagram that this bridge has sent itself
	ReasonSource                      // its source is none of the rule's
	ReasonDuplicate                   // merge, and another leg has brought it before
	ReasonBadTopic                    // the topic template yields no topic name for this datagram
	ReasonUnchanged                   // on_change, and the payload is that of the last message
	ReasonSuperseded                  // every, on_down: latest or when_over: latest, and a later one came in time
	ReasonBreaker                     // what the rule publishes comes back through other programs
	ReasonOffline                     // QoS 0, and there is no connection to the broker
	ReasonBrokerRefused               // the broker ends each connection over it, or over others on its topic (broker.give_up_after)
	ReasonLoop                        // it came back: the loop guard knows it
	ReasonQueueFull                   // the queue has no room left (queue.size)
	ReasonSpoolFull                   // the spool has no room left (spool.max_size)
	ReasonSpoolFailed                 // the disk cannot keep it, or gives it back damaged
	ReasonUnasked                     // it came back to the port of a rule with answer, and is no answer to anything that is asked
	ReasonRefreshFull                 // there is no room to remember it, so that it left once and is not sent again
	ReasonExpired                     // it has waited longer than max_age
	ReasonFlushed                     // it waited, and was discarded because somebody asked for it (topicast flush)
	ReasonRemoved                     // it waited for a rule that a new configuration has removed
	ReasonStopped                     // the bridge stopped before it could go on
	NumReasons
)

// reasons are what each is called in metrics, status and logs, and whether it is filtered:
// a key or a guard of the configuration asks that it is not carried, so that nothing is
// lost and nobody needs to be warned.
var reasons = [NumReasons]struct {
	name     string
	filtered bool
}{
	ReasonNoRule:        {name: "no_rule"},
	ReasonDisabled:      {name: "disabled", filtered: true},
	ReasonRetained:      {name: "retained", filtered: true},
	ReasonWhen:          {name: "when", filtered: true},
	ReasonEmpty:         {name: "empty", filtered: true},
	ReasonBadGroup:      {name: "bad_group"},
	ReasonBadHost:       {name: "bad_host"},
	ReasonField:         {name: "field"},
	ReasonBadPayload:    {name: "bad_payload"},
	ReasonOversize:      {name: "oversize"},
	ReasonRate:          {name: "rate"},
	ReasonPending:       {name: "pending"},
	ReasonNoBuffer:      {name: "no_buffer"},
	ReasonFirewall:      {name: "firewall"},
	ReasonUnreachable:   {name: "unreachable"},
	ReasonRefused:       {name: "refused"},
	ReasonReceiveBuffer: {name: "receive_buffer"},
	ReasonOwn:           {name: "own", filtered: true},
	ReasonSource:        {name: "source", filtered: true},
	ReasonDuplicate:     {name: "duplicate", filtered: true},
	ReasonBadTopic:      {name: "bad_topic"},
	ReasonUnchanged:     {name: "unchanged", filtered: true},
	ReasonSuperseded:    {name: "superseded", filtered: true},
	// A guard too, but nobody asked for what it stops.
	ReasonBreaker:       {name: "breaker"},
	ReasonOffline:       {name: "offline"},
	ReasonBrokerRefused: {name: "broker_refused"},
	// It was carried once already.
	ReasonLoop:        {name: "loop", filtered: true},
	ReasonQueueFull:   {name: "queue_full"},
	ReasonSpoolFull:   {name: "spool_full"},
	ReasonSpoolFailed: {name: "spool_failed"},
	ReasonUnasked:     {name: "unasked", filtered: true},
	ReasonRefreshFull: {name: "refresh_full"},
	ReasonExpired:     {name: "expired"},
	ReasonFlushed:     {name: "flushed"},
	ReasonRemoved:     {name: "removed"},
	ReasonStopped:     {name: "stopped"},
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
