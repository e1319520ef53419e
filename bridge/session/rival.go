package session

import (
	"fmt"
	"strings"
	"time"
)

// Another client with our client identifier makes the broker end our connection, and
// there is no word for that in MQTT 3.1.1. Much else looks the same, so that it is
// suggested only where nothing else is left: the broker had answered all that it was
// told, at this end or at enough of those before. Else it is said what it had not
// answered.
//
// Who has much to tell the broker never has all answered. So once, when connections
// end time and again, one is left alone until another client must have come: if it
// ends all the same, nothing of ours is the reason.

const (
	// recentQoS0 is how long after a message of QoS 0 a broker may take to end the
	// connection because of it. There is no answer to one.
	recentQoS0 = 2 * time.Second

	// maxIdleCloses is how many connections must have ended when the broker had answered
	// all, for what it had not answered at another end not to be the reason.
	maxIdleCloses = 2

	// The one that is left alone is so for longer than another client waits before it
	// connects again. One of ours waits for less than minQuietTest; any other has shown by
	// how long our connections lived. So a broker that ends them for another reason, and
	// sooner, is not left waiting when it is well again.
	minQuietTest = maxDelay + 500*time.Millisecond
	maxQuietTest = 16 * time.Second

	// closedAtOnce is how soon a broker ends the connection that cannot go on with the
	// session.
	closedAtOnce = 500 * time.Millisecond
)

// unanswered are what the broker was told, and had not answered, when a connection
// ended, in words.
func (s *Session) unanswered(conn *connection) (waits []string) {
	switch {
	case len(s.subscriber.subscribing) > 0:
		waits = append(waits, "SUBSCRIBE")
	case len(s.subscriber.unsubscribing) > 0:
		waits = append(waits, "UNSUBSCRIBE")
	case conn.statusPending:
		waits = append(waits, "the status message")
	}
	waits = append(waits, s.outbox.unanswered(conn.mqtt)...)
	if at := conn.mqtt.wroteQoS0; !at.IsZero() && time.Since(at) < recentQoS0 {
		waits = append(waits, "messages of QoS 0")
	}
	return waits
}

// unanswered says of which kinds messages are on their way over a connection.
func (o *outbox) unanswered(c *mqttConn) (kinds []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != c {
		return nil // it was left alone
	}
	for i, kind := range []string{"messages of QoS 1", "messages of QoS 2"} {
		f := &o.flows[i]
		for n := f.head; n < f.next; n++ {
			if !f.at(n).state.settled() {
				kinds = append(kinds, kind)
				break
			}
		}
	}
	return kinds
}

// countClose takes from the end of a connection whether what the broker had not answered
// is the reason.
func (s *Session) countClose(conn *connection, waits []string) {
	is := &s.closeCause
	switch {
	case is.quietTest && conn.leftIdle:
		is.idleCloses = maxIdleCloses
	case len(waits) == 0:
		is.idleCloses++
	}
	is.quietTest = len(waits) > 0 && is.earlyCloses == maxEarlyCloses && is.idleCloses < maxIdleCloses
	is.cautious = is.cautious || is.quietTest
}

// repeatedCloses says what may be the matter with a broker that ends each connection
// soon after it has accepted it.
func (s *Session) repeatedCloses(conn *connection, life time.Duration, waits []string, err error) error {
	err = fmt.Errorf("%w soon after accepting it, time and again", err)
	switch id := s.o.ClientID; {
	case len(waits) > 0 && s.closeCause.idleCloses < maxIdleCloses:
		return fmt.Errorf("%w, with %s on the way to it; it may not allow that, or cannot take it: its log says why",
			err, strings.Join(waits, ", "))
	case !conn.present && !s.o.Clean:
		return fmt.Errorf("%w, and has forgotten the session; it is restarted, or another client uses client_id %q: give each its own", err, id)
	case conn.present && life < closedAtOnce:
		return fmt.Errorf("%w; probably another client uses client_id %q: give each its own; else it cannot go on with the session that it keeps: session: clean, or another client_id, begins a new one",
			err, id)
	default:
		return fmt.Errorf("%w; probably another client uses client_id %q: give each its own", err, id)
	}
}
