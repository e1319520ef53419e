package session

import "time"

// Nobody acknowledges a message of QoS 0, so that a broker which closes the connection over
// one seems to do so for no reason, and a topic that it forbids costs a connection for each
// message. But brokers take the packets of a connection in their order, and answer PINGREQ:
//
//  1. When two connections in a row were closed soon after messages of QoS 0, those on topics
//     that are not known to be taken are given to the broker one at a time, each with a
//     PINGREQ behind it. That is a trial; others on such topics wait for its end.
//  2. If the broker answers, it takes the topic, which needs no trial again.
//  3. If it closes the connection instead, the message is to blame. A topic to which that has
//     happened barAfter times is barred for QoS 0: what comes on it is lost at once, with
//     ErrTopicRefused. Now and then one message is tried all the same, as of QoS 1 and 2
//     (refusedtopics.go), which have their own topics; those that are barred for them are so
//     for QoS 0 too.
//
// A broker that is ill may close the connection over any message. So where it took no other on
// those connections the topic is tried again soon.

const (
	// qos0Search is how long no connection must end for the trials to end.
	qos0Search = 10 * time.Minute

	// maxDoubtfulProbe is the longest time between two trials of a topic that is barred
	// although the broker took nothing else.
	maxDoubtfulProbe = time.Minute

	// maxTakenTopics bounds the topics that are known to be taken. They are found anew then.
	maxTakenTopics = 4096
)

// qos0Trials is guarded by the outbox's mu.
type qos0Trials struct {
	closes int             // connections in a row that were closed soon after messages of QoS 0
	taken  map[string]bool // topics that the broker takes; nil: there is no search
	until  time.Time       // the end of the search
	barred refusedTopics

	tookOther bool          // the broker has taken a message on this connection
	topic     string        // that is on trial; "": none is
	bar       *refusedTopic // it is barred, for QoS 0 or 1 and 2; nil: it is not
	from      *refusedTopics
	due       bool   // the PINGREQ is to be written
	ping      uint64 // which PINGREQ of the connection it is
}

// qos0Refused reports whether a message of QoS 0 is lost for its topic. Callers hold mu.
func (o *outbox) qos0Refused(topic []byte) bool {
	t, from := o.barredTopic(topic)
	return t != nil && !o.mayProbe(t, from)
}

// barredTopic finds a topic among those that are barred.
func (o *outbox) barredTopic(topic []byte) (t *refusedTopic, from *refusedTopics) {
	for _, from := range []*refusedTopics{&o.qos0.barred, &o.refused} {
		if len(from.topics) == 0 {
			continue
		}
		if t := from.topics[string(topic)]; t != nil && t.barred() {
			return t, from
		}
	}
	return nil, nil
}

func (o *outbox) mayProbe(t *refusedTopic, from *refusedTopics) bool {
	now := time.Now()
	return o.conn != nil && o.qos0.topic == "" && from.probe.topic == nil && !now.Before(t.probeAt) && !now.Before(from.notTill)
}

// holds reports whether a message has to wait for the end of a trial.
func (q *qos0Trials) holds(topic []byte) bool {
	return q.topic != "" && q.taken != nil && !q.taken[string(topic)]
}

// try begins a trial with the message of QoS 0 that was added last, where it is to be one.
// Callers hold mu.
func (o *outbox) try(topic []byte) {
	q := &o.qos0
	if q.taken == nil && len(q.barred.topics)+len(o.refused.topics) == 0 || q.topic != "" || len(topic) > maxRefusedTopic {
		return
	}
	bar, from := o.barredTopic(topic)
	if bar == nil && (q.taken == nil || q.tookOther && q.taken[string(topic)]) {
		return
	}
	q.topic, q.bar, q.from, q.due = string(topic), bar, from, true
}

// appendPing appends the PINGREQ of a trial, whose message was appended. Callers hold mu, and
// the connection's writeLock.
func (q *qos0Trials) appendPing(b []byte, c *mqttConn) []byte {
	if !q.due {
		return b
	}
	c.pings++
	q.due, q.ping = false, c.pings
	return append(b, pingreqFrame...)
}

// answeredPings says how many PINGREQs of a connection the broker has answered. It reports
// whether the last of them was that of a trial: the broker has taken its message.
func (o *outbox) answeredPings(c *mqttConn, n uint64) (trial bool) {
	o.mu.Lock()
	q := &o.qos0
	again := ""
	switch {
	case o.conn != c:
	case q.topic != "" && !q.due && n >= q.ping:
		trial = true
		if q.bar != nil {
			again = q.topic
			delete(q.from.topics, q.topic)
		}
		if q.taken != nil {
			if len(q.taken) >= maxTakenTopics {
				clear(q.taken)
			}
			q.taken[q.topic] = true
		}
		q.tookOther = true
		q.end()
		o.spaceFreed.Broadcast()
	case q.topic == "" && time.Now().After(q.until):
		q.taken, q.closes = nil, 0
	}
	o.mu.Unlock()
	if again != "" {
		o.takenAgain(again)
	}
	return trial
}

// end ends a trial.
func (q *qos0Trials) end() { q.topic, q.bar, q.from, q.due, q.ping = "", nil, nil, false, 0 }

// begin is the begin of a connection.
func (q *qos0Trials) begin() {
	q.end()
	q.tookOther = false
	q.until = time.Now().Add(qos0Search)
}

// closedOverQoS0 judges a connection that the broker closed, soon after messages of QoS 0 or
// not. found is empty where none is to blame for it, as far as is known.
func (o *outbox) closedOverQoS0(soon bool) (found suspicion) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := &o.qos0
	switch {
	case q.topic != "" && !q.due && q.bar != nil:
		q.bar.doubtful = !q.tookOther
		q.bar.later()
		q.from.notTill = time.Now().Add(probeSpacing)
		found.topic = q.topic
	case q.topic != "" && !q.due && !q.taken[q.topic]:
		found.topic = q.topic
		found.barred = q.barred.givenUp(q.topic)
	case !soon:
		q.closes = 0
	default:
		q.closes++
		if q.closes >= maxFailures && (q.taken == nil || q.topic == "") { // some may answer PINGREQ out of turn now and then
			q.taken = make(map[string]bool)
		}
	}
	return found
}
