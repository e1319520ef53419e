package doctor

import (
	"fmt"
	"time"
)

// The check of what is between the kernel's word that a datagram was sent, and the wire.

// checkQueue looks whether what the bridge has sent left by the interface. What the wire shows has passed
// the queueing discipline and the filters of tc; what these discard, sendmsg(2) has called sent.
func checkQueue(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	before, after := h.Daemon.sendStatus(s.Name)
	w := s.Live.Wire
	// A host that does not answer has nothing sent to it either; and where packets were missed, nobody knows.
	if !s.Send || s.Err != nil || before == nil || after == nil || w == nil || !s.group() || s.On.Loopback || w.Lost > 0 || w.More > 0 {
		return nil, false
	}
	sent := after.Sent - min(after.Sent, before.Sent)
	if sent == 0 || s.left() {
		return nil, sent > 0
	}
	return one(s.finding(EgressQueue, fmt.Sprintf("tc qdisc del dev %s root takes the discipline away, if it is that; tc filter show dev %[1]s root, and egress, list what else may discard them", s.On.Name),
		fmt.Sprintf("what the kernel takes for sent does not leave %s: a queueing discipline (qdisc) or a filter of tc discards it", s.On.Name),
		fmt.Sprintf("%s sent within %v by the count of topicast, and none left by %s", plural(int(sent), "datagram"), h.Window, s.On.Name),
		"tc -s qdisc show dev "+s.On.Name)), true
}

// left reports whether anything was overheard that may have been of the rule: to its group, or where it has
// several, to any.
func (s *Subject) left() bool {
	for f := range s.Live.Wire.Flows {
		if f.Sent && (f.To == s.To || !s.Only && f.To.Addr().IsMulticast()) {
			return true
		}
	}
	return false
}

// pacePatience is how long messages may wait for broker.max_rate: a burst is what they are to wait in. A
// queue that grows meanwhile is none.
const pacePatience = 30 * time.Second

// checkMaxRate looks whether more is to be published than broker.max_rate lets through: that is of all rules
// that receive, and none of them counts what waits for it.
func checkMaxRate(s *Subject, h *Snapshot) (found []Finding, looked bool) {
	before, after := h.Daemon.Before, h.Daemon.After
	if s.Send || s.Name == "" || before == nil || after == nil || after.Broker.Limits.MessageRate == 0 {
		return nil, false
	}
	since := after.Broker.PacedSince
	grows := since.Equal(before.Broker.PacedSince) && after.Queue.Messages > before.Queue.Messages
	if !after.Broker.Connected || since.IsZero() || !grows && h.Now.Sub(since) < pacePatience {
		return nil, true
	}
	evidence := fmt.Sprintf("since %s messages wait for it: %d in memory, %+d within %v", since.Format(time.TimeOnly), after.Queue.Messages, after.Queue.Messages-before.Queue.Messages, h.Window)
	if after.Spool != nil {
		evidence += fmt.Sprintf("; %d on disk", after.Spool.Messages)
	}
	return one(s.finding(MaxRate, "a larger broker.max_rate, as far as the broker allows it; or have the rules publish less: every, on_change or when",
		fmt.Sprintf("more comes than broker.max_rate lets through, %d a second: what is published is late, and ever later", after.Broker.Limits.MessageRate), evidence)), true
}
